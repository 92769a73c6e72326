"""Chooses what part of the numbers a chart shows, in steps that keep it still while they move."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

CLIP_SPREADS = 2.5
"""What sticks out this many times higher than the rest of a curve is cut off and marked."""
_FEWEST_TO_CLIP = 10
_ROWS_APART = (2, 3, 4, 5)
"""Rows from one tick to the next, to choose from."""
_FEWEST_TICKS = 3
_TICK_PENALTIES = (4.0, 2.0, 1.25)
"""What a chart with none, one or two ticks counts as larger than it is."""
_LOG_GRAIN = 0.05
_LOG_FACTORS = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0))
"""What may be multiplied by a power of ten to carry a tick, from sparse to dense."""
_USUAL_SHARE = 0.97


class Limits(NamedTuple):
    """The numbers at the two ends of an axis."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Say how far along the axis a value lies: 0 at its low end, 1 at its high end."""
        return (value - self.low) / (self.high - self.low)


def value_limits(lows: Iterable[float], highs: Iterable[float]) -> Limits | None:
    """Enclose a curve, leaving out single spikes far above the rest; None without a number."""
    finite_lows = [value for value in lows if math.isfinite(value)]
    finite_highs = sorted(value for value in highs if math.isfinite(value))
    if not finite_lows or not finite_highs:
        return None
    low, high = min(finite_lows), finite_highs[-1]
    usual = finite_highs[int((len(finite_highs) - 1) * _USUAL_SHARE)]
    if len(finite_highs) >= _FEWEST_TO_CLIP and usual > low:
        ceiling = low + CLIP_SPREADS * (usual - low)
        high = max(value for value in finite_highs if value <= ceiling)
    return Limits(low, high)


def row_limits(limits: Limits, rows: int) -> tuple[Limits, list[float]]:
    """Widen limits until round ticks fall on the middles of equally spaced rows.

    Limits move by whole rows only, which keeps the picture still while its numbers change a little.
    """
    spread = limits.high - limits.low
    if spread <= 0:
        spread = abs(limits.high) * 0.1 or 1.0
        limits = Limits(limits.low - spread / 2, limits.high + spread / 2)
    found = [_on_rows(limits, rows, apart) for apart in _ROWS_APART]
    best, ticks = min(found, key=lambda one: (one[0].high - one[0].low) * _penalty(len(one[1])))
    return best, ticks or [(best.low + best.high) / 2]


def _penalty(ticks: int) -> float:
    """Say how much empty space is worth having enough ticks."""
    return _TICK_PENALTIES[ticks] if ticks < len(_TICK_PENALTIES) else 1.0


def _on_rows(limits: Limits, rows: int, apart: int) -> tuple[Limits, list[float]]:
    """Put ticks so many rows apart, with the smallest round step that still shows everything."""
    step = round_step((limits.high - limits.low) * apart / rows)
    while True:
        row = step / apart
        low = math.floor(limits.low / row + 1e-9) * row - row / 2
        high = low + rows * row
        if high >= limits.high - 1e-9 * row:
            break
        step = round_step(step * 1.01)
    first, last = math.ceil(low / step), math.floor(high / step)
    return Limits(low, high), [i * step for i in range(first, last + 1)]


def round_step(raw: float) -> float:
    """Give the next number of the form 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(
        (factor * power for factor in (1.0, 2.0, 5.0) if factor * power >= raw * (1 - 1e-9)),
        10.0 * power,
    )


def log_limits(limits: Limits, count: int) -> tuple[Limits, list[float]]:
    """Widen limits of decimal logarithms a little; give at most so many ticks at round losses."""
    low = math.floor(limits.low / _LOG_GRAIN) * _LOG_GRAIN
    high = max(math.ceil(limits.high / _LOG_GRAIN) * _LOG_GRAIN, low + 2 * _LOG_GRAIN)
    exponents = range(math.floor(low), math.ceil(high) + 1)
    chosen: list[float] = []
    for factors in _LOG_FACTORS:
        marks = [e + math.log10(factor) for e in exponents for factor in factors]
        inside = [mark for mark in marks if low <= mark <= high]
        if len(inside) <= max(count, _FEWEST_TICKS) or not chosen:
            chosen = inside
    return Limits(low, high), chosen or [low]


def extent(reached: float, whole: float | None) -> Limits:
    """Choose how far an axis of progress goes: at least half of it is filled, until the end.

    It doubles towards the whole instead of growing with every step, so that the curve stands still.
    """
    if whole is None:
        return Limits(0.0, _doubled(reached))
    end = max(whole, reached)
    while end / 2 >= reached > 0:
        end /= 2
    return Limits(0.0, end or 1.0)


def _doubled(reached: float) -> float:
    return 2.0 ** math.ceil(math.log2(reached)) if reached > 0 else 1.0
