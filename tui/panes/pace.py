"""The pace pane: how far, how fast, and when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tui.forecast import forecast, gone
from tui.paint import Line, Picture, centred, line, spread
from tui.panes.pane import Pane
from tui.words import UNKNOWN, clock, duration, short_count, significant

if TYPE_CHECKING:
    from engine.view import RunView
    from tui.watch import RunWatch

_LABEL = 7


class PacePane(Pane):
    """Iterations, rates, time gone and left."""

    title: ClassVar[str] = "pace"

    def picture(self, watch: RunWatch, width: int, height: int) -> Picture:
        """Draw the newest figures."""
        view = watch.view
        if view.started is None:
            return Picture(centred([line(("not started yet", "muted"))], width, height))
        step = view.last_step
        whole, done = view.started.iterations, f"{view.iteration:,}"
        rows = [
            spread(line((done, "strong"), (f" / {whole:,}", "muted")), _percent(view), width),
            _rates(view, width),
            _row("gone", duration(gone(watch))),
            _left(watch, width),
            _row("update", f"{step.updates:,} of {view.started.updates:,}" if step else UNKNOWN),
            _row("tokens", _tokens(view)),
        ]
        top = line(("epoch ", "muted"), f"{step.epoch:.2f}") if step else ()
        return Picture(tuple(rows[:height]), top)


def _row(label: str, value: str) -> Line:
    return line((label.ljust(_LABEL), "muted"), value)


def _percent(view: RunView) -> Line:
    return line((f"{view.progress:.0%}".replace("%", " %"), ""))


def _rates(view: RunView, width: int) -> Line:
    if not len(view.steps):
        return line(("no step yet", "muted"))
    iterations = significant(view.iterations_per_second)
    tokens = significant(view.tokens_per_second)
    left = line((iterations, "strong"), (" it/s", "muted"))
    return spread(left, line((tokens, "strong"), (" tok/s", "muted")), width)


def _left(watch: RunWatch, width: int) -> Line:
    left = forecast(watch)
    if watch.is_over:
        return _row("ended", clock(watch.now, watch.today))
    if left is None:
        return _row("left", "not known yet")
    row = line(("left".ljust(_LABEL), "muted"), (duration(left.seconds), "strong"))
    if watch.view.status != "training":
        return row
    return spread(row, line((clock(watch.now + left.seconds, watch.today), "strong")), width)


def _tokens(view: RunView) -> str:
    done = view.steps.tokens[-1] if len(view.steps) else 0
    whole = view.started.tokens if view.started else 0
    return f"{short_count(done)} of {short_count(whole)}"
