"""The last hour of the machine in a few rows: what the run took, and what it may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.braille import Stroke, fill
from tui.paint import Line, line, spread
from tui.scale import Limits
from tui.words import size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.events import Host

SPANS = ((300.0, "5 min"), (900.0, "15 min"), (3600.0, "hour"))
"""How much is drawn: of a run that is young, the shortest of them that holds all of it."""


def draw_trace(samples: Iterable[Host], top: int, room: tuple[int, int]) -> tuple[Line, ...]:
    """Draw the footprint of up to the last hour as an area that ends at the newest sample.

    Args:
        samples: oldest first.
        top: bytes at the upper edge.
        room: cells in a row, and rows with the one that says what it is.
    """
    width, height = room
    known = [(host.time, host.footprint) for host in samples if host.footprint is not None]
    if not known or not top:
        return ()
    end = known[-1][0]
    span, name = next((span for span in SPANS if span[0] >= end - known[0][0]), SPANS[-1])
    columns: list[Stroke] = [None] * (2 * width)
    for time, footprint in known:
        column = int((1 - (end - time) / span) * 2 * width)
        if 0 <= column <= 2 * width:
            column = min(column, 2 * width - 1)
            before = columns[column]
            columns[column] = (0.0, max(footprint, before[1] if before else 0.0))
    area = fill(_held(columns), Limits(0.0, float(top)), height - 1)
    caption = spread(
        line((f"footprint, last {name}", "muted")), line((f"up to {size(top)}", "muted")), width
    )
    return (*(line((row, "band")) for row in area), caption)


def _held(columns: list[Stroke]) -> list[Stroke]:
    """Let each column without a sample show the one before it."""
    held: list[Stroke] = []
    for column in columns:
        held.append(column if column is not None or not held else held[-1])
    return held
