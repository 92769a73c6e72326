"""The pace pane: how far, how fast, and when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tui.forecast import forecast, gone
from tui.paint import Line, Picture, centred, line, spread
from tui.panes.pane import Pane
from tui.words import UNKNOWN, brief, clock, duration, short_count, significant

if TYPE_CHECKING:
    from engine.view import RunView, StepHistory
    from tui.paint import Span
    from tui.watch import RunWatch

_LABEL = 7
_ROOM_FOR_WORDS = 29


class PacePane(Pane):
    """Iterations, rates, time gone and left."""

    title: ClassVar[str] = "pace"

    def __init__(self) -> None:
        super().__init__()
        self._counted: StepHistory | None = None
        self._cuts = 0
        self._until = 0
        self._sum = 0.0

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
            _left(watch, width),
            _next(watch, width),
            _average(view, self._seconds(watch), width),
            *([] if watch.is_over and watch.place is None else [_ends(watch, width)]),
            _row("gone", duration(gone(watch))),
            _row("update", f"{step.updates:,} of {view.started.updates:,}" if step else UNKNOWN),
            _row("tokens", _tokens(view)),
        ]
        top = line(("epoch ", "muted"), f"{step.epoch:.2f}") if step else ()
        return Picture(tuple(rows[:height]), top)

    def _seconds(self, watch: RunWatch) -> float:
        """Add up the training time of all steps; those added up before are not read again."""
        steps = watch.whole.steps
        if watch.place is not None:
            return sum(steps.seconds[: watch.place + 1])
        if steps is not self._counted or steps.cuts != self._cuts:
            self._counted, self._cuts = steps, steps.cuts
            self._until, self._sum = 0, 0.0
        self._sum += sum(steps.seconds[self._until :])
        self._until = len(steps)
        return self._sum


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


def _average(view: RunView, seconds: float, width: int) -> Line:
    """Give both rates over the whole run, evaluations and pauses not counted."""
    step, started = view.last_step, view.started
    if step is None or started is None or not seconds:
        return _row("avg", UNKNOWN)
    iterations = significant(step.iteration / seconds)
    tokens = significant(step.trained_tokens / seconds)
    left = line(("avg ", "muted"), iterations, (" it/s", "muted"))
    return spread(left, line(tokens, (" tok/s", "muted")), width)


def _left(watch: RunWatch, width: int) -> Line:
    left = forecast(watch)
    if watch.is_over and watch.place is None:
        return _row("ended", clock(watch.now, watch.today))
    if left is None:
        return _row("left", "not known yet")
    row = line(("left ", "muted"), (duration(left.seconds), "strong"))
    if watch.view.status != "training":
        return row
    return spread(row, line((clock(watch.now + left.seconds, watch.now), "strong")), width)


def _ends(watch: RunWatch, width: int) -> Line:
    """Give the range of clock times in which it will be done."""
    left = forecast(watch)
    if left is None or watch.view.status != "training" or left.spread is None:
        return _row("ends", UNKNOWN)
    early, late = (
        clock(watch.now + max(0.0, left.seconds + sign * left.spread), watch.now)
        for sign in (-1, 1)
    )
    words = f"{early} to {late}" if early != late else late
    if len(words) + _LABEL > width:
        words = f"by {late}"
    return _row("ends", words)


def _next(watch: RunWatch, width: int) -> Line:
    """Say when the next evaluation and the next checkpoint are due."""
    view, started = watch.view, watch.view.started
    if started is None or (watch.is_over and watch.place is None):
        return _row("next", "nothing")
    due = [
        (name, _due(view, started.config.get(key), started.iterations))
        for name, key in (("eval", "steps_per_eval"), ("save", "save_every"))
    ]
    spans: list[Span] = []
    for name, seconds in due:
        label = f"{name} in " if width >= _ROOM_FOR_WORDS else f"{name} "
        spans += [(label, "muted"), (f"{brief(seconds):<7}", "")]
    return line(*spans[:-1], (spans[-1][0].rstrip(), ""))


def _due(view: RunView, every: object, iterations: int) -> float | None:
    """Say in how many seconds something comes that comes every so many iterations."""
    rate = view.iterations_per_second
    if not isinstance(every, int) or every < 1 or not rate:
        return None
    left = min(every - view.iteration % every, max(0, iterations - view.iteration))
    return left / rate


def _tokens(view: RunView) -> str:
    done = view.steps.tokens[-1] if len(view.steps) else 0
    whole = view.started.tokens if view.started else 0
    return f"{short_count(done)} of {short_count(whole)}"
