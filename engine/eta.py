"""When a run will be done: the batch plan is known, so the cost of every step to come is known.

A step's time is taken as proportional to the positions it works on; the factor is the median over
recent steps, and its scatter gives the range. Steps that compiled a new shape are left out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

RECENT = 200
FEWEST = 3


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds still to go, and a range that they should fall into."""

    seconds: float
    low: float
    high: float


class EtaEstimator:
    """Learns from measured times what the rest of the plan will take."""

    def __init__(
        self, positions: npt.NDArray[np.int64], evaluations: npt.NDArray[np.bool_], saves: int
    ) -> None:
        """Take the plan.

        Args:
            positions: ``[iterations]``, padded positions of each.
            evaluations: ``[iterations]``, whether the validation rows are measured after it.
            saves: iterations between scheduled checkpoints.
        """
        self._positions = np.concatenate([[0], np.cumsum(positions)])
        self._evaluations = np.concatenate([[0], np.cumsum(evaluations)])
        self._saves = saves
        self._seen: set[int] = set()
        self._rates: deque[float] = deque(maxlen=RECENT)
        self._evaluation_seconds: deque[float] = deque(maxlen=8)
        self._save_seconds: deque[float] = deque(maxlen=8)

    def add_step(self, iteration: int, seconds: float) -> None:
        """Note how long an iteration (from 1) took."""
        positions = int(self._positions[iteration] - self._positions[iteration - 1])
        if positions in self._seen:
            self._rates.append(seconds / positions)
        self._seen.add(positions)

    def add_evaluation(self, seconds: float) -> None:
        """Note how long an evaluation took."""
        self._evaluation_seconds.append(seconds)

    def add_save(self, seconds: float) -> None:
        """Note how long a checkpoint took."""
        self._save_seconds.append(seconds)

    def remaining(self, iteration: int) -> Eta | None:
        """Return what is left after an iteration; None until a few steps are measured."""
        if len(self._rates) < FEWEST:
            return None
        rates = sorted(self._rates)
        rate = median(rates)
        positions = int(self._positions[-1] - self._positions[iteration])
        fixed = self._fixed_seconds(iteration)
        spread = 0.5 * (rates[(3 * len(rates)) // 4] - rates[len(rates) // 4]) / rate
        # Independent scatter averages out over many steps; a drift of the machine does not.
        share = max(0.02, spread / max(1.0, (len(self._positions) - 1 - iteration) ** 0.5) ** 0.5)
        steps = rate * positions
        return Eta(steps + fixed, steps * (1 - share) + fixed, steps * (1 + share) + fixed)

    def _fixed_seconds(self, iteration: int) -> float:
        last = len(self._positions) - 1
        evaluations = int(self._evaluations[-1] - self._evaluations[iteration])
        saves = last // self._saves - iteration // self._saves
        return _mean(self._evaluation_seconds) * evaluations + _mean(self._save_seconds) * saves


def _mean(values: deque[float]) -> float:
    return sum(values) / len(values) if values else 0.0
