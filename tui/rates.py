"""The loss pane's second view: gradient norm above learning rate, over the same axis."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from tui.chart import GUTTER, ChartStyle, Marks, draw_chart
from tui.paint import Line, line, plain
from tui.plot import FRAME_ROWS
from tui.words import loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.view import RunView
    from tui.curve import Axis, Curve
    from tui.plot import Plotter
    from tui.scale import Limits

_EMPTY = " ┈"


def draw_rates(
    plotter: Plotter,
    curves: Sequence[Curve],
    marks: Marks,
    axis: Axis,
    span: Limits,
    size: tuple[int, int],
) -> tuple[Line, ...]:
    """Draw the gradient norm and the learning rate, each in half of the rows."""
    width, height = size
    norm, rate = curves
    upper = (height - FRAME_ROWS) // 2
    lower = height - FRAME_ROWS - upper
    style = ChartStyle(axis=axis, window=0)
    bare = Marks(cursor=marks.cursor)
    power = _power(rate)
    scaled = _scaled(rate, 10.0**-power)
    above = draw_chart(plotter, norm, bare, style, span, (width, upper + FRAME_ROWS))
    ticks = Marks(checkpoints=marks.checkpoints, guard=marks.guard, cursor=marks.cursor)
    below = draw_chart(plotter, scaled, ticks, style, span, (width, lower + FRAME_ROWS))
    times = f" × 1e{power}" if power else ""
    return (
        *_named("gradient norm", above[:upper], width),
        *_named(f"learning rate{times}", below[:lower], width),
        *below[lower:],
    )


def rates_legend(view: RunView) -> tuple[Line, Line]:
    """Give the newest values."""
    norms = reversed(view.steps.gradient_norm)
    norm = next((value for value in norms if math.isfinite(value)), None)
    rate = view.steps.learning_rate[-1]
    return (
        line(("━ ", "average"), "norm ", (loss(norm), "strong")),
        line("learning rate ", (f"{rate:.2e}", "strong")),
    )


def _power(curve: Curve) -> int:
    """Give the power of ten that brings a curve's largest value to between 1 and 10."""
    largest = max((value for value in curve.high if math.isfinite(value)), default=0.0)
    return math.floor(math.log10(largest)) if largest > 0 else 0


def _scaled(curve: Curve, factor: float) -> Curve:
    return replace(
        curve,
        low=[value * factor for value in curve.low],
        high=[value * factor for value in curve.high],
        average=[value * factor for value in curve.average],
    )


def _named(name: str, rows: Sequence[Line], width: int) -> list[Line]:
    """Write a name over the right end of the row that has the least of the curve there."""
    room = width - len(name) - 1
    named = list(rows)
    if room <= GUTTER or not rows:
        return named
    covered = [sum(glyph not in _EMPTY for glyph in plain(row)[room:]) for row in rows]
    best = covered.index(min(covered))
    named[best] = (*_cut(rows[best], room), (f" {name}", "muted"))
    return named


def _cut(row: Line, width: int) -> Line:
    spans: list[tuple[str, str]] = []
    for text, style in row:
        spans.append((text[: max(0, width)], style))
        width -= len(text)
    return tuple(spans)
