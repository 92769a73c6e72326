"""Plays the tables of guard_scenarios.txt: a machine, a run, and a trainer that obeys the guard."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.config import validate
from engine.guard import Guard, GuardSettings, Halve, Pause, Resume, Tighten, TrainingFacts
from engine.host import HostSample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.guard import Action

GB, MB = 10**9, 10**6
SCENARIOS = Path(__file__).with_name("guard_scenarios.txt")
SETTINGS = {
    "batch": "batch_size",
    "length": "max_seq_length",
    "accumulation": "grad_accumulation_steps",
}


CALM = HostSample(
    time=5e8,
    pressure="green",
    available_bytes=3 * GB,
    footprint_bytes=4 * GB,
    swap_used_bytes=0,
    swap_out_bytes_per_second=0.0,
    thermal="nominal",
    on_battery=False,
    lid_closed=False,
    display_awake=False,
    disk_free_bytes=100 * GB,
)
BEGUN = TrainingFacts(seconds=1000.0, cache_bytes=0)


@dataclass(frozen=True)
class Line:
    """A line of a scenario."""

    second: int
    happens: list[str]
    does: str
    why: str


@dataclass(frozen=True)
class Scenario:
    """A table: what happens when, and what the guard must do."""

    name: str
    lines: list[Line]

    @property
    def expected(self) -> dict[int, tuple[str, str]]:
        return {line.second: (line.does, line.why) for line in self.lines if line.does}


def read_scenarios() -> list[Scenario]:
    """Read every table of the file."""
    found: list[Scenario] = []
    for text in SCENARIOS.read_text(encoding="utf-8").splitlines():
        if text.startswith("= "):
            found.append(Scenario(text[2:], []))
        elif found and "|" in text:
            second, happens, does, why = (part.strip() for part in text.split("|"))
            found[-1].lines.append(Line(int(second), happens.split(), does, why))
    return found


@dataclass
class World:
    """A machine and a run as a table tells them, with a trainer that obeys the guard."""

    sample: HostSample = field(default_factory=lambda: CALM)
    facts: TrainingFacts = field(default_factory=lambda: BEGUN)
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    is_deep: bool = False
    delay: int = 0
    is_sampled: bool = True
    pending: deque[tuple[int, Action]] = field(default_factory=lambda: deque())

    def happen(self, words: list[str]) -> None:
        """Change the world as a line says."""
        rest = deque(words)
        while rest:
            self._happen(rest.popleft(), rest)

    def look(self, **changes: Any) -> None:
        self.sample = replace(self.sample, **changes)

    def be(self, **changes: Any) -> None:
        self.facts = replace(self.facts, **changes)

    def _happen(self, word: str, rest: deque[str]) -> None:  # noqa: C901 - a case per word
        match word:
            case "green" | "yellow" | "red":
                self.look(pressure=word)
            case "unknown":
                self.look(pressure=None)
            case "watch" | "protect" | "abort":
                self.be(policy=word)
            case "loading" | "training" | "evaluating" | "saving":
                self.be(phase=word)
            case "available" | "footprint" | "disk":
                name = {"disk": "disk_free"}.get(word, word)
                self.look(**{f"{name}_bytes": _gigabytes(rest.popleft())})
            case "swap":
                self.look(swap_used_bytes=_gigabytes(rest.popleft()))
            case "swapout":
                self.look(swap_out_bytes_per_second=float(rest.popleft()) * MB)
            case "thermal":
                self.look(thermal=rest.popleft())
            case "mains":
                self.look(on_battery=False)
            case "battery":
                self.look(on_battery=True, battery_percent=float(rest.popleft()))
            case "lid":
                self.look(lid_closed=rest.popleft() == "closed")
            case "display":
                self.look(display_awake=rest.popleft() == "lit")
            case "sleep":
                self.look(sleep_gap_seconds=float(rest.popleft()))
            case _:
                self._happen_to_run(word, rest)

    def _happen_to_run(self, word: str, rest: deque[str]) -> None:  # noqa: C901 - a case per word
        match word:
            case "rows":
                self.be(micro_batch=int(rest.popleft()))
            case "cache" | "kept":
                self.be(**{f"{word}_bytes": _gigabytes(rest.popleft())})
            case "deep":
                self.is_deep = True
            case "metal":
                self.be(is_metal=True)
            case "step":
                seconds, norm = _of(rest)
                self.be(iteration=self.facts.iteration + 1, step_seconds=seconds)
                self.be(step_norm_seconds=norm, in_flight_seconds=None)
            case "flight":
                age, norm = _of(rest)
                self.be(in_flight_seconds=age, in_flight_norm_seconds=norm)
            case "person":
                self.be(paused_by="person" if rest.popleft() == "pauses" else None)
            case "nothing":
                if rest.popleft() == "awake":
                    self.be(is_kept_awake=False)
                else:
                    self.is_sampled = False
            case "sampled":
                assert rest.popleft() == "again"
                self.is_sampled = True
            case "obeys":
                assert rest.popleft() == "after"
                self.delay = int(rest.popleft())
            case _:
                self.config[SETTINGS[word]] = int(rest.popleft())

    def obey(self, second: int) -> None:
        """Do what the guard wanted, as a trainer would."""
        while self.pending and self.pending[0][0] <= second:
            match self.pending.popleft()[1]:
                case Tighten(cache_limit_bytes=limit):
                    self.be(cache_bytes=min(self.facts.cache_bytes or 0, limit), kept_bytes=0)
                case Halve(micro_batch=rows):
                    self.be(micro_batch=rows)
                case Pause(is_deep=is_deep):
                    self.be(paused_by="guard", is_deep=is_deep, in_flight_seconds=None)
                case Resume():
                    self.be(paused_by=None, is_deep=False)
                case _:
                    pass

    def pass_second(self, second: int) -> None:
        """Let the clock go on."""
        self.be(seconds=1000.0 + second)
        self.look(time=5e8 + second)
        age = self.facts.in_flight_seconds
        if age is not None:
            self.be(in_flight_seconds=age + 1)


def _gigabytes(word: str) -> int | None:
    return None if word == "unknown" else round(float(word) * GB)


def _of(rest: deque[str]) -> tuple[float, float | None]:
    seconds, word = float(rest.popleft()), rest.popleft()
    assert word == "of"
    norm = rest.popleft()
    return seconds, None if norm == "unknown" else float(norm)


def play(scenario: Scenario) -> Iterator[tuple[int, Action]]:
    """Let a scenario happen, and yield what the guard does at which second."""
    world = World()
    lines = {line.second: line for line in scenario.lines}
    assert list(lines) == sorted(lines), "the lines are out of order"
    world.happen(scenario.lines[0].happens)
    config = validate(world.config)
    guard = Guard(config, replace(GuardSettings.of(config), deep_pause=world.is_deep))
    for second in range(scenario.lines[-1].second + 1):
        if second:
            world.pass_second(second)
            world.happen(lines[second].happens if second in lines else [])
        world.obey(second)
        if not world.is_sampled:
            continue
        if action := guard.look(world.sample, world.facts):
            world.pending.append((second + 1 + world.delay, action))
            yield second, action
        world.look(sleep_gap_seconds=0.0)


def said(action: Action) -> str:
    """Put an action as the tables do."""
    match action:
        case Halve(micro_batch=rows):
            return f"halve {rows}"
        case Pause(is_deep=True):
            return "pause deep"
        case _:
            return type(action).__name__.lower()
