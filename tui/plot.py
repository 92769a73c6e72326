"""Draws lines with plotext, which is loaded only once the first frame is on the screen."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui.scale import Limits

FRAME_ROWS = 2
"""The axis and its labels, below the canvas."""
_MANUAL = "plotext._doc.doc"
"""Plotext's manual for its own prompt: putting it together takes three times what the rest does."""


@dataclass(frozen=True, slots=True)
class Ruler:
    """One axis: what it spans, and where it carries which label."""

    limits: Limits
    ticks: tuple[tuple[float, str], ...]


def load_library() -> ModuleType:
    """Import plotext, the first time without its manual if it can do without."""
    if "plotext" in sys.modules:
        return import_module("plotext")
    manual: Any = sys.modules.setdefault(_MANUAL, ModuleType(_MANUAL))
    manual.docs = None
    try:
        return import_module("plotext")
    except ImportError:
        # A version that wants more of it gets it.
        del sys.modules[_MANUAL]
        return import_module("plotext")


class Plotter:
    """Plotext's one figure, set up to give bare characters; the pane colours them."""

    def __init__(self) -> None:
        plotext = load_library()
        plotext.terminal.limit(False, False)
        self._figure: Any = plotext.figure
        self._dots: Any = plotext.marker("braille")
        self._figure.theme("colorless").canvas("default").axes(False)
        self._figure.axes(True, axis=[0], side=[0]).axes(True, axis=[1], side=[0])
        self._x: Any = self._figure.ruler("x", "lower")
        self._y: Any = self._figure.ruler("y", "left")
        for ruler in (self._x, self._y):
            ruler.alignment(lim="edge", tick="dynamic")

    def draw(
        self, x: list[float], y: list[float], rulers: tuple[Ruler, Ruler], size: tuple[int, int]
    ) -> list[str]:
        """Draw one line with its axes; it breaks where a value is NaN.

        Args:
            x: Places on the horizontal axis.
            y: As many values.
            rulers: The horizontal and the vertical axis.
            size: Columns and rows of the whole drawing.

        Returns:
            As many rows of characters: labels and axis on the left and below, the canvas between.
        """
        figure = self._figure
        figure.clear.data()
        figure.plot_size(*size)
        for ruler, given in zip((self._x, self._y), rulers, strict=True):
            ruler.lim(*given.limits)
            ruler.ticks([at for at, _ in given.ticks], labels=[label for _, label in given.ticks])
        known = [(a, b) for a, b in zip(x, y, strict=True) if b == b]
        if known:
            line = figure.signal([a for a, _ in known], [b for _, b in known], marker=self._dots)
            place = 0
            for before, value in zip([float("nan"), *y], y, strict=False):
                if value != value:
                    continue
                line.line(place, before == before)
                place += 1
            figure.draw(line)
        rows: list[str] = figure.build().string(colorless=True).split("\n")
        return [row.ljust(size[0]) for row in rows[: size[1]]]


def overlay(curves: dict[str, Sequence[tuple[float, float]]], size: tuple[int, int]) -> list[str]:
    """Draw several curves over one another, each in a character of its own.

    Args:
        curves: the points of each, by its character.
        size: Columns and rows of the whole drawing.

    Returns:
        Rows of characters.
    """
    plotext = load_library()
    plotext.terminal.limit(False, False)
    figure: Any = plotext.figure
    figure.theme("colorless").canvas("default")
    figure.clear.data()
    figure.plot_size(*size)
    for character, points in curves.items():
        x, y = [a for a, _ in points], [b for _, b in points]
        line = figure.signal(x, y, marker=plotext.marker(character))
        for place in range(1, len(points)):
            line.line(place, True)
        figure.draw(line)
    rows: list[str] = figure.build().string(colorless=True).split("\n")
    return [row.rstrip() for row in rows if row.strip()]
