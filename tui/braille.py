"""Fills the space between two curves with braille dots: two columns and four rows a character."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui.scale import Limits

Stroke: TypeAlias = tuple[float, float] | None
"""The least and greatest value in one column of dots, or None where nothing is known."""

_BLANK = 0x2800
_DOTS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))
"""The bits of a character's left and right column, from the bottom up."""
_FROM = tuple(tuple(sum(dots[i:]) for i in range(4)) for dots in _DOTS)
_UP_TO = tuple(tuple(sum(dots[: i + 1]) for i in range(4)) for dots in _DOTS)
"""The bits from each dot to the top, and from the bottom to each dot."""


def strokes(
    x: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    limits: Limits,
    columns: int,
) -> list[Stroke]:
    """Spread a band over columns of dots: extremes stay, gaps between neighbours are bridged."""
    spread: list[Stroke] = [None] * columns
    last: tuple[int, float, float] | None = None
    for place, least, most in zip(x, low, high, strict=True):
        if least != least:
            last = None
            continue
        column = min(columns - 1, max(0, int(limits.share(place) * columns)))
        known = spread[column]
        spread[column] = (
            (least, most) if known is None else (min(known[0], least), max(known[1], most))
        )
        if last is not None and column - last[0] > 1:
            _bridge(spread, last, (column, least, most))
        last = (column, least, most)
    return spread


def _bridge(
    spread: list[Stroke], start: tuple[int, float, float], end: tuple[int, float, float]
) -> None:
    steps = end[0] - start[0]
    for i in range(1, steps):
        share = i / steps
        spread[start[0] + i] = (
            start[1] + share * (end[1] - start[1]),
            start[2] + share * (end[2] - start[2]),
        )


def fill(spread: Sequence[Stroke], limits: Limits, rows: int) -> list[str]:
    """Draw a band; give its rows from the top, two columns of dots a character."""
    cells = [bytearray(len(spread) // 2) for _ in range(rows)]
    top = 4 * rows - 1
    for column, stroke in enumerate(spread):
        if stroke is None:
            continue
        first = max(0, int(limits.share(stroke[0]) * 4 * rows))
        last = min(top, int(limits.share(stroke[1]) * 4 * rows))
        if last < first:
            continue
        lowest, highest = _FROM[column % 2][first % 4], _UP_TO[column % 2][last % 4]
        at, bottom, above = column // 2, first // 4, last // 4
        if bottom == above:
            cells[bottom][at] |= lowest & highest
            continue
        cells[bottom][at] |= lowest
        for row in range(bottom + 1, above):
            cells[row][at] |= _FROM[column % 2][0]
        cells[above][at] |= highest
    return ["".join(chr(_BLANK + bits) if bits else " " for bits in row) for row in reversed(cells)]
