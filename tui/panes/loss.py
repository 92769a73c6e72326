"""The loss pane: the whole run's curve, with what was measured and what was saved on the way."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from tui.chart import GUTTER, ChartStyle, Marks, draw_chart
from tui.curve import Axis, Buckets, place_iteration, trace
from tui.paint import Line, Picture, centred, line
from tui.panes.pane import Pane
from tui.plot import FRAME_ROWS, Plotter, load_library
from tui.scale import Limits, extent
from tui.words import loss, one_line

if TYPE_CHECKING:
    from engine.view import RunView
    from tui.watch import RunWatch

AXES: tuple[Axis, ...] = ("iterations", "tokens", "hours")
WINDOWS = (0, 10, 50, 200, 1000)
"""Steps that the average can run over; with 0 it follows every step."""
LEAST_EXTENT: dict[Axis, float] = {"iterations": 16.0, "tokens": 1000.0, "hours": 1 / 60}
_STAGES_SHOWN = 6
_WIDE = 64
_MEDIUM = 44


class LossPane(Pane):
    """Training loss as a band with its average; validation points, the best of them marked."""

    title: ClassVar[str] = "loss"

    def __init__(self) -> None:
        super().__init__()
        self.look = ChartStyle()
        self._plotter: Plotter | None = None
        self._view: RunView | None = None
        self._buckets = Buckets()
        self._drawn_for: tuple[object, ...] = ()
        self._chart: tuple[Line, ...] = ()

    @property
    def can_plot(self) -> bool:
        """Whether the plotting library is there."""
        return self._plotter is not None

    async def load_plotter(self) -> None:
        """Load the plotting library: too slow for before the first frame, and for this thread."""
        await asyncio.to_thread(load_library)
        self._plotter = Plotter()
        self.redraw()

    def toggle_log(self) -> None:
        """Change between a logarithmic and a plain scale."""
        self._change(replace(self.look, log=not self.look.log))

    def next_axis(self) -> None:
        """Count by the next of iterations, tokens and hours."""
        place = AXES.index(self.look.axis) + 1
        self._change(replace(self.look, axis=AXES[place % len(AXES)]))

    def smooth(self, levels: int) -> None:
        """Average over more steps, or fewer."""
        level = WINDOWS.index(self.look.window) + levels
        self._change(replace(self.look, window=WINDOWS[max(0, min(len(WINDOWS) - 1, level))]))

    def picture(self, watch: RunWatch, width: int, height: int) -> Picture:
        """Draw the curve, or say what goes on before there is one."""
        view = watch.view
        if not len(view.steps) or self._plotter is None:
            return Picture(centred(stages(watch), width, height))
        if width < 3 * GUTTER or height < 2 * FRAME_ROWS:
            return Picture(top=line(("train ", "muted"), loss(view.steps.loss[-1])))
        self._draw_if_stale(self._plotter, watch, width, height)
        left, right = _legend(view, width)
        return Picture(self._chart, self._settings(), left, right)

    def _change(self, look: ChartStyle) -> None:
        self.look = look
        self.redraw()

    def _settings(self) -> Line:
        look = self.look
        words = [f"by {look.axis}", f"average of {look.window}" if look.window else "no average"]
        if look.log:
            words.insert(0, "log")
        return line((" · ".join(words), "muted"))

    def _draw_if_stale(self, plotter: Plotter, watch: RunWatch, width: int, height: int) -> None:
        """Draw again once something moved that a dot of the screen can show."""
        view = watch.view
        if view is not self._view:
            self._view, self._buckets = view, Buckets()
        steps = len(view.steps)
        dot = max(1, steps // (2 * width))
        lifecycle = (len(view.evaluations), len(view.checkpoints), len(view.guard_actions))
        shape = (steps // dot, dot, view.steps.cuts, width, height)
        wanted = (*shape, lifecycle, self.look, watch.is_over)
        if wanted == self._drawn_for:
            return
        self._drawn_for = wanted
        self._buckets.absorb(view.steps)
        curve = trace(self._buckets, view.steps, self.look.axis, self.look.window)
        span = self._span(watch, curve.x[-1])
        marks = self._marks(view)
        self._chart = draw_chart(plotter, curve, marks, self.look, span, (width, height))

    def _span(self, watch: RunWatch, reached: float) -> Limits:
        axis, started = self.look.axis, watch.view.started
        if watch.is_over:
            return Limits(0.0, max(reached, LEAST_EXTENT[axis] / 16))
        whole = {
            "iterations": started.iterations if started else None,
            "tokens": started.tokens if started else None,
        }.get(axis)
        return extent(max(reached, LEAST_EXTENT[axis]), whole)

    def _marks(self, view: RunView) -> Marks:
        def place(iteration: int) -> float:
            return place_iteration(self._buckets, view.steps, iteration, self.look.axis)

        best = view.best
        return Marks(
            validation=[(place(e.iteration), e.val_loss) for e in view.evaluations],
            best=(place(best.iteration), best.val_loss) if best else None,
            checkpoints=[place(saved.iteration) for saved in view.checkpoints],
            guard=[place(action.iteration) for action in view.guard_actions],
        )


def stages(watch: RunWatch) -> list[Line]:
    """Say what was done before the first step, and what goes on now."""
    done: list[str] = []
    for entry in watch.view.log:
        words = one_line(entry.text)
        if entry.kind == "progress" and words not in done:
            done.append(words)
    current = one_line(watch.view.activity)
    rows = [line(("✓ ", "good"), (words, "muted")) for words in done if words != current]
    if current and not watch.is_over:
        rows.append(line(("◌ ", "accent"), (watch.doing, "strong")))
        if watch.transfer:
            rows.append(line("  ", watch.transfer))
    elif not watch.is_over and watch.view.started:
        rows.append(line(("◌ ", "accent"), ("the first step…", "strong")))
    elif not watch.is_over:
        rows.append(line(("◌ ", "accent"), ("starting…", "strong")))
    return rows[-_STAGES_SHOWN:]


def _legend(view: RunView, width: int) -> tuple[Line, Line]:
    """Name the glyphs of the chart, with their newest values."""
    train = line(("⣿ ", "band"), "train ", (loss(view.steps.loss[-1]), "strong"))
    average = line(("━ ", "average"), "avg ", (loss(view.average_loss), "strong"))
    left = (*train, ("   ", ""), *average) if width >= _WIDE else average
    if view.evaluations and math.isfinite(view.evaluations[-1].val_loss):
        newest = loss(view.evaluations[-1].val_loss)
        left = (*left, ("   ", ""), ("◆ ", "val"), ("val ", ""), (newest, "strong"))
    best = view.best
    if best is None:
        return left, ()
    place = ((f" at {best.iteration:,}", ""),) if width >= _MEDIUM else ()
    return left, (("★ ", "good"), (loss(best.val_loss), "strong"), *place)
