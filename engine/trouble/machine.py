"""Memory that grows from step to step, and steps that take longer and longer.

Both are slow, so that a process's whole life is looked at: in at most 32 blocks, which double in
length when they are full.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from engine.figures import duration, significant, size
from engine.trouble.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine import events as ev

BLOCK_STEPS = 25
MOST_BLOCKS = 32
FEWEST_BLOCKS = 16
SETTLING_STEPS = 50
"""The first ones fill caches and compile what each width needs."""
CREEP_BYTES = 100_000_000
"""Growth that is not worth a word is less, or less than this share of the budget."""
CREEP_SHARE = 0.02
STEADY_SHARE = 0.8
"""Of the first quarter's growth: what the last must still have, or it comes to an end by itself."""
NORM_STEPS = 9
"""Steps of a width whose median says what it takes, after the first, which may have compiled."""
SLOWER = 1.3
"""Times as long as at the beginning: more than warming up costs a machine without a fan."""
EACH_SLOWER = 1.2
"""And every block of the last quarter by so much: one busy while of another program is none."""


@dataclass(slots=True)
class _Blocks:
    """A process's life in few numbers: each block's, and two blocks' in one when there are many."""

    of_steps: Callable[[list[float]], float]
    """Makes one number of a block's steps."""
    of_two: Callable[[float, float], float]
    values: list[float] = field(default_factory=list[float])
    first_iteration: int = 0
    _steps: list[float] = field(default_factory=list[float])
    _pair: list[float] = field(default_factory=list[float])
    _doubled: int = 1

    def add(self, iteration: int, value: float) -> bool:
        """Take a step's number; return whether a block is complete by it."""
        self.first_iteration = self.first_iteration or iteration
        self._steps.append(value)
        if len(self._steps) < BLOCK_STEPS:
            return False
        block, self._steps = self.of_steps(self._steps), []
        self._pair.append(block)
        if len(self._pair) < self._doubled:
            return False
        value, *others = self._pair
        for other in others:
            value = self.of_two(value, other)
        self._pair = []
        self.values.append(value)
        if len(self.values) == MOST_BLOCKS:
            self.values = [
                self.of_two(a, b) for a, b in zip(self.values[::2], self.values[1::2], strict=True)
            ]
            self._doubled *= 2
        return len(self.values) >= FEWEST_BLOCKS

    def quarters(self) -> list[list[float]]:
        """Return the blocks in four parts; the oldest blocks that are over go to the first."""
        size = len(self.values) // 4
        rest = len(self.values) - 3 * size
        starts = (0, rest, rest + size, rest + 2 * size, len(self.values))
        return [self.values[a:b] for a, b in pairwise(starts)]


class MachineShapes:
    """Looks at what steps take: memory and time."""

    def __init__(self) -> None:
        self._budget = 0
        self._micro_batch = 0
        self._start()

    def begin(self, budget_bytes: int) -> None:
        """Another process begins: what was usual in the one before says nothing of it."""
        self._budget = budget_bytes
        self._start()

    def disturb(self) -> None:
        """Memory was given back, or taken again: look at it afresh."""
        self._forget_memory()

    def step(self, step: ev.Step) -> Iterator[Finding]:
        """Take a step, and yield what it shows."""
        if step.micro_batch != self._micro_batch:
            self._micro_batch = step.micro_batch
            self._start()
        self._steps += 1
        self._steps_undisturbed += 1
        if self._steps_undisturbed > SETTLING_STEPS:
            memory = step.memory
            if self._active.add(step.iteration, memory.active):
                yield from self._creep(self._active, step.iteration, "what MLX holds")
            if memory.footprint is not None:
                own = max(0, memory.footprint - memory.cache)
                if self._footprint.add(step.iteration, own):
                    yield from self._creep(self._footprint, step.iteration, "the footprint")
        yield from self._time(step)

    def _start(self) -> None:
        self._norms: dict[int, list[float]] = {}
        self._norm: dict[int, float] = {}
        self._ratios = _Blocks(median, lambda a, b: (a + b) / 2)
        self._steps = 0
        self._forget_memory()

    def _forget_memory(self) -> None:
        # The least of a block: what a step needs for a moment comes and goes with its width.
        self._active = _Blocks(min, min)
        self._footprint = _Blocks(min, min)
        self._steps_undisturbed = 0

    def _creep(self, blocks: _Blocks, iteration: int, what: str) -> Iterator[Finding]:
        levels = [min(quarter) for quarter in blocks.quarters()]
        rises = [b - a for a, b in pairwise(levels)]
        growth = levels[-1] - levels[0]
        least = max(CREEP_BYTES, CREEP_SHARE * self._budget)
        if growth < least or min(rises) <= 0 or rises[-1] < STEADY_SHARE * rises[0]:
            return
        # Between the middles of the first and the last quarter.
        span = max(1.0, 0.75 * (iteration - blocks.first_iteration))
        rate = growth / span
        left = self._budget - levels[-1]
        ahead = f", and reaches the budget in {left / rate:,.0f} iterations" if left > 0 else ""
        yield Finding(
            "memory_creep",
            f"From {blocks.first_iteration:,} to {iteration:,} {what} grew steadily from "
            f"{size(levels[0])} to {size(levels[-1])}: {size(1000 * rate)} in 1,000 "
            f"iterations{ahead}.",
            "Nothing is lost by a fresh start: stop it, which saves, and go on with "
            "lora-tui run --resume.",
            {"from_bytes": levels[0], "to_bytes": levels[-1], "bytes_per_iteration": rate,
             "first_iteration": blocks.first_iteration},
        )  # fmt: skip

    def _time(self, step: ev.Step) -> Iterator[Finding]:
        norm = self._norm.get(step.width)
        if norm is None:
            self._learn_norm(step)
            return
        if not self._ratios.add(step.iteration, step.seconds / norm):
            return
        first, *_, last = self._ratios.quarters()
        before, now = median(first), median(last)
        if now < SLOWER * before or min(last) < EACH_SLOWER * before:
            return
        width = max(self._norm)
        usual = before * self._norm[width]
        yield Finding(
            "pace_decay",
            f"At {step.iteration:,} steps take {significant(now / before)} times as long as they "
            f"did from {self._ratios.first_iteration:,} on: {_took(usual * now / before)} instead "
            f"of {_took(usual)} for one of {width:,} tokens a row.",
            "Look at the machine: heat, other programs, battery, swap. If it is none of them, a "
            "fresh start helps: stop it, and go on with lora-tui run --resume.",
            {"times_slower": now / before, "usual_seconds": usual, "width": width,
             "first_iteration": self._ratios.first_iteration},
        )  # fmt: skip

    def _learn_norm(self, step: ev.Step) -> None:
        known = self._norms.setdefault(step.width, [])
        known.append(step.seconds)
        if len(known) > NORM_STEPS and (norm := median(known[1:])) > 0:
            self._norm[step.width] = norm
            del self._norms[step.width]


def _took(seconds: float) -> str:
    if seconds >= 60 or not math.isfinite(seconds):
        return duration(seconds)
    return f"{seconds:.3g} s"
