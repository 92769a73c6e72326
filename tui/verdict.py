"""Says in words whether a planned run fits this machine, and how long it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.words import significant, size

if TYPE_CHECKING:
    from engine.planning import RunPlan, Seconds

_UNITS = ((86_400, "d", 2), (3600, "h", 1), (60, "min", 1))
"""Seconds, name, and how many of it there must be for a time to be said in it."""


def verdict(plan: RunPlan, instead: str | None = None) -> str:
    """Say whether a run fits: ``fits: 4.9 of 5.6 GB, about 9–12 h``.

    Args:
        plan: the run's.
        instead: a preset to try when it does not.
    """
    if not plan.fits:
        advice = f"; try {instead}" if instead else ""
        return f"too large by {size(plan.needed_bytes - plan.budget)}{advice}"
    time = f", about {span(plan.seconds)}" if plan.seconds else ""
    return f"fits: {of_budget(plan)}{time}"


def short_verdict(plan: RunPlan) -> str:
    """Say whether a run fits in two or three words: ``fits, 9–12 h``."""
    if not plan.fits:
        return "too large"
    return f"fits, {span(plan.seconds)}" if plan.seconds else "fits"


def of_budget(plan: RunPlan) -> str:
    """Say a plan's peak and its budget in the budget's unit."""
    budget = size(plan.budget)
    peak, unit = size(plan.memory.peak), budget.partition(" ")[2]
    return f"{peak.removesuffix(f' {unit}')} of {budget}"


def span(seconds: Seconds) -> str:
    """Say a range of times: ``9–12 h``, ``40 min – 3 h``."""
    low, low_unit = _in_unit(seconds.low)
    high, high_unit = _in_unit(seconds.high)
    if low_unit == high_unit:
        return f"{low} {low_unit}" if low == high else f"{low}–{high} {high_unit}"
    return f"{low} {low_unit} – {high} {high_unit}"


def _in_unit(seconds: float) -> tuple[str, str]:
    for unit, name, fewest in _UNITS:
        if seconds >= fewest * unit:
            return f"{seconds / unit:.0f}", name
    return f"{max(1, seconds):.0f}", "s"


def share(ratio: float) -> str:
    """Say what part of its time a run then takes."""
    return f"{significant(ratio)} × the time"
