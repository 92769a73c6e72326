"""What happened to a run, in order: pauses, pressure, heat, sleep, what the guard did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engine import events as ev
from engine.figures import duration, size
from engine.report.series import LEVELS, Stretch

if TYPE_CHECKING:
    from collections.abc import Sequence

MomentKind = Literal[
    "began", "went_on", "pressure", "heat", "battery", "guard", "pause", "sleep", "skip", "restore",
    "trouble", "warning", "policy", "end",
]  # fmt: skip
CALM_SECONDS = 60.0
"""A machine that is short of memory, hot or without power again this soon always was."""
SKIPS_TOGETHER = 50
"""Iterations between two batches that were skipped for one reason."""
MOST_ALIKE = 4
"""Moments of one kind in a row beyond which they are told as one."""
MOST_MOMENTS = 60
_COLOURS = ("green", "yellow", "red")
_GUARD: dict[str, str] = {
    "shrink": "The guard shrank the run",
    "pause": "The guard paused the run",
    "resume": "The guard let it go on",
    "abort": "The guard stopped the run",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the night's story."""

    time: float
    kind: MomentKind
    words: str
    seconds: float = 0.0
    """How long it lasted; 0 for what took no time."""


@dataclass(slots=True)
class _Spell:
    """A state of the machine that comes and goes."""

    kind: MomentKind
    since: float | None = None
    until: float = 0.0
    worst: int = 0
    word: str = ""


class Story:
    """Gathers the moments from events, oldest first."""

    def __init__(self) -> None:
        self.still: list[Stretch] = []
        """When the run stood still, or the machine slept."""
        self.yellow_seconds = self.hot_seconds = self.battery_seconds = 0.0
        self.has_others_grown = False
        """Whether, while memory was short, other programs had grown more than the run."""
        self._moments: list[Moment] = []
        self._pressure = _Spell("pressure")
        self._heat = _Spell("heat")
        self._battery = _Spell("battery")
        self._paused: ev.Paused | None = None
        self._guard_pause: ev.Guard | None = None
        self._skips: list[ev.Guard] = []
        self._warned: set[str] = set()
        self._last_iteration = 0
        self._last_time = 0.0
        self._is_ended = False
        self._has_begun = False

    def look(self, host: ev.Host) -> None:
        """Take a sample of the machine."""
        level = LEVELS[host.pressure]
        if level > 0 and (host.others_growth or 0) > max(0, host.run_growth or 0):
            self.has_others_grown = True
        self._spell(self._pressure, host.time, level, _COLOURS[max(level, 0)])
        thermal = host.thermal or "nominal"
        self._spell(self._heat, host.time, int(thermal != "nominal"), thermal)
        self._spell(self._battery, host.time, int(bool(host.on_battery)), "")

    def take(self, event: ev.Event, iteration: int) -> None:
        """Take anything but steps and samples of the machine.

        Args:
            event: what happened.
            iteration: the last one done before it.
        """
        self._last_iteration = iteration
        match event:
            case ev.Started():
                self._begin(event)
            case ev.Guard():
                self._guard(event)
            case ev.Paused():
                self._paused = event
            case ev.Resumed():
                self._go_on(event.time)
            case ev.Slept():
                since = event.time - event.seconds
                self.still.append(Stretch(since, event.time))
                words = f"The machine slept for {duration(event.seconds)}"
                self._tell(since, "sleep", words, event.seconds)
            case ev.PolicyChanged():
                self._tell(event.time, "policy", f"When memory runs short: {event.policy}")
            case ev.Trouble():
                self._tell(event.time, "trouble", event.words)
            case ev.Warned() if self._has_begun and event.message not in self._warned:
                self._warned.add(event.message)
                self._tell(event.time, "warning", event.message)
            case ev.Ended():
                self._go_on(event.time)
                self._is_ended = True
                reason = f": {event.reason}" if event.reason else ""
                words = f"{event.status.capitalize()} at {event.iteration:,}{reason}"
                self._tell(event.time, "end", words)
            case _:
                pass
        self._last_time = event.time

    def leave(self, time: float) -> None:
        """A process ended here, whether it said so or not."""
        self._go_on(time)
        for spell in (self._pressure, self._heat, self._battery):
            self._end_spell(spell)
        self._last_time = time

    def moments(self) -> tuple[Moment, ...]:
        """Return what happened, oldest first; what happened again and again is told as one."""
        self._end_skips()
        ordered = sorted(self._moments, key=lambda moment: moment.time)
        told = _gathered(ordered)
        if len(told) <= MOST_MOMENTS:
            return tuple(told)
        half = MOST_MOMENTS // 2
        left_out = told[half:-half]
        words = f"{len(left_out)} more moments until the next line"
        return (*told[:half], Moment(left_out[0].time, "warning", words), *told[-half:])

    def _tell(self, time: float, kind: MomentKind, words: str, seconds: float = 0.0) -> None:
        if kind != "skip":
            self._end_skips()
        self._moments.append(Moment(time, kind, words, seconds))

    def _begin(self, event: ev.Started) -> None:
        if not self._has_begun:
            from_parent = f" from {event.parent}" if event.parent else ""
            self._tell(event.time, "began", f"Began to train{from_parent}")
        else:
            again = self._last_iteration - event.iteration
            repeated = f"; {again:,} iterations were done again" if again > 0 else ""
            words = f"Went on from {event.iteration:,}{repeated}"
            self._tell(event.time, "went_on", words)
        self._has_begun, self._is_ended = True, False

    def _guard(self, event: ev.Guard) -> None:
        match event.action:
            case "skip_batch":
                if self._skips and event.iteration - self._skips[-1].iteration > SKIPS_TOGETHER:
                    self._end_skips()
                self._skips.append(event)
            case "pause":
                self._guard_pause = event
            case "resume":
                # What came of it follows as the end of the pause.
                pass
            case "reload":
                words = f"Went back to the checkpoint at {event.iteration:,}: {event.why}"
                self._tell(event.time, "restore", words)
            case _:
                unit = "row" if event.micro_batch == 1 else "rows"
                rows = f"; {event.micro_batch} {unit} at a time" if event.micro_batch else ""
                freed = f"; {size(event.freed)} came back" if event.freed else ""
                words = f"{_GUARD[event.action]}: {event.why}{rows}{freed}"
                self._tell(event.time, "guard", words)

    def _end_skips(self) -> None:
        skips, self._skips = self._skips, []
        if not skips:
            return
        first, last = skips[0], skips[-1]
        if len(skips) == 1:
            words = f"Skipped the batch at {first.iteration:,}: {first.why}"
        else:
            span = f"{first.iteration:,} to {last.iteration:,}"
            words = f"Skipped {len(skips)} batches, {span}: {first.why}"
        self._moments.append(Moment(first.time, "skip", words))

    def _go_on(self, time: float) -> None:
        """Tell of the pause that ends here, if there is one."""
        paused, self._paused = self._paused, None
        guarded, self._guard_pause = self._guard_pause, None
        if paused is None:
            if guarded is not None:
                self._tell(guarded.time, "guard", f"{_GUARD['pause']}: {guarded.why}")
            return
        seconds = time - paused.time
        self.still.append(Stretch(paused.time, time))
        who = "The guard paused" if paused.by == "guard" or guarded else "Paused"
        why = guarded.why if guarded else paused.reason
        freed = f"; {size(paused.freed)} came back" if paused.freed else ""
        asked = "" if why == "asked" else f": {why}"
        words = f"{who} at {paused.iteration:,} for {duration(seconds)}{asked}{freed}"
        self._tell(paused.time, "pause", words, seconds)

    def _spell(self, spell: _Spell, time: float, level: int, word: str) -> None:
        if level > 0:
            if spell.since is None:
                spell.since = time
            spell.until = time
            if level > spell.worst or not spell.word:
                spell.worst, spell.word = level, word
        elif spell.since is not None and time - spell.until > CALM_SECONDS:
            self._end_spell(spell)

    def _end_spell(self, spell: _Spell) -> None:
        if spell.since is None:
            return
        seconds = spell.until - spell.since
        lasted = f"for {duration(seconds)}" if seconds >= 1 else "for a moment"
        match spell.kind:
            case "pressure":
                self.yellow_seconds += seconds
                words = f"Memory pressure was {spell.word} {lasted}"
            case "heat":
                self.hot_seconds += seconds
                words = f"The machine was hot ({spell.word}) {lasted}"
            case _:
                self.battery_seconds += seconds
                words = f"On battery {lasted}"
        self._moments.append(Moment(spell.since, spell.kind, words, seconds))
        spell.since, spell.worst, spell.word = None, 0, ""


def _gathered(moments: Sequence[Moment]) -> list[Moment]:
    """Tell many moments of one kind in a row as one."""
    told: list[Moment] = []
    row: list[Moment] = []
    for moment in (*moments, None):
        if row and (moment is None or moment.kind != row[0].kind):
            told += [_as_one(row)] if len(row) > MOST_ALIKE and row[0].kind in _AS_ONE else row
            row = []
        if moment is not None:
            row.append(moment)
    return told


_AS_ONE: dict[MomentKind, str] = {
    "pressure": "Memory was short {count} times, {lasted} in all",
    "heat": "The machine was hot {count} times, {lasted} in all",
    "battery": "On battery {count} times, {lasted} in all",
    "pause": "Paused {count} times, {lasted} in all",
    "sleep": "The machine slept {count} times, {lasted} in all",
    "guard": "The guard acted {count} times; first: {first}",
    "skip": "Skipped batches {count} times; first: {first}",
    "warning": "Warned {count} times; first: {first}",
}


def _as_one(row: Sequence[Moment]) -> Moment:
    seconds = sum(moment.seconds for moment in row)
    words = _AS_ONE[row[0].kind].format(
        count=len(row), lasted=duration(seconds), first=row[0].words
    )
    return Moment(row[0].time, row[0].kind, words, seconds)
