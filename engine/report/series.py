"""What a report's charts draw: a night's steps and samples of the machine in a few hundred points.

A million steps are kept as columns of plain numbers, and reduced once, at the end.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine import events as ev

BUCKETS = 220
"""Points that a curve has at most; a chart is about three times as many pixels wide."""
FEWEST_BUCKETS = 4
"""Of a stretch in which a process trained, however short it was beside the others."""
LEVELS: dict[ev.Pressure | None, int] = {None: -1, "green": 0, "yellow": 1, "red": 2}


@dataclass(frozen=True, slots=True)
class LossPoint:
    """The losses of neighbouring iterations; NaN where none was finite."""

    iteration: int
    """The last of them."""
    low: float
    mean: float
    high: float


@dataclass(frozen=True, slots=True)
class StepPoint:
    """Neighbouring steps, by the clock."""

    time: float
    active_bytes: int
    peak_bytes: int
    footprint_bytes: int | None
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class HostPoint:
    """Neighbouring samples of the machine, by the clock."""

    time: float
    level: int
    """The worst pressure: 0 green, 1 yellow, 2 red, -1 not known."""
    swap_bytes: float
    """NaN where it is not known."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Time by the clock, in seconds since the epoch."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it was."""
        return max(0.0, self.end - self.begin)


@dataclass(frozen=True, slots=True)
class Series:
    """All that the charts draw."""

    loss: tuple[LossPoint, ...] = ()
    steps: tuple[StepPoint, ...] = ()
    host: tuple[HostPoint, ...] = ()
    running: tuple[Stretch, ...] = ()
    """When a process worked on the run; the time between is not drawn to scale."""
    still: tuple[Stretch, ...] = ()
    """When it stood still: paused, or the machine asleep."""


@dataclass(slots=True)
class Columns:
    """One entry per step that was trained, and per sample of the machine."""

    iteration: array[int] = field(default_factory=lambda: array("q"))
    loss: array[float] = field(default_factory=lambda: array("d"))
    """Of the steps that count; those that were undone are cut off."""
    time: array[float] = field(default_factory=lambda: array("d"))
    seconds: array[float] = field(default_factory=lambda: array("d"))
    tokens: array[int] = field(default_factory=lambda: array("q"))
    active: array[int] = field(default_factory=lambda: array("q"))
    peak: array[int] = field(default_factory=lambda: array("q"))
    footprint: array[int] = field(default_factory=lambda: array("q"))
    """-1 where it is not known."""
    host_time: array[float] = field(default_factory=lambda: array("d"))
    level: array[int] = field(default_factory=lambda: array("b"))
    swap: array[float] = field(default_factory=lambda: array("d"))

    def add_step(self, step: ev.Step) -> None:
        """Add one iteration."""
        memory = step.memory
        self.iteration.append(step.iteration)
        self.loss.append(step.loss)
        self.time.append(step.time)
        self.seconds.append(step.seconds)
        self.tokens.append(step.tokens)
        self.active.append(memory.active)
        self.peak.append(memory.peak)
        self.footprint.append(-1 if memory.footprint is None else memory.footprint)

    def add_host(self, host: ev.Host) -> None:
        """Add one sample of the machine."""
        self.host_time.append(host.time)
        self.level.append(LEVELS[host.pressure])
        self.swap.append(math.nan if host.swap_used is None else host.swap_used)

    def go_back(self, iteration: int) -> None:
        """Forget the losses after an iteration; the time and memory they took were real."""
        kept = bisect_right(self.iteration, iteration)
        del self.iteration[kept:]
        del self.loss[kept:]

    def series(self, running: Sequence[Stretch], still: Sequence[Stretch]) -> Series:
        """Reduce everything to what can be drawn."""
        whole = sum(stretch.seconds for stretch in running) or 1.0
        steps: list[StepPoint] = []
        host: list[HostPoint] = []
        for stretch in running:
            buckets = max(FEWEST_BUCKETS, round(BUCKETS * stretch.seconds / whole))
            for first, end in _parts(self.time, stretch, buckets):
                steps.append(self._step_point(first, end))
            for first, end in _parts(self.host_time, stretch, buckets):
                host.append(self._host_point(first, end))
        return Series(
            tuple(self._losses()), tuple(steps), tuple(host), tuple(running), tuple(still)
        )

    def _losses(self) -> Iterator[LossPoint]:
        size = max(1, math.ceil(len(self.loss) / BUCKETS))
        for first in range(0, len(self.loss), size):
            known = [y for y in self.loss[first : first + size] if math.isfinite(y)]
            last = self.iteration[min(first + size, len(self.iteration)) - 1]
            if known:
                yield LossPoint(last, min(known), sum(known) / len(known), max(known))
            else:
                yield LossPoint(last, math.nan, math.nan, math.nan)

    def _step_point(self, first: int, end: int) -> StepPoint:
        footprint = max(self.footprint[first:end])
        seconds = sum(self.seconds[first:end])
        return StepPoint(
            time=self.time[end - 1],
            active_bytes=max(self.active[first:end]),
            peak_bytes=max(self.peak[first:end]),
            footprint_bytes=None if footprint < 0 else footprint,
            tokens_per_second=sum(self.tokens[first:end]) / seconds if seconds else 0.0,
        )

    def _host_point(self, first: int, end: int) -> HostPoint:
        known = [swap for swap in self.swap[first:end] if math.isfinite(swap)]
        swap = max(known, default=math.nan)
        return HostPoint(self.host_time[end - 1], max(self.level[first:end]), swap)


def _parts(times: array[float], stretch: Stretch, count: int) -> Iterator[tuple[int, int]]:
    """Cut what happened in a stretch of time into equal parts; those without anything are left out.

    Yields:
        The place of the first entry, and the one after the last.
    """
    first = bisect_left(times, stretch.begin)
    last = bisect_right(times, stretch.end)
    for part in range(1, count + 1):
        moment = stretch.begin + stretch.seconds * part / count
        end = last if part == count else bisect_right(times, moment, first, last)
        if end > first:
            yield first, end
        first = max(first, end)
