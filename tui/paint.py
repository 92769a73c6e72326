"""Rows of styled words as plain values: what a pane computes, and a test can read.

A style is a name (``muted``, ``warn``…); what it looks like is the theme's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rich.cells import cell_len

from tui.words import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable

Span: TypeAlias = tuple[str, str]
"""Words and the name of their style."""
Line: TypeAlias = tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """What a pane shows: its rows, and the words in its frame."""

    lines: tuple[Line, ...] = ()
    top: Line = ()
    """In the frame, top right."""
    bottom_left: Line = ()
    bottom: Line = ()
    """In the frame, bottom right."""


def line(*spans: Span | str) -> Line:
    """Make a row from styled or plain words."""
    return tuple(span if isinstance(span, tuple) else (span, "") for span in spans)


def plain(row: Line) -> str:
    """Give a row's words without their styles."""
    return "".join(text for text, _ in row)


def width_of(row: Line) -> int:
    """Measure a row in cells."""
    return sum(cell_len(text) for text, _ in row)


def fit(row: Line, width: int) -> Line:
    """Cut a row to a width, or fill it up with spaces."""
    spans: list[Span] = []
    left = width
    for text, style in row:
        if left <= 0:
            break
        cut = shorten(text, left)
        spans.append((cut, style))
        left -= cell_len(cut)
        if cut != text:
            break
    if left > 0:
        spans.append((" " * left, ""))
    return tuple(spans)


def spread(left: Line, right: Line, width: int) -> Line:
    """Put one row of words at the left end and one at the right; the left one gives way."""
    room = max(0, width - width_of(right))
    return (*fit(left, room), *fit(right, min(width, width_of(right))))


def centred(rows: Iterable[Line], width: int, height: int) -> tuple[Line, ...]:
    """Put rows into the middle of a space, left edges aligned."""
    block = [fit(row, min(width, width_of(row))) for row in rows][:height]
    indent = max(0, width - max((width_of(row) for row in block), default=0)) // 2
    blank = max(0, height - len(block)) // 2
    return (*((),) * blank, *(((" " * indent, ""), *row) for row in block))


def bar(share: float, width: int, style: str = "accent", rest: str = " ") -> Line:
    """Draw a bar to half a cell, and the rest of its width."""
    halves = round(max(0.0, min(1.0, share)) * width * 2)
    if share > 0 and halves == 0:
        halves = 1
    whole, half = divmod(halves, 2)
    filled = "━" * whole + "╸" * half
    return line((filled, style), (rest * (width - len(filled)), "faint"))
