"""Where the nights of ``tests.e2e.nights`` are played, and what is looked at in the morning."""

from __future__ import annotations

import html
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

from engine import events as ev
from engine.journal import read_journal
from engine.lock import is_held
from engine.report.keep import PAGE, read_report
from engine.report.words import one_line
from engine.runs import RunDirectory
from tests.cli.program import environment, finish, run, spawn
from tests.e2e.odd import Happening
from tests.e2e.pressure import RUN_OOM_SCORE
from tests.e2e.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from engine.report.facts import Report
    from tests.e2e.pressure import MemoryGroup

PATIENCE = 100
LOOK_SECONDS = 0.1
CAUSED = {"began", "went_on", "guard", "pause", "sleep", "skip", "restore", "policy", "end"}
"""Moments of which a night's script knows all; the machine may add pressure or heat of its own."""
SETTINGS: dict[str, Any] = {
    "grad_accumulation_steps": 4, "yellow_seconds": 0, "grace_seconds": 1, "green_seconds": 1,
    "sample_rows": 0, "val_batches": 4,
}  # fmt: skip
CLOSE = 0.03
"""Share of the validation loss by which rows taken apart, or a batch left out, may change it."""

E = TypeVar("E", bound=ev.Event)


@dataclass(frozen=True)
class Length:
    """How long nights are."""

    preset: str
    settings: dict[str, Any]
    iterations: int
    early: int
    """The iteration from which something happens."""
    hold_seconds: float
    """How long it lasts."""
    sample_seconds: float
    """How often the machine is looked at."""
    stall_seconds: float

    @property
    def words(self) -> list[str]:
        """What is typed after ``run``."""
        given = SETTINGS | self.settings | {"iters": self.iterations}
        return [self.preset, *_settings(given)]


def _settings(given: dict[str, Any]) -> list[str]:
    return [word for key, value in given.items() for word in ("--set", f"{key}={value}")]


_SMALL = {"batch_size": 2, "steps_per_eval": 100, "save_every": 10, "sample_prompts": "[]"}
SHORT = Length("demo", _SMALL, 100, 25, 1.0, 0.2, 1.0)
LONG = Length("demo", {"steps_per_eval": 50, "save_every": 25}, 300, 60, 30.0, 1.0, 60.0)


def with_smollm2(length: Length) -> Length:
    """Play the nights on a real model and real chats."""
    from tests.e2e.scene import CHATS
    from tests.smollm2.fixture import model_folder

    own = {
        "model": model_folder(), "data": CHATS, "batch_size": 2, "max_seq_length": 128,
        "steps_per_eval": 40, "save_every": 5,
    }  # fmt: skip
    return replace(length, settings=length.settings | own, iterations=40, early=10)


class Ground:
    """Where nights are played, and how a run ends there that nobody disturbs."""

    def __init__(self, folder: Path, length: Length) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.length = length
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A night that fails may leave a device that hangs.
        for process in self.processes:
            process.kill()
            process.wait()

    @cached_property
    def undisturbed(self) -> RunDirectory:
        """A run of the same settings to which nothing happened."""
        night = self.night("undisturbed")
        night.finish(night.start())
        return night.run

    def night(self, name: str, place: Path | None = None) -> Night:
        """Return a night before its evening."""
        return Night(self, RunDirectory((place or self.home / "runs") / name))


@dataclass
class Night:
    """One run, and what is done to it."""

    ground: Ground
    run: RunDirectory
    happening: Happening = field(default_factory=Happening)
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    """What is set for this night alone."""

    @property
    def words(self) -> list[str]:
        """What begins the run."""
        own = _settings(self.settings)
        return ["run", *self.ground.length.words, *own, "--run-dir", str(self.run.path), "--yes"]

    @property
    def patience(self) -> float:
        """Seconds that training to the end may take."""
        return PATIENCE if self.ground.length.hold_seconds < PATIENCE / 10 else 10 * PATIENCE

    @property
    def events(self) -> list[ev.Event]:
        """What the run's journal says so far."""
        journal = self.run.journal_file
        return list(read_journal(journal)) if journal.exists() else []

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def start(
        self, module: str = "tui", *words: str, group: MemoryGroup | None = None
    ) -> subprocess.Popen[bytes]:
        """Begin in a process without a screen, inside a control group if there is one."""
        command = [sys.executable, "-m", module, *words, *self.words, "--plain"]
        process = subprocess.Popen(
            group.inside(*command, oom_score=RUN_OOM_SCORE) if group else command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(self.ground.home),
        )
        self.ground.processes.append(process)
        return process

    def start_odd(
        self, group: MemoryGroup | None = None, **happens: Any
    ) -> subprocess.Popen[bytes]:
        """Begin on a machine to which things happen."""
        length = self.ground.length
        self.happen(
            sample_seconds=length.sample_seconds, stall_seconds=length.stall_seconds, **happens
        )
        return self.start("tests.e2e.odd", str(self._script), group=group)

    def happen(self, **happens: Any) -> None:
        """Let something happen to the machine."""
        self.happening = replace(self.happening, **happens)
        self.ground.folder.mkdir(parents=True, exist_ok=True)
        self.happening.write(self._script)

    def finish(self, process: subprocess.Popen[bytes], code: int = 0) -> None:
        """Wait for the end of a process."""
        assert process.wait(self.patience) == code, self.events[-1:]

    def resume(self) -> None:
        """Go on to the end with the program's own words."""
        process = spawn("run", "--resume", self.run.name, "--plain", home=self.ground.home)
        done = finish(process, patience=self.patience)
        assert done.code == 0, done.err

    def wait_until(self, is_so: Callable[[], object], what: str) -> None:
        """Wait for something to be so."""
        end = time.monotonic() + self.patience
        while not is_so():
            assert time.monotonic() < end, f"no {what}: {self.events[-3:]}"
            time.sleep(LOOK_SECONDS)

    def wait_for(self, kind: type[ev.Event], after: int = 0) -> None:
        """Wait for more than so many events of one kind."""
        self.wait_until(lambda: len(self.of(kind)) > after, kind.kind)

    def wait_for_iteration(self, iteration: int) -> None:
        """Wait until so many iterations are done."""
        self.wait_until(
            lambda: any(step.iteration >= iteration for step in self.of(ev.Step)),
            f"iteration {iteration}",
        )

    def wait_for_end(self) -> None:
        """Wait until no process trains the run any more."""
        self.wait_until(lambda: self.of(ev.Ended) and not is_held(self.run.lock_file), "end")

    def hold(self) -> None:
        """Let what happens last."""
        time.sleep(self.ground.length.hold_seconds)

    def window(self, *words: str) -> Window:
        """Open a terminal."""
        log = self.ground.folder / f"{self.run.name}.stty"
        return Window(*words, home=self.ground.home, log=log, size=(100, 30))

    def check(self, timeline: Iterable[str], *also: str, is_exact: bool) -> Report:
        """See that the run ended well, and that its report tells this night.

        Args:
            timeline: patterns of all that was caused, in order.
            also: patterns of more that has to be in it.
            is_exact: whether the adapter is to be that of an undisturbed run, byte for byte.
        """
        report = read_report(self.run)
        assert report.status == "completed"
        assert report.iteration == self.ground.length.iterations
        told = [moment.words for moment in report.moments if moment.kind in CAUSED]
        expected = list(timeline)
        assert len(told) == len(expected), told
        for words, pattern in zip(told, expected, strict=True):
            assert re.match(pattern, words), (words, pattern, told)
        every = [moment.words for moment in report.moments]
        for pattern in also:
            assert any(re.match(pattern, words) for words in every), (pattern, every)
        self._check_forms(every)
        self._check_adapter(is_exact=is_exact)
        return report

    @property
    def _script(self) -> Path:
        return self.ground.folder / f"{self.run.name}.json"

    def _check_forms(self, moments: list[str]) -> None:
        """See that the command and the page say the same."""
        shown = run("report", str(self.run.path), home=self.ground.home)
        assert shown.code == 0, shown.err
        in_terminal = " ".join(shown.out.split())
        page = (self.run.path / PAGE).read_text(encoding="utf-8")
        on_page = " ".join(html.unescape(page).split())
        for words in map(one_line, moments):
            assert words in in_terminal, (words, shown.out)
            assert words in on_page, words

    def _check_adapter(self, *, is_exact: bool) -> None:
        whole = self.ground.undisturbed
        name = "adapters.safetensors"
        if is_exact:
            ours, theirs = ((r.adapters / name).read_bytes() for r in (self.run, whole))
            assert ours == theirs, "the adapter is not that of an undisturbed run"
        ours, theirs = (read_report(r).evaluations[-1].val_loss for r in (self.run, whole))
        assert abs(ours / theirs - 1) < (1e-9 if is_exact else CLOSE), (ours, theirs)
