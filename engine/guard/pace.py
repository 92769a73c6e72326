"""How long a step of each width takes otherwise, and whether the machine pages."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.guard.facts import GuardSettings, TrainingFacts
    from engine.host.sample import HostSample

_RECENT = 64
_FEWEST = 3
_SWAP_OUT_MEMORY_SECONDS = 10.0
"""Swap is written in bursts; a step is as slow between them."""


class StepNorms:
    """What steps usually take, by their width in tokens."""

    def __init__(self) -> None:
        self._seconds: dict[int, deque[float]] = {}

    def add(self, width: int, seconds: float) -> None:
        """Note a step; the first of a width may have compiled, and is left out."""
        known = self._seconds.get(width)
        if known is None:
            self._seconds[width] = deque(maxlen=_RECENT)
        else:
            known.append(seconds)

    def norm(self, width: int) -> float | None:
        """Return the usual seconds of a step; None until a few were measured.

        The lower quartile of the last ones: most of them have to be slow before slow is usual.
        """
        known = self._seconds.get(width)
        if known is None or len(known) < _FEWEST:
            return None
        return sorted(known)[len(known) // 4]


class Paging:
    """Notices steps that wait for memory to be written to swap."""

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._swap_out = 0.0
        """Bytes a second, averaged over ``_SWAP_OUT_MEMORY_SECONDS``."""
        self._past_iteration: int | None = None
        """The last one before a pause, which says nothing of the time after it."""

    @property
    def is_swapping(self) -> bool:
        """Whether the machine writes to swap faster than in passing."""
        return self._swap_out >= self._settings.swap_out_bytes_per_second

    def look(self, sample: HostSample, facts: TrainingFacts, elapsed: float) -> str:
        """Take a sample and say in words how it pages; empty when it does not.

        Args:
            sample: the machine.
            facts: the run.
            elapsed: seconds since the sample before.
        """
        weight = 1 - math.exp(-elapsed / _SWAP_OUT_MEMORY_SECONDS)
        self._swap_out += weight * ((sample.swap_out_bytes_per_second or 0.0) - self._swap_out)
        if facts.is_paused:
            self._past_iteration = facts.iteration
            return ""
        if not self.is_swapping:
            return ""
        if not (slow := self._slowest(facts)):
            return ""
        rate = f"{self._swap_out / 1e6:.0f} MB/s go to swap"
        return f"paging: a step takes {slow[0]:.0f} s instead of {slow[1]:.1f}, and {rate}"

    def _slowest(self, facts: TrainingFacts) -> tuple[float, float] | None:
        """The step in flight, or else the last one, if it is far slower than its norm."""
        candidates = [(facts.in_flight_seconds, facts.in_flight_norm_seconds)]
        if facts.iteration != self._past_iteration:
            candidates.append((facts.step_seconds, facts.step_norm_seconds))
        for seconds, norm in candidates:
            if seconds and norm and seconds >= self._settings.slow_factor * norm:
                return seconds, norm
        return None
