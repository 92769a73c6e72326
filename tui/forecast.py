"""When a run is done, from what it last said and the clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.watch import RunWatch


@dataclass(frozen=True, slots=True)
class Forecast:
    """The time left."""

    seconds: float
    spread: float | None
    """Seconds more or less; None when nobody can tell yet."""


def forecast(watch: RunWatch) -> Forecast | None:
    """Say how long a run will still take; None when it is over or cannot tell yet."""
    step = watch.view.last_step
    is_over = watch.is_over and watch.place is None
    if step is None or step.eta_seconds is None or is_over:
        return None
    # While training the clock runs down between reports; paused or asleep it stands still.
    awake = watch.now - step.time - watch.view.slept_since_step_seconds
    elapsed = max(0.0, awake) if watch.view.status == "training" else 0.0
    low, high = step.eta_low_seconds, step.eta_high_seconds
    spread = (high - low) / 2 if low is not None and high is not None else None
    return Forecast(max(0.0, step.eta_seconds - elapsed), spread)


def gone(watch: RunWatch) -> float | None:
    """Say how long ago the first step began; None before it."""
    first = watch.view.first_step_time
    return None if first is None else max(0.0, watch.now - first)
