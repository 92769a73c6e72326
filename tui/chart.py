"""Composes the loss chart: axes and average by plotext, the band below, the marks above."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from tui.braille import Stroke, fill, strokes
from tui.plot import FRAME_ROWS, Plotter, Ruler
from tui.scale import Limits, log_limits, round_step, row_limits, value_limits
from tui.words import short_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.events import GuardAction
    from tui.curve import Axis, Curve
    from tui.paint import Line

LABEL_WIDTH = 5
"""Kept the same whatever the numbers, so that the curve does not jump."""
GUTTER = LABEL_WIDTH + 1
_ROWS_PER_TICK = 3
_COLUMNS_PER_TICK = 11
_COLUMNS_BETWEEN_POINTS = 2
_LEAST_LOSS = 1e-6
"""What a logarithmic scale takes a loss of nothing for."""
_MINUTES_UP_TO = 2.0
"""Hours below which the axis counts in minutes."""
_FIGURES_CLOSE_UP = 6
GUARD_SIGNS: dict[GuardAction, str] = {
    "shrink": "↓",
    "pause": "‖",
    "resume": "●",
    "abort": "■",
    "skip_batch": "∅",
    "reload": "↺",
}
"""How each thing that the guard does is marked below the curve."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Single points of a run, placed on the horizontal axis."""

    validation: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    best: tuple[float, float] | None = None
    checkpoints: list[float] = field(default_factory=list[float])
    guard: list[tuple[float, GuardAction]] = field(
        default_factory=list["tuple[float, GuardAction]"]
    )
    cursor: float | None = None
    """Where in the run somebody looks."""

    def within(self, span: Limits) -> Marks:
        """Leave out what lies outside a part of the axis."""

        def shows(x: float) -> bool:
            return span.low <= x <= span.high

        return Marks(
            [(x, value) for x, value in self.validation if shows(x)],
            self.best if self.best and shows(self.best[0]) else None,
            [x for x in self.checkpoints if shows(x)],
            [(x, action) for x, action in self.guard if shows(x)],
            self.cursor if self.cursor is not None and shows(self.cursor) else None,
        )


@dataclass(frozen=True, slots=True)
class ChartStyle:
    """How a person chose to look at the curve."""

    log: bool = False
    axis: Axis = "iterations"
    window: int = 50
    """Steps that the average runs over."""

    def scaled(self, value: float) -> float:
        """Put a loss on the vertical axis."""
        if self.log and math.isfinite(value):
            return math.log10(max(value, _LEAST_LOSS))
        return value


class Canvas:
    """Characters and the names of their styles; what is put later lies on top."""

    def __init__(self, width: int, height: int) -> None:
        self.glyphs = [[" "] * width for _ in range(height)]
        self.styles = [[""] * width for _ in range(height)]

    def put(self, row: int, column: int, glyph: str, style: str) -> None:
        """Put one character."""
        self.glyphs[row][column] = glyph
        self.styles[row][column] = style

    def lay(self, rows: Sequence[str], style: str, row: int = 0, column: int = 0) -> None:
        """Lay rows of characters from a place on; blanks let through what is below."""
        for y, text in enumerate(rows, row):
            glyphs, styles = self.glyphs[y], self.styles[y]
            for x, glyph in enumerate(text, column):
                if glyph != " ":
                    glyphs[x] = glyph
                    styles[x] = style

    def lines(self) -> tuple[Line, ...]:
        """Give the rows as spans."""
        return tuple(
            tuple(
                ("".join(glyphs[i] for i in run), style)
                for style, run in groupby(range(len(styles)), styles.__getitem__)
            )
            for glyphs, styles in zip(self.glyphs, self.styles, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Field:
    """The part of the canvas between the axes."""

    span: Limits
    values: Limits
    columns: int
    rows: int

    def column(self, x: float) -> int:
        """Give the canvas column of a place."""
        return GUTTER + max(0, min(self.columns - 1, int(self.span.share(x) * self.columns)))

    def row(self, value: float) -> int:
        """Give the canvas row of a value."""
        return self.rows - 1 - max(0, min(self.rows - 1, int(self.values.share(value) * self.rows)))


def draw_chart(
    plotter: Plotter,
    curve: Curve,
    marks: Marks,
    style: ChartStyle,
    span: Limits,
    size: tuple[int, int],
) -> tuple[Line, ...]:
    """Draw a curve and its marks in so many columns and rows; ``span`` is the horizontal axis."""
    marks = marks.within(span)
    columns, rows = size[0] - GUTTER, size[1] - FRAME_ROWS
    low, high = [style.scaled(v) for v in curve.low], [style.scaled(v) for v in curve.high]
    validation = [(x, style.scaled(v)) for x, v in marks.validation if math.isfinite(v)]
    ruler = value_ruler(low, high, [v for _, v in validation], rows, log=style.log)
    field_ = Field(span, ruler.limits, columns, rows)
    band = strokes(curve.x, low, high, span, 2 * columns)
    x, average = _thin(curve.x, curve.average, span, columns)
    rulers = (progress_ruler(span, style.axis, columns), ruler)
    drawn = plotter.draw(x, [style.scaled(value) for value in average], rulers, size)

    canvas = Canvas(*size)
    for tick, _ in ruler.ticks:
        canvas.lay(["┈" * columns], "faint", row=field_.row(tick), column=GUTTER)
    canvas.lay(fill(band, ruler.limits, rows), "band", column=GUTTER)
    canvas.lay([row[GUTTER:] for row in drawn[:rows]], "average", column=GUTTER)
    if marks.cursor is not None:
        canvas.lay(["│"] * rows, "strong", column=field_.column(marks.cursor))
    canvas.lay([row[:GUTTER] for row in drawn[:rows]], "muted")
    canvas.lay(drawn[rows:], "muted", row=rows)
    _mark_spikes(canvas, band, field_)
    for place in curve.broken:
        canvas.put(rows - 1, field_.column(place), "✗", "bad")
    for place in marks.checkpoints:
        canvas.put(rows, field_.column(place), "▴", "good")
    for place, action in marks.guard:
        canvas.put(rows, field_.column(place), GUARD_SIGNS[action], "warn")
    _put_apart(canvas, [(field_.row(value), field_.column(x)) for x, value in validation])
    if marks.best is not None:
        place, value = marks.best
        canvas.put(field_.row(style.scaled(value)), field_.column(place), "★", "good")
    return canvas.lines()


def value_ruler(
    low: Sequence[float], high: Sequence[float], others: Sequence[float], rows: int, *, log: bool
) -> Ruler:
    """Choose the vertical axis so that a curve and some other values are on it."""
    limits = value_limits(low, high) or Limits(0.0, 1.0)
    limits = Limits(min([limits.low, *others]), max([limits.high, *others]))
    if log:
        limits, ticks = log_limits(limits, rows // _ROWS_PER_TICK)
        labels = [f"{10**at:.2g}" for at in ticks]
    else:
        limits, ticks = row_limits(limits, rows)
        step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.1
        decimals = max(1, min(3, -math.floor(math.log10(step) + 1e-9)))
        labels = [f"{at:.{decimals}f}" for at in ticks]
    padded = (label[:LABEL_WIDTH].rjust(LABEL_WIDTH) for label in labels)
    return Ruler(limits, tuple(zip(ticks, padded, strict=True)))


def progress_ruler(span: Limits, axis: Axis, columns: int) -> Ruler:
    """Choose the ticks of the horizontal axis."""
    in_minutes = axis == "hours" and span.high < _MINUTES_UP_TO
    unit = 60.0 if in_minutes else 1.0
    begin, end = span.low * unit, span.high * unit
    step = round_step((end - begin) / max(2, columns // _COLUMNS_PER_TICK))
    if axis != "hours":
        step = max(1.0, step)
    suffix = {"hours": " min" if in_minutes else " h"}.get(axis, "")
    figures = _FIGURES_CLOSE_UP if begin else 3
    first, last = math.ceil(begin / step - 1e-9), int(end / step + 1e-9)
    places = [i * step for i in range(first, last + 1)]
    labels = [f"{short_count(at, figures)}{suffix if at else ''}" for at in places]
    return Ruler(span, tuple(zip((at / unit for at in places), labels, strict=True)))


def _thin(
    x: Sequence[float], values: Sequence[float], span: Limits, columns: int
) -> tuple[list[float], list[float]]:
    """Keep the last point of each column, and each gap: all that a line can show."""
    kept_x: list[float] = []
    kept: list[float] = []
    last = -1
    for place, value in zip(x, values, strict=True):
        column = int(span.share(place) * columns)
        if column == last and value == value and kept[-1] == kept[-1]:
            kept_x[-1], kept[-1] = place, value
        else:
            kept_x.append(place)
            kept.append(value)
        last = column
    return kept_x, kept


def _put_apart(canvas: Canvas, places: Sequence[tuple[int, int]]) -> None:
    """Put validation points, newest first, so that they do not run into a line of their own."""
    last = -1
    for row, column in reversed(places):
        if last < 0 or last - column >= _COLUMNS_BETWEEN_POINTS:
            canvas.put(row, column, "◆", "val")
            last = column


def _mark_spikes(canvas: Canvas, band: Sequence[Stroke], field_: Field) -> None:
    for i, stroke in enumerate(band):
        if stroke is not None and stroke[1] > field_.values.high:
            canvas.put(0, GUTTER + i // 2, "▲", "warn")
