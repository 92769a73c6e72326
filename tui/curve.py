"""Reduces a run's losses to a bounded number of buckets, whatever the run's length.

Everything here is plain arithmetic on columns of numbers. A bucket keeps its least and greatest
loss, so that a spike of one step in a million is still on the picture.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.view import StepHistory

Axis = Literal["iterations", "tokens", "hours"]
Column = Literal["loss", "gradient_norm", "learning_rate"]

CAPACITY = 1024
"""Buckets at most: more than any screen has columns of dots."""
_FINE_ENOUGH = 256
"""Buckets that a part of the run is drawn from without reading its steps again."""
_WARM_UP = 3
"""Windows of the average that are read before the part that is looked at."""
_SECONDS_PER_HOUR = 3600.0


@dataclass(slots=True)
class Buckets:
    """The history in at most ``CAPACITY`` groups of equally many steps; absorbs what is new."""

    column: Column = "loss"
    """What of a step is kept."""
    start: int = 0
    """The place in the history of the first step that is looked at."""
    size: int = 1
    """Steps in a bucket."""
    low: array[float] = field(default_factory=lambda: array("d"))
    high: array[float] = field(default_factory=lambda: array("d"))
    mean: array[float] = field(default_factory=lambda: array("d"))
    count: array[int] = field(default_factory=lambda: array("q"))
    """Finite losses in the bucket."""
    seconds: array[float] = field(default_factory=lambda: array("d"))
    """Training time until the end of the bucket."""
    broken: list[int] = field(default_factory=list[int])
    """Steps whose loss was not finite, as places in the history."""
    absorbed: int = 0
    """Steps taken in so far."""
    cuts: int = 0
    """How often the history had been cut by then."""

    def __len__(self) -> int:
        return len(self.low)

    def absorb(self, steps: StepHistory) -> None:
        """Take in the steps that came since the last call."""
        length = len(steps)
        if steps.cuts != self.cuts:
            self._begin_anew(steps.cuts)
        if length == self.absorbed:
            return
        while length > self.size * CAPACITY:
            self._join_pairs()
        # The last bucket may have been partly full: it is read again.
        first = self.absorbed // self.size
        self._cut(first)
        for start in range(first * self.size, length, self.size):
            stop = start + self.size
            self._add(start, self._values(steps, start, stop), sum(steps.seconds[start:stop]))
        self.absorbed = length

    def magnify(self, steps: StepHistory, first: int, last: int, most: int) -> Buckets:
        """Look closer at a part of the history, in about so many buckets."""
        size = max(1, (last - first) // most)
        if size >= self.size or (last - first) // self.size >= _FINE_ENOUGH:
            return self
        known = first // self.size
        before = self.seconds[known - 1] if known else 0.0
        before += sum(steps.seconds[known * self.size : first])
        part = Buckets(self.column, first, size)
        for start in range(first, last, size):
            stop = min(last, start + size)
            seconds = sum(steps.seconds[start:stop]) + (0.0 if len(part) else before)
            part._add(start, self._values(steps, start, stop), seconds)
        return part

    def _values(self, steps: StepHistory, start: int, stop: int) -> Sequence[float]:
        values: Sequence[float] = getattr(steps, self.column)[start:stop]
        # Between updates there is no gradient norm; of a loss, what is missing matters.
        return values if self.column == "loss" else [v for v in values if math.isfinite(v)]

    def _begin_anew(self, cuts: int) -> None:
        """The run went back: what was taken in may not have happened."""
        self.size, self.absorbed, self.cuts = 1, 0, cuts
        self.broken.clear()
        self._cut(0)

    def _add(self, start: int, losses: Sequence[float], seconds: float) -> None:
        if not math.isfinite(sum(losses)):
            known = self.broken[-1] if self.broken else -1
            bad = (start + i for i, loss in enumerate(losses) if not math.isfinite(loss))
            self.broken.extend(place for place in bad if place > known)
            losses = [loss for loss in losses if math.isfinite(loss)]
        self.low.append(min(losses, default=math.nan))
        self.high.append(max(losses, default=math.nan))
        self.mean.append(sum(losses) / len(losses) if losses else math.nan)
        self.count.append(len(losses))
        self.seconds.append(seconds + (self.seconds[-1] if self.seconds else 0.0))

    def _join_pairs(self) -> None:
        pairs = self.absorbed // self.size // 2
        for i in range(pairs):
            a, b = 2 * i, 2 * i + 1
            known = [j for j in (a, b) if self.count[j]]
            count = sum(self.count[j] for j in known)
            total = sum(self.mean[j] * self.count[j] for j in known)
            self.low[i] = min((self.low[j] for j in known), default=math.nan)
            self.high[i] = max((self.high[j] for j in known), default=math.nan)
            self.mean[i] = total / count if count else math.nan
            self.count[i] = count
            self.seconds[i] = self.seconds[b]
        self.size *= 2
        self.absorbed = pairs * self.size
        self._cut(pairs)

    def _cut(self, length: int) -> None:
        for column in (self.low, self.high, self.mean, self.count, self.seconds):
            del column[length:]


@dataclass(frozen=True, slots=True)
class Curve:
    """Buckets placed on a horizontal axis, ready to draw."""

    x: list[float]
    low: list[float]
    high: list[float]
    average: list[float]
    broken: list[float]
    """Where the loss was not finite."""


def trace(
    buckets: Buckets,
    steps: StepHistory,
    axis: Axis,
    window: int,
    part: tuple[int, int] | None = None,
) -> Curve:
    """Place buckets on an axis, with their moving average over so many steps.

    Args:
        buckets: The history, or what ``magnify`` made of a part of it.
        steps: The history itself.
        axis: What the horizontal axis counts.
        window: Steps that the average runs over.
        part: The first and last step to show; what comes before only leads the average in.
    """
    first, last = part or (0, len(steps) - 1)
    places = [buckets.start + i * buckets.size for i in range(len(buckets))]
    average = smooth(buckets.mean, buckets.count, window)
    x = [_place(buckets, steps, place, axis) for place in places]
    kept = [
        i
        for i in _not_superseded(x)
        if first <= places[i] <= last and (buckets.count[i] or buckets.column == "loss")
    ]
    return Curve(
        x=[x[i] for i in kept],
        low=[buckets.low[i] for i in kept],
        high=[buckets.high[i] for i in kept],
        average=[average[i] for i in kept],
        broken=[_place(buckets, steps, i, axis) for i in buckets.broken if first <= i <= last],
    )


def lead(first: int, window: int) -> int:
    """Say where to begin to read, so that the average at a step is as if of the whole run."""
    return max(0, first - _WARM_UP * window)


def place_step(buckets: Buckets, steps: StepHistory, index: int, axis: Axis) -> float:
    """Say where a step of the history lies on an axis."""
    return _place(buckets, steps, index, axis)


def place_iteration(buckets: Buckets, steps: StepHistory, iteration: int, axis: Axis) -> float:
    """Say where an iteration lies on an axis."""
    if axis == "iterations" or not len(steps) or iteration < steps.iteration[0]:
        return float(iteration) if axis == "iterations" else 0.0
    place = min(bisect_left(steps.iteration, iteration), len(steps) - 1)
    return _place(buckets, steps, place, axis)


def smooth(means: Sequence[float], counts: Sequence[int], window: int) -> list[float]:
    """Average exponentially over about so many steps, without pulling towards the start.

    A bucket without a finite loss gives NaN: a gap in the line.
    """
    averages: list[float] = []
    total = weight = 0.0
    for mean, count in zip(means, counts, strict=True):
        if not count:
            averages.append(math.nan)
            continue
        keep = math.exp(-count / window) if window else 0.0
        total = keep * total + (1 - keep) * mean
        weight = keep * weight + (1 - keep)
        averages.append(total / weight)
    return averages


def _place(buckets: Buckets, steps: StepHistory, index: int, axis: Axis) -> float:
    if axis == "iterations":
        return float(steps.iteration[index])
    if axis == "tokens":
        return float(steps.tokens[index])
    return buckets.seconds[(index - buckets.start) // buckets.size] / _SECONDS_PER_HOUR


def _not_superseded(x: Sequence[float]) -> list[int]:
    """Leave out what a run did before it went back to an earlier checkpoint."""
    kept: list[int] = []
    least = math.inf
    for i in range(len(x) - 1, -1, -1):
        if x[i] < least:
            least = x[i]
            kept.append(i)
    kept.reverse()
    return kept
