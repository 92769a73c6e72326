"""Losses that jump, or climb and stay up.

Single batches are hard or easy by chance, so that nothing is read from one: losses are looked at
in blocks of ten steps, each by its median, which five hard batches in ten cannot move.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import TYPE_CHECKING

from engine.figures import loss as shown
from engine.trouble.finding import Finding, spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine import events as ev

BLOCK_STEPS = 10
USUAL_STEPS = 200
"""Steps that say what is usual; enough that a learning rate's ups and downs are within them."""
FEWEST_STEPS = 80
LEVEL_BLOCKS = 20
"""Blocks whose median is a level: what comes back within a hundred steps does not count."""
JUMP_NATS = 0.5
"""The least that counts: perplexity times 1.65, much more than an epoch's end or a new topic."""
JUMP_SHARE = 0.25
"""And of the loss itself, so that a large loss may move more."""
JUMP_SIGMAS = 3.0
"""And of the usual spread of single batches: for a block's median that is 7.5 standard errors."""


class LossShapes:
    """Looks at training losses."""

    def __init__(self) -> None:
        self._block: list[float] = []
        self._usual: deque[float] = deque(maxlen=USUAL_STEPS)
        self._medians: deque[float] = deque(maxlen=LEVEL_BLOCKS)
        self._best_level = math.inf
        self._best_at = 0

    def step(self, step: ev.Step) -> Iterator[Finding]:
        """Take a step, and yield what its block shows once that is full."""
        # A batch without a single trained token has no loss.
        if step.tokens == 0:
            return
        self._block.append(step.loss if math.isfinite(step.loss) else math.inf)
        if len(self._block) < BLOCK_STEPS:
            return
        block, self._block = self._block, []
        middle = median(block)
        self._medians.append(middle)
        yield from self._climb(step.iteration)
        if len(self._usual) < FEWEST_STEPS:
            self._usual.extend(block)
            return
        centre, sigma = spread(self._usual)
        if middle <= centre + _margin(centre, sigma):
            # What is far out would make itself usual.
            self._usual.extend(block)
            return
        yield _jump(step.iteration, centre, middle, sigma)

    def _climb(self, iteration: int) -> Iterator[Finding]:
        if len(self._medians) < LEVEL_BLOCKS:
            return
        level, best = median(self._medians), self._best_level
        if level < best:
            self._best_level, self._best_at = level, iteration
        elif level > best + _margin(best, 0.0):
            yield Finding(
                "divergence",
                f"The training loss climbed from {shown(best)} around {self._best_at:,} to "
                f"{_number(level)} at {iteration:,} and stays up: it diverges.",
                "Stop it, and go on from a checkpoint before that with half the learning_rate and "
                "max_grad_norm: 1.0.",
                {"best_loss": best, "best_iteration": self._best_at, "loss": level},
            )


def _margin(centre: float, sigma: float) -> float:
    return max(JUMP_NATS, JUMP_SHARE * centre, JUMP_SIGMAS * sigma)


def _jump(iteration: int, centre: float, middle: float, sigma: float) -> Finding:
    first = iteration - BLOCK_STEPS + 1
    return Finding(
        "loss_spike",
        f"The training loss jumped from about {shown(centre)} to {_number(middle)} between "
        f"{first:,} and {iteration:,}; batches usually differ by {shown(sigma)}.",
        "Often it comes back by itself. If not, go on from the checkpoint before with a lower "
        "learning_rate, more warm-up or max_grad_norm: 1.0.",
        {"usual_loss": centre, "usual_spread": sigma, "loss": middle, "first_iteration": first},
    )


def _number(value: float) -> str:
    return shown(value) if math.isfinite(value) else "no number"
