"""When a run will be done: the batch plan is known, so the cost of every step to come is known.

What a step costs depends on its positions, but not in proportion: each size of step has a median of
its own, and sizes not seen yet lie between their neighbours. How fast the machine is just now
compared with that is the mean over recent steps, without the few that were disturbed; it also
carries what not every step does, such as an update after some of them. Steps that compiled a new
shape are left out: the first of each size, where it took much longer than others of like size.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

RECENT = 200
"""Steps that say how fast the machine is now."""
SIZE_RECENT = 25
"""Steps that say what a size costs."""
FEWEST = 3
DISTURBED = 5.0
"""Deviations from the median beyond which a step was disturbed: by paging, sleep, a program."""
COMPILED = 1.5
"""What the first step of a size may take of what others suggest, and not have compiled."""
STEADY = 0.05
"""The least deviation taken for one, as a share; no machine is steadier than that for long."""
DRIFT = 0.02
"""What a machine may become faster or slower by, whatever its steps said until now."""
PROBED = 0.25
"""How far other sizes of step may lie from what the probed one suggests, as a share."""
BLOCK = 20
"""Steps whose mean is compared with the next ones' to see drift."""


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds still to go, and a range that they should fall into."""

    seconds: float
    low: float
    high: float


class EtaEstimator:
    """Learns from measured times what the rest of the plan will take."""

    def __init__(
        self,
        positions: npt.NDArray[np.int64],
        evaluations: npt.NDArray[np.bool_],
        saves: int,
        samples: int = 0,
    ) -> None:
        """Take the plan.

        Args:
            positions: ``[iterations]``, padded positions of each.
            evaluations: ``[iterations]``, whether the validation rows are measured after it.
            saves: iterations between scheduled checkpoints.
            samples: prompts answered after each evaluation.
        """
        self._positions = positions
        self._evaluations = np.concatenate([[0], np.cumsum(evaluations)])
        self._saves = saves
        self._samples = samples
        self._sizes, places = np.unique(positions, return_inverse=True)
        self._place = places.reshape(-1)
        # How many steps of each size are still to go is asked after every step.
        self._left = np.bincount(self._place, minlength=len(self._sizes))
        self._left_from = 0
        self._seen: set[int] = set()
        self._firsts: list[tuple[int, float]] = []
        """First steps of a size that nothing is known to compare with yet."""
        self._times: dict[int, deque[float]] = {}
        self._medians: dict[int, float] = {}
        self._recent: deque[tuple[int, float]] = deque(maxlen=RECENT)
        self._probed: tuple[int, float] | None = None
        self._evaluation_seconds: deque[float] = deque(maxlen=8)
        self._save_seconds: deque[float] = deque(maxlen=8)
        self._sample_seconds: deque[float] = deque(maxlen=8)

    def add_probe(self, positions: int, seconds: float) -> None:
        """Note how long a step of this size took before the first one."""
        self._probed = (positions, seconds)

    def add_step(self, iteration: int, seconds: float) -> None:
        """Note how long an iteration (from 1) took."""
        place = int(self._place[iteration - 1])
        if place in self._seen:
            self._take(place, seconds)
        else:
            self._firsts.append((place, seconds))
        self._seen.add(place)
        if self._medians and self._firsts:
            costs = self._costs()
            for first, took in self._firsts:
                if took <= COMPILED * costs[first]:
                    self._take(first, took)
            self._firsts.clear()

    def _take(self, place: int, seconds: float) -> None:
        times = self._times.setdefault(place, deque(maxlen=SIZE_RECENT))
        times.append(seconds)
        self._medians[place] = median(times)
        self._recent.append((place, seconds))

    def add_evaluation(self, seconds: float) -> None:
        """Note how long an evaluation took."""
        self._evaluation_seconds.append(seconds)

    def add_save(self, seconds: float) -> None:
        """Note how long a checkpoint took."""
        self._save_seconds.append(seconds)

    def add_sample(self, seconds: float) -> None:
        """Note how long a prompt's answer took."""
        self._sample_seconds.append(seconds)

    def remaining(self, iteration: int) -> Eta | None:
        """Return what is left after an iteration; None until steps are measured or probed."""
        if len(self._recent) < FEWEST:
            return self._from_probe(iteration)
        costs = self._costs()
        ratios = [seconds / costs[place] for place, seconds in self._recent]
        least, most = _undisturbed(ratios)
        kept = [ratio for ratio in ratios if least <= ratio <= most]
        weights = [
            costs[place]
            for (place, _), ratio in zip(self._recent, ratios, strict=True)
            if least <= ratio <= most
        ]
        level = float(np.average(kept, weights=weights))
        left = self._still_left(iteration)
        steps = level * float(costs @ left)
        fixed = self._fixed_seconds(iteration)
        share = _uncertainty(kept, int(left.sum())) / level
        return Eta(
            steps + fixed, max(0.0, steps * (1 - share)) + fixed, steps * (1 + share) + fixed
        )

    def _from_probe(self, iteration: int) -> Eta | None:
        """What is left if every step costs what the probed one did, a position."""
        if self._probed is None:
            return None
        positions, seconds = self._probed
        left = float(self._sizes @ self._still_left(iteration))
        steps, fixed = left * seconds / positions, self._fixed_seconds(iteration)
        return Eta(steps + fixed, steps * (1 - PROBED) + fixed, steps * (1 + PROBED) + fixed)

    def _costs(self) -> npt.NDArray[np.float64]:
        """``[sizes]``: seconds of a step of each size: a line, and how the medians lie about it."""
        known = sorted(self._medians)
        sizes = self._sizes.astype(np.float64)
        counts = np.array([len(self._times[place]) for place in known], np.float64)
        medians = np.array([self._medians[place] for place in known])
        fixed, slope = _line(sizes[known], medians, counts / sizes[known])
        line = fixed + slope * sizes
        # A median of few says less than the line through all.
        ratios = (counts * medians / line[known] + FEWEST) / (counts + FEWEST)
        return np.interp(sizes, sizes[known], ratios) * line

    def _still_left(self, iteration: int) -> npt.NDArray[np.int64]:
        """``[sizes]``: steps of each size after an iteration."""
        if iteration < self._left_from:
            self._left = np.bincount(self._place, minlength=len(self._sizes))
            self._left_from = 0
        done = self._place[self._left_from : iteration]
        self._left = self._left - np.bincount(done, minlength=len(self._sizes))
        self._left_from = iteration
        return self._left

    def _fixed_seconds(self, iteration: int) -> float:
        last = len(self._positions)
        if iteration >= last:
            return 0.0
        evaluations = int(self._evaluations[-1] - self._evaluations[iteration])
        # The last checkpoint is written whether or not one is due then.
        saves = (last - 1) // self._saves - iteration // self._saves + 1
        samples = evaluations * self._samples
        return (
            _usual(self._evaluation_seconds) * evaluations
            + _usual(self._save_seconds) * saves
            + _usual(self._sample_seconds) * samples
        )


def _usual(values: deque[float]) -> float:
    return median(values) if values else 0.0


def _undisturbed(ratios: list[float]) -> tuple[float, float]:
    """Return the bounds beyond which a step was disturbed."""
    middle = median(ratios)
    deviation = max(STEADY * middle, 1.4826 * median(abs(r - middle) for r in ratios))
    return middle - DISTURBED * deviation, middle + DISTURBED * deviation


def _uncertainty(ratios: list[float], left: int) -> float:
    """How far the mean of the steps to come may lie from that of the recent ones.

    Independent scatter averages out over many steps; means of blocks show what does not.
    """
    count = len(ratios)
    if not left:
        return 0.0
    spread = float(np.std(ratios))
    scatter = spread * (1 / count + 1 / left) ** 0.5
    means = [fmean(ratios[i : i + BLOCK]) for i in range(0, count - BLOCK + 1, BLOCK)]
    drift = float(np.std(means)) if len(means) > 1 else spread / count**0.5
    return 2 * (scatter**2 + drift**2) ** 0.5 + DRIFT * fmean(ratios)


def _line(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """Return the least-squares line through points, where it begins and its slope.

    It goes through the origin where it would begin below it, or fall.
    """
    centre, level = np.average(x, weights=weights), np.average(y, weights=weights)
    square = float((weights * (x - centre) ** 2).sum())
    slope = float((weights * (x - centre) * (y - level)).sum()) / square if square else 0.0
    fixed = float(level - slope * centre)
    if slope > 0 and fixed >= 0:
        return fixed, slope
    return 0.0, float((weights * x * y).sum() / (weights * x * x).sum())
