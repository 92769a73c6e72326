"""Turns single looks at the machine into samples that also know what changed since the last."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from engine.host.sample import HostSample

SHORTEST_GAP_SECONDS = 0.5
"""A sleep shorter than this does not disturb any rate and is taken for none."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Three clocks of one machine, in seconds."""

    wall: Callable[[], float]
    """Since the epoch; may be set by hand or over the network."""
    elapsed: Callable[[], float]
    """Runs on while the machine sleeps and is never set."""
    awake: Callable[[], float]
    """Stands still while the machine sleeps."""


def system_clocks() -> Clocks:
    """Return this machine's clocks.

    Source: on macOS mach_continuous_time against mach_absolute_time, on Linux CLOCK_BOOTTIME
    against CLOCK_MONOTONIC: unlike the wall clock, neither of a pair jumps when the time is set.
    Elsewhere the wall clock has to do.
    """
    if sys.platform == "darwin":
        return _clocks(time.CLOCK_MONOTONIC_RAW, time.CLOCK_UPTIME_RAW)
    if sys.platform == "linux":
        return _clocks(time.CLOCK_BOOTTIME, time.CLOCK_MONOTONIC)
    return Clocks(time.time, time.time, time.monotonic)


def _clocks(elapsed: int, awake: int) -> Clocks:
    return Clocks(time.time, lambda: time.clock_gettime(elapsed), lambda: time.clock_gettime(awake))


@dataclass(frozen=True, slots=True)
class _Moment:
    """The clocks at one sample; what was slept so far lies between two bounds."""

    awake: float
    slept_low: float
    slept_high: float


class HostSampler:
    """Samples the machine when asked; it has no thread and keeps only the sample before."""

    def __init__(
        self,
        read: Callable[[float], HostSample],
        clocks: Clocks | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """Sample with a reader.

        Args:
            read: takes the wall clock's time and returns all that one look can tell.
            clocks: this machine's, unless a test brings its own.
            close: gives back what the reader holds.
        """
        self._read = read
        self._clocks = clocks or system_clocks()
        self._close = close
        self._before: tuple[_Moment, HostSample] | None = None
        self._first_swap: int | None = None

    def sample(self) -> HostSample:
        """Look at the machine once; call it about once a second, from one thread at a time."""
        found = self._read(self._clocks.wall())
        now = self._moment()
        before, self._before = self._before, (now, found)
        if self._first_swap is None:
            self._first_swap = found.swap_used_bytes
        found = replace(found, swap_growth_bytes=_less(found.swap_used_bytes, self._first_swap))
        if before is None:
            return replace(found, sleep_gap_seconds=0.0)
        then, last = before
        seconds = now.awake - then.awake
        return replace(
            found,
            swap_in_bytes_per_second=_rate(found.swapped_in_bytes, last.swapped_in_bytes, seconds),
            swap_out_bytes_per_second=_rate(
                found.swapped_out_bytes, last.swapped_out_bytes, seconds
            ),
            sleep_gap_seconds=_gap(now.slept_low - then.slept_high),
        )

    def close(self) -> None:
        """Give back what the reader holds; sampling afterwards is an error."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _moment(self) -> _Moment:
        # The thread may be held up between two clocks; bounds keep that from looking like a sleep.
        before = self._clocks.awake()
        elapsed = self._clocks.elapsed()
        after = self._clocks.awake()
        return _Moment(after, elapsed - after, elapsed - before)


def _gap(seconds: float) -> float:
    return seconds if seconds >= SHORTEST_GAP_SECONDS else 0.0


def _less(now: int | None, then: int | None) -> int | None:
    return None if now is None or then is None else now - then


def _rate(now: int | None, then: int | None, seconds: float) -> float | None:
    """Bytes a second of a counter; None when it is unknown, went back, or no time passed."""
    change = _less(now, then)
    return None if change is None or change < 0 or seconds <= 0 else change / seconds
