"""Whose fault a rise in memory pressure is: this run's or other programs'."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from engine.guard.facts import TrainingFacts
    from engine.host.sample import HostSample

Fault = Literal["run", "others", "both", "nobody", "unknown"]

_KEPT = 12
_KEPT_EVERY_SECONDS = 10.0
"""Two minutes of calm are remembered: a rise that takes longer is still seen in part."""
_WORTH_NAMING_BYTES = 50_000_000
_MOSTLY = 2 / 3


@dataclass(frozen=True, slots=True)
class Growth:
    """What came to be used since the machine was calm, in bytes; negative is given back."""

    run: int | None = None
    """By this process; None where it cannot be read."""
    others: int | None = None
    """By everything else; None where it cannot be read."""

    @property
    def fault(self) -> Fault:
        """Who of the two grew, if one did most of it."""
        if self.run is None or self.others is None:
            return "unknown"
        run, others = max(self.run, 0), max(self.others, 0)
        if run + others < _WORTH_NAMING_BYTES:
            return "nobody"
        if others >= _MOSTLY * (run + others):
            return "others"
        return "run" if run >= _MOSTLY * (run + others) else "both"

    def __str__(self) -> str:
        """Say who grew, the larger part first; nothing where nothing is known."""
        if self.fault == "nobody":
            return "neither this run nor other programs grew"
        parts: list[str] = []
        if self.others is not None:
            parts.append(f"other programs {_grew(self.others)}")
        if self.run is not None:
            parts.append(f"this run {_grew(self.run)}")
        if self.fault == "run":
            parts.reverse()
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class _Use:
    """Memory in use at one moment, in bytes; None is unknown."""

    seconds: float
    run: int | None
    machine: int | None
    """All that is used, but for a constant."""
    limit: int | None
    """Of the control group that it is measured in; the constant is another for each."""


class Blame:
    """Remembers the calm before a rise, and compares."""

    def __init__(self) -> None:
        self._calm: deque[_Use] = deque(maxlen=_KEPT)
        self._first: _Use | None = None

    def look(self, sample: HostSample, facts: TrainingFacts, *, is_calm: bool) -> Growth:
        """Take a sample and return the growth since the calm that it is compared with.

        While it is calm that is the calm of two minutes ago; afterwards it stays what it was, so
        that a slow rise is seen whole. Without any calm yet, it is the first sample,
        of which itself nothing can be said.
        """
        now = _use(sample, facts)
        if self._first is None or self._first.limit != now.limit:
            self._calm.clear()
            self._first = now
        if is_calm and self._is_due(now.seconds):
            self._calm.append(now)
        then = self._calm[0] if self._calm else self._first
        if then is now:
            return Growth()
        run = _less(now.run, then.run)
        machine = _less(now.machine, then.machine)
        return Growth(run, _less(machine, run))

    def _is_due(self, seconds: float) -> bool:
        return not self._calm or seconds - self._calm[-1].seconds >= _KEPT_EVERY_SECONDS


def _use(sample: HostSample, facts: TrainingFacts) -> _Use:
    """Add up what is used.

    The machine's is swap less what is available, which differs from all that is used by the size of
    the memory (or of the control group that ``available_bytes`` speaks of). Where the footprint
    cannot be read, MLX's own counters stand for it.
    """
    run = sample.footprint_bytes
    if run is None and facts.active_bytes is not None:
        run = facts.active_bytes + (facts.cache_bytes or 0)
    machine = None
    if sample.available_bytes is not None:
        machine = (sample.swap_used_bytes or 0) - sample.available_bytes
    return _Use(facts.seconds, run, machine, sample.cgroup_limit_bytes)


def _less(now: int | None, then: int | None) -> int | None:
    return None if now is None or then is None else now - then


def _grew(count: int) -> str:
    return f"{'shrank' if count <= -_WORTH_NAMING_BYTES else 'grew'} by {abs(count) / 1e9:.1f} GB"
