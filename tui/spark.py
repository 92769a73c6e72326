"""Draws how a loss fell in one row of cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEIGHTS = "▁▂▃▄▅▆▇█"
_GAP = "·"


def spark(values: Sequence[float], width: int) -> str:
    """Draw values from their least to their greatest, oldest left; a gap where one is not finite.

    Args:
        values: any number of them.
        width: cells; fewer values take fewer.
    """
    points = _resampled(values, width)
    finite = [value for value in points if math.isfinite(value)]
    if not finite:
        return _GAP * len(points)
    low, high = min(finite), max(finite)
    scale = (len(_HEIGHTS) - 1) / (high - low) if high > low else 0.0
    return "".join(
        _HEIGHTS[round((value - low) * scale)] if math.isfinite(value) else _GAP for value in points
    )


def _resampled(values: Sequence[float], width: int) -> list[float]:
    """Bring values to a width by the means of what falls into a cell."""
    if len(values) <= width:
        return list(values)
    cells: list[float] = []
    for cell in range(width):
        first, last = cell * len(values) // width, (cell + 1) * len(values) // width
        finite = [value for value in values[first:last] if math.isfinite(value)]
        cells.append(sum(finite) / len(finite) if finite else math.nan)
    return cells
