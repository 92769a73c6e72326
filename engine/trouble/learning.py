"""Validation losses that rise while training goes on falling, or that gain nothing any more."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING

from engine.figures import loss as shown
from engine.trouble.finding import Finding, spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine import events as ev

TRAIN_STEPS = 100
"""Steps whose mean is the training loss beside an evaluation."""
FEWEST_STEPS = 10
FEWEST_LOOKS = 5
RISEN_LOOKS = 3
"""Evaluations in a row that have to be above the best."""
RISE_SHARE = 0.02
"""How far above it, and how far the training loss has to have fallen: what evaluations of runs
that are well differ by stays below one percent."""
NOISE_SIGMAS = 3.0
"""And how far in deviations of the evaluations' own noise."""
GAP_NATS = 2.0
"""Between validation and training: what was learned by heart, not learned."""
GAP_GROWTH_NATS = 1.0
"""The gap has to have grown so much; rows of another kind differ from the beginning."""
FLAT_SHARE = 0.002
"""The least that a quarter of a run should gain."""
FLAT_PART = 0.25
LATE_PART = 0.9
"""There is nothing to win any more by ending a run that is so far."""
LOW_RATE_SHARE = 0.3
"""Of its highest: below it a schedule comes to its end, and flat is as planned."""


@dataclass(frozen=True, slots=True)
class _Look:
    """An evaluation, and the training loss then."""

    iteration: int
    val: float
    train: float
    """NaN before there were enough steps."""
    error: float
    """The standard error of ``train``."""

    @property
    def gap(self) -> float:
        return self.val - self.train


class LearningShapes:
    """Looks at evaluations, with the training loss beside them."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=TRAIN_STEPS)
        self._looks: list[_Look] = []
        self._iterations = 0
        self._rate = self._highest_rate = 0.0

    def begin(self, iterations: int) -> None:
        """Take how many iterations are planned."""
        self._iterations = iterations

    def go_back(self, iteration: int) -> None:
        """Forget what came after an iteration."""
        kept = [look for look in self._looks if look.iteration <= iteration]
        # A run that begins anew measures the untrained model again.
        self._looks = kept if iteration else []
        self._recent.clear()

    def step(self, step: ev.Step) -> None:
        """Take a step."""
        if math.isfinite(step.loss):
            self._recent.append(step.loss)
        self._rate = step.learning_rate
        self._highest_rate = max(self._highest_rate, step.learning_rate)

    def evaluated(self, event: ev.Evaluated) -> Iterator[Finding]:
        """Take an evaluation, and yield what those until now show."""
        if not math.isfinite(event.val_loss):
            return
        count = len(self._recent)
        train = error = math.nan
        if count >= FEWEST_STEPS:
            train, error = fmean(self._recent), stdev(self._recent) / math.sqrt(count)
        self._looks.append(_Look(event.iteration, event.val_loss, train, error))
        finding = self._gap() or self._rise() or self._flat()
        if finding is not None:
            yield finding

    def _gap(self) -> Finding | None:
        gaps = [look for look in self._looks if not math.isnan(look.train)]
        if len(gaps) < 3:
            return None
        # Twice, since the training loss beside one evaluation may be of easy batches.
        now, gap = gaps[-1], min(gaps[-1].gap, gaps[-2].gap)
        least = min(gaps, key=lambda look: look.gap)
        if gap <= GAP_NATS or gap - least.gap <= GAP_GROWTH_NATS:
            return None
        return Finding(
            "overfitting",
            f"At {now.iteration:,} the validation loss is {shown(now.val)} and the training loss "
            f"{shown(now.train)}: the gap grew from {shown(least.gap)} to {shown(now.gap)}, so the "
            "rows are being learned by heart.",
            _STOP_OVERFITTING,
            {"val_loss": now.val, "train_loss": now.train, "gap": now.gap, "least_gap": least.gap},
        )

    def _rise(self) -> Finding | None:
        looks = self._looks
        best = min(looks, key=lambda look: look.val)
        risen = looks[-RISEN_LOOKS:]
        if len(looks) < FEWEST_LOOKS or best in risen:
            return None
        margin = max(RISE_SHARE * best.val, NOISE_SIGMAS * _noise([look.val for look in looks]))
        if min(look.val for look in risen) <= best.val + margin:
            return None
        now = risen[-1]
        then = next((k for k in looks if k.iteration >= best.iteration and k.train == k.train), now)
        fallen = max(RISE_SHARE * then.train, 2 * math.hypot(then.error, now.error))
        # Also False where one of them is not known.
        if not then.train - now.train > fallen:
            return None
        return Finding(
            "overfitting",
            f"The validation loss rose from {shown(best.val)} at {best.iteration:,} to "
            f"{shown(now.val)} at {now.iteration:,}, while the training loss fell from "
            f"{shown(then.train)} to {shown(now.train)}.",
            _STOP_OVERFITTING,
            {"best_val_loss": best.val, "best_iteration": best.iteration, "val_loss": now.val,
             "train_loss_then": then.train, "train_loss": now.train},
        )  # fmt: skip

    def _flat(self) -> Finding | None:
        now = self._looks[-1]
        since = now.iteration - FLAT_PART * self._iterations
        recent = [look for look in self._looks if look.iteration > since]
        older = [look for look in self._looks if look.iteration <= since]
        is_late = now.iteration > LATE_PART * self._iterations
        is_ending = self._rate < LOW_RATE_SHARE * self._highest_rate
        if len(recent) < FEWEST_LOOKS or not older or is_late or is_ending:
            return None
        before = min(look.val for look in older)
        best = min(look.val for look in recent)
        # One that rises is another matter.
        is_level = median(look.val for look in recent) <= before * (1 + RISE_SHARE)
        if best < before * (1 - FLAT_SHARE) or not is_level:
            return None
        return Finding(
            "plateau",
            f"Over the last {now.iteration - older[-1].iteration:,} iterations, a quarter of the "
            f"run, the validation loss gained nothing: {shown(before)} before, "
            f"{shown(best)} at best since.",
            "It may have learned what it can from this data: stop it and use the best checkpoint, "
            "or try a higher learning_rate, a higher rank or more rows.",
            {"val_loss_before": before, "val_loss": best, "iterations": float(len(recent))},
        )


_STOP_OVERFITTING = (
    "Use the best checkpoint. Next time: early_stopping, fewer iterations, more rows, or a lower "
    "rank or learning_rate."
)


def _noise(values: Sequence[float]) -> float:
    """Return how much evaluations differ by chance, whatever their trend.

    The second differences of independent values with deviation s have the deviation s·√6.
    """
    bends = [
        values[i] - 2 * values[i - 1] + values[i - 2]
        for i in range(max(2, len(values) - 10), len(values))
    ]
    return spread(bends)[1] / math.sqrt(6) if bends else 0.0
