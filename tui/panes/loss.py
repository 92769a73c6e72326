"""The loss pane: the whole run's curve, with what was measured and what was saved on the way."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from textual.message import Message

from tui.chart import GUTTER, ChartStyle, Marks, draw_chart
from tui.curve import Axis, Buckets, lead, place_iteration, place_step, trace
from tui.paint import Line, Picture, centred, line
from tui.panes.pane import Pane
from tui.plot import FRAME_ROWS, Plotter, load_library
from tui.rates import draw_rates, rates_legend
from tui.scale import Limits, extent
from tui.spark import overview
from tui.words import loss, one_line
from tui.zoom import Zoom

if TYPE_CHECKING:
    from textual import events

    from engine.view import RunView
    from tui.curve import Curve
    from tui.watch import RunWatch

AXES: tuple[Axis, ...] = ("iterations", "tokens", "hours")
WINDOWS = (0, 10, 50, 200, 1000)
"""Steps that the average can run over; with 0 it follows every step."""
LEAST_EXTENT: dict[Axis, float] = {"iterations": 16.0, "tokens": 1000.0, "hours": 1 / 60}
ZOOM_FACTOR = 0.5
PAN_SHARE = 0.25
"""How much of what is in sight one key moves."""
_SHARE_AVERAGED = 10
_STAGES_SHOWN = 6
_WIDE = 64
_MEDIUM = 44
_TITLE_ROOM = len("loss") + 4
_LEFT_EDGE = 2
"""Cells of the frame before the picture."""


class LossPane(Pane):
    """Training loss as a band with its average; validation points, the best of them marked."""

    title: ClassVar[str] = "loss"

    @dataclass
    class PlaceChosen(Message):
        """A moment of the run was pointed at."""

        place: int

    def __init__(self) -> None:
        super().__init__()
        self.look = ChartStyle()
        self.zoom = Zoom()
        self.shows_rates = False
        """Whether gradient norm and learning rate are drawn instead of the loss."""
        self._plotter: Plotter | None = None
        self._view: RunView | None = None
        self._buckets = Buckets()
        self._rates = (Buckets("gradient_norm"), Buckets("learning_rate"))
        self._drawn_for: tuple[object, ...] = ()
        self._chart: tuple[Line, ...] = ()
        self._span = Limits(0.0, 1.0)
        self._window = 0
        self._average = math.nan
        """The moving average as it is drawn, at the cursor or at the end."""
        self._dragged_from: int | None = None
        self._has_dragged = False

    @property
    def can_plot(self) -> bool:
        """Whether the plotting library is there."""
        return self._plotter is not None

    async def load_plotter(self) -> None:
        """Load the plotting library: too slow for before the first frame, and for this thread."""
        await asyncio.to_thread(load_library)
        self._plotter = Plotter()
        self.redraw()

    def on_show(self) -> None:
        """Take the focus that all panes lost while there was no room for them."""
        if self.screen.focused is None:
            self.focus()

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

    def toggle_rates(self) -> None:
        """Change between the loss, and gradient norm and learning rate."""
        self.shows_rates = not self.shows_rates
        self.redraw()

    def zoom_in(self, levels: int, share: float | None = None) -> None:
        """Look closer, or from farther away, at the cursor, the newest steps or a share."""
        watch = self._run
        total = len(watch.whole.steps) if watch else 0
        if watch is None or not total:
            return
        if share is None:
            share = self._fixed_share(watch, total)
        self.zoom = self.zoom.by(ZOOM_FACTOR**levels, total, share, watch.place)
        self.redraw()

    def show_whole(self) -> None:
        """Look at the whole run again."""
        self.zoom = Zoom()
        self.redraw()

    def pan(self, shares: float) -> None:
        """Move what is in sight by a share of it."""
        if self._run is not None:
            steps = round(shares * self.zoom.width)
            self.zoom = self.zoom.moved(steps, len(self._run.whole.steps))
            self.redraw()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Look closer at what is under the pointer."""
        event.stop()
        self.zoom_in(1, self._share_at(event.x))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Look from farther away."""
        event.stop()
        self.zoom_in(-1, self._share_at(event.x))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Begin to drag the curve."""
        self._dragged_from, self._has_dragged = event.x, False
        self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Let the curve follow the pointer."""
        if self._dragged_from is None or event.x == self._dragged_from:
            return
        shares = (self._dragged_from - event.x) / max(1, self._columns)
        self._dragged_from, self._has_dragged = event.x, True
        self.pan(shares)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Let go of the curve; a click without a move chooses a moment."""
        self.release_mouse()
        is_click = self._dragged_from is not None and not self._has_dragged
        self._dragged_from = None
        watch = self._run
        if is_click and watch and len(watch.whole.steps) and event.x >= GUTTER + _LEFT_EDGE:
            at = self._span.low + self._share_at(event.x) * (self._span.high - self._span.low)
            self.post_message(self.PlaceChosen(self._step_at(watch, at)))

    def picture(self, watch: RunWatch, width: int, height: int) -> Picture:
        """Draw the curve, or say what goes on before there is one."""
        view = watch.view
        if not len(view.steps) or self._plotter is None:
            return Picture(centred(stages(watch), width, height))
        if width < 3 * GUTTER or height < 2 * FRAME_ROWS:
            return Picture(top=line(("train ", "muted"), loss(view.steps.loss[-1])))
        self._draw_if_stale(self._plotter, watch, width, height)
        left, right = (
            rates_legend(view) if self.shows_rates else _legend(view, self._average, width)
        )
        return Picture(self._chart, self._settings(width), left, right)

    @property
    def _columns(self) -> int:
        return self.size.width - 2 * _LEFT_EDGE - GUTTER

    def _share_at(self, x: int) -> float:
        return max(0.0, min(1.0, (x - _LEFT_EDGE - GUTTER + 0.5) / max(1, self._columns)))

    def _step_at(self, watch: RunWatch, at: float) -> int:
        steps, axis = watch.whole.steps, self.look.axis
        first, last = self.zoom.part(len(steps), watch.place)
        places = range(first, last + 1)
        found = bisect_left(places, at, key=lambda i: place_step(self._buckets, steps, i, axis))
        return places[min(found, len(places) - 1)]

    def _fixed_share(self, watch: RunWatch, total: int) -> float:
        first, last = self.zoom.part(total, watch.place)
        if watch.place is not None:
            return (watch.place - first) / max(1, last - first)
        return 1.0 if self.zoom.follows else 0.5

    def _change(self, look: ChartStyle) -> None:
        self.look = look
        self.redraw()

    def _settings(self, width: int) -> Line:
        """Say how the curve is looked at, as much of it as fits the frame."""
        look = self.look
        words = [f"by {look.axis}"]
        if not self.shows_rates:
            words.append(f"average of {look.window}" if look.window else "no average")
            if look.log:
                words.insert(0, "log")
        if not self.zoom.is_whole:
            words.insert(0, f"zoom {self.zoom.width:,}")
        while len(" · ".join(words)) > width - _TITLE_ROOM:
            words.pop()
        return line((" · ".join(words), "muted"))

    def _draw_if_stale(self, plotter: Plotter, watch: RunWatch, width: int, height: int) -> None:
        """Draw again once something moved that a dot of the screen can show."""
        view = watch.whole
        if view is not self._view:
            self._view, self._buckets, self.zoom = view, Buckets(), Zoom()
            self._rates = (Buckets("gradient_norm"), Buckets("learning_rate"))
        steps = len(view.steps)
        part = self.zoom.part(steps, watch.place)
        dot = max(1, (part[1] - part[0] + 1) // (2 * width))
        lifecycle = (len(view.evaluations), len(view.checkpoints), len(view.guard_actions))
        shape = (steps // dot, dot, view.steps.cuts, width, height)
        looked = (self.look, self.zoom, self.shows_rates, watch.place)
        wanted = (*shape, lifecycle, *looked, watch.is_over)
        if wanted == self._drawn_for:
            return
        self._drawn_for = wanted
        self._buckets.absorb(view.steps)
        self._window = effective_window(self.look.window, steps)
        self._chart = self._draw(plotter, watch, part, (width, height))

    def _draw(
        self, plotter: Plotter, watch: RunWatch, part: tuple[int, int], size: tuple[int, int]
    ) -> tuple[Line, ...]:
        look, steps = self.look, watch.whole.steps
        width, height = size
        above: tuple[Line, ...] = ()
        if not self.zoom.is_whole:
            above = (overview(self._buckets.mean, part, self._buckets.size, width, GUTTER),)
        room = (width, height - len(above))
        self._span = self._span_of(watch, part)
        marks = self._marks(watch)
        if self.shows_rates:
            for buckets in self._rates:
                buckets.absorb(steps)
            curves = [
                trace(b.magnify(steps, *part, 2 * width), steps, look.axis, 0, part)
                for b in self._rates
            ]
            return (*above, *draw_rates(plotter, curves, marks, look.axis, self._span, room))
        begin = lead(part[0], self._window)
        buckets = self._buckets
        if not self.zoom.is_whole:
            buckets = buckets.magnify(steps, begin, part[1] + 1, 2 * width)
        curve = trace(buckets, steps, look.axis, self._window, part)
        self._average = _average_at(curve, marks.cursor)
        return (*above, *draw_chart(plotter, curve, marks, look, self._span, room))

    def _span_of(self, watch: RunWatch, part: tuple[int, int]) -> Limits:
        axis, steps = self.look.axis, watch.whole.steps
        low, reached = (place_step(self._buckets, steps, at, axis) for at in part)
        if not self.zoom.is_whole:
            return Limits(low, max(reached, low + LEAST_EXTENT[axis] / 16))
        if watch.is_over:
            return Limits(0.0, max(reached, LEAST_EXTENT[axis] / 16))
        started = watch.whole.started
        whole = {
            "iterations": started.iterations if started else None,
            "tokens": started.tokens if started else None,
        }.get(axis)
        return extent(max(reached, LEAST_EXTENT[axis]), whole)

    def _marks(self, watch: RunWatch) -> Marks:
        view, axis = watch.whole, self.look.axis

        def place(iteration: int) -> float:
            return place_iteration(self._buckets, view.steps, iteration, axis)

        best, at = view.best, watch.place
        return Marks(
            validation=[(place(e.iteration), e.val_loss) for e in view.evaluations],
            best=(place(best.iteration), best.val_loss) if best else None,
            checkpoints=[place(saved.iteration) for saved in view.checkpoints],
            guard=[(place(done.iteration), done.action) for done in view.guard_actions],
            cursor=None if at is None else place_step(self._buckets, view.steps, at, axis),
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


def effective_window(chosen: int, steps: int) -> int:
    """Average over no more than a tenth of the run: over more, it would lag behind the curve."""
    return min(chosen, max(WINDOWS[1], steps // _SHARE_AVERAGED))


def _average_at(curve: Curve, cursor: float | None) -> float:
    known = [
        value
        for x, value in zip(curve.x, curve.average, strict=True)
        if math.isfinite(value) and (cursor is None or x <= cursor)
    ]
    return known[-1] if known else math.nan


def _legend(view: RunView, mean: float, width: int) -> tuple[Line, Line]:
    """Name the glyphs of the chart, with their newest values."""
    train = line(("⣿ ", "band"), "train ", (loss(view.steps.loss[-1]), "strong"))
    average = line(("━ ", "average"), "avg ", (loss(mean), "strong"))
    left = (*train, ("   ", ""), *average) if width >= _WIDE else average
    if view.evaluations and math.isfinite(view.evaluations[-1].val_loss):
        newest = loss(view.evaluations[-1].val_loss)
        left = (*left, ("   ", ""), ("◆ ", "val"), ("val ", ""), (newest, "strong"))
    best = view.best
    if best is None:
        return left, ()
    place = ((f" at {best.iteration:,}", ""),) if width >= _MEDIUM else ()
    return left, (("★ ", "good"), (loss(best.val_loss), "strong"), *place)
