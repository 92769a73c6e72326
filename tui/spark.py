"""A curve in one row of blocks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tui.paint import Line, line

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_GAP = "·"


def overview(
    values: Sequence[float], part: tuple[int, int], size: int, width: int, indent: int
) -> Line:
    """Draw a whole run in one row, the part that is looked at in bright.

    Args:
        values: one a bucket.
        part: the first and last step that are looked at.
        size: steps in a bucket.
        width: cells of the row.
        indent: cells left empty at its beginning.
    """
    cells = max(1, width - indent)
    row = blocks(values, cells)
    steps = max(1, len(values) * size)
    begin = min(cells - 1, part[0] * cells // steps)
    end = max(begin + 1, min(cells, -(-(part[1] + 1) * cells // steps)))
    label = "whole".rjust(indent - 1) + " " if indent > len("whole") else " " * indent
    return line(
        (label, "muted"),
        (row[:begin], "faint"),
        (row[begin:end], "average"),
        (row[end:], "faint"),
    )


def spark(values: Sequence[float], width: int) -> str:
    """Draw values from their least to their greatest, oldest left; a gap where one is not finite.

    Args:
        values: any number of them.
        width: cells; fewer values take fewer.
    """
    return blocks(values, min(width, len(values)), _GAP)


def blocks(values: Sequence[float], cells: int, gap: str = " ") -> str:
    """Draw values as blocks, the mean of each stretch; ``gap`` where none is finite."""
    means: list[float] = []
    for cell in range(cells):
        first = cell * len(values) // cells
        stretch = values[first : max(first + 1, (cell + 1) * len(values) // cells)]
        known = [value for value in stretch if math.isfinite(value)]
        means.append(sum(known) / len(known) if known else math.nan)
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    scale = (len(_BLOCKS) - 1) / ((high - low) or 1.0)
    return "".join(gap if m != m else _BLOCKS[round((m - low) * scale)] for m in means)
