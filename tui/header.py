"""The two lines at the top: what runs, how it stands, how far it is and when it is done."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

from tui.forecast import forecast
from tui.paint import Line, bar, fit, line, spread, width_of
from tui.standing import standing_span
from tui.words import clock, duration, loss, one_line, short_name

if TYPE_CHECKING:
    from rich.style import Style

    from engine.events import Started
    from tui.paint import Span
    from tui.watch import RunWatch

_PERCENT_WIDTH = 7
_LEAST_BAR = 12
_SAYS_NOTHING = ("model", "data")
"""Names of folders that do not tell what is in them."""


class Header(Widget):
    """Two lines that tell from across the room whether all is well."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"header--{style}"
        for style in ("accent", "bad", "faint", "good", "muted", "strong", "text", "warn")
    }
    DEFAULT_CSS = """
    Header {
        dock: top;
        height: 2;
        width: 1fr;
        background: $surface;
        color: $foreground;
        .header--accent { color: $primary; text-style: bold; }
        .header--bad { color: $error; text-style: bold; }
        .header--faint { color: $foreground 22%; }
        .header--good { color: $success; text-style: bold; }
        .header--muted { color: $text-muted; }
        .header--strong { text-style: bold; }
        .header--text { color: $foreground; }
        .header--warn { color: $warning; text-style: bold; }
        &:ansi {
            .header--faint, .header--muted { color: ansi_bright_black; }
        }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: tuple[Line, ...] = ()

    def show(self, watch: RunWatch) -> None:
        """Draw the run as it is now."""
        lines = header_lines(watch, max(1, self.size.width))
        if lines != self._lines:
            self._lines = lines
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """Give one of the lines."""
        row = self._lines[y] if y < len(self._lines) else line(" " * self.size.width)
        return Strip([Segment(text, self._style(name)) for text, name in row])

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"header--{name or 'text'}")


def header_lines(watch: RunWatch, width: int) -> tuple[Line, Line]:
    """Put the header into words."""
    inner = width - 2
    pad = line(" ")
    first = spread(_names(watch.view.started), _standing(watch), inner)
    return (*pad, *first, *pad), (*pad, *_second(watch, inner), *pad)


def _names(started: Started | None) -> Line:
    if started is None:
        return line(("lora-tui", "strong"))
    words = [PurePath(name).name for name in (started.model, started.data) if name]
    what = "".join(f" · {word}" for word in words if word not in _SAYS_NOTHING)
    return line((short_name(started.name), "strong"), (what, "muted"))


def _standing(watch: RunWatch) -> Line:
    status = standing_span(watch.standing)
    doing = watch.asked_words or watch.doing
    if not doing or watch.is_over or watch.view.started is None:
        return line(" ", status)
    return line(" ", status, (f"  {doing}", "accent" if watch.asked_words else "muted"))


def _second(watch: RunWatch, width: int) -> Line:
    """Give the progress bar and the end, or what led to the end and what to do next."""
    if watch.place is not None:
        return _looking_back(watch, width)
    if watch.is_over:
        has_ended_well = watch.standing in ("completed", "stopped")
        looks = "← → look back · " if has_ended_well and len(watch.whole.steps) > 1 else ""
        leave = line((f"   {looks}q leaves", "muted"))
        return spread(_ending(watch, width - width_of(leave)), leave, width)
    view = watch.view
    if view.started is None:
        words = watch.asked_words or watch.transfer or watch.doing or "starting…"
        progress = watch.progress
        share = progress.done / progress.total if progress and progress.total else 0.0
        right = line(("  ", ""), (words, "accent" if watch.asked_words else "muted"))
    else:
        share = view.progress
        percent = f"{share:.0%}".replace("%", " %").rjust(_PERCENT_WIDTH)
        right = line((percent, "strong"), *_done_at(watch))
    right = fit(right, max(0, min(width_of(right), width - _LEAST_BAR)))
    return (*bar(share, width - width_of(right), "accent", "─"), *right)


def _looking_back(watch: RunWatch, width: int) -> Line:
    """Say at which moment of the run all panes are."""
    view = watch.view
    right = line(
        ("  looking back at ", "muted"),
        (f"{view.iteration:,}", "strong"),
        (f" · {clock(watch.now, watch.today)} · esc: the end", "muted"),
    )
    right = fit(right, max(0, min(width_of(right), width - _LEAST_BAR)))
    return (*bar(view.progress, width - width_of(right), "accent", "─"), *right)


def _done_at(watch: RunWatch) -> Line:
    left = forecast(watch)
    if left is None:
        return ()
    if watch.view.status == "paused":
        return line((f"   {duration(left.seconds)} left", "muted"))
    spans = [("   done at ", "muted"), (clock(watch.now + left.seconds, watch.today), "strong")]
    if left.spread and left.spread >= 1:
        spans.append((f" (±{duration(left.spread)})", "muted"))
    return line(*spans)


def _ending(watch: RunWatch, width: int) -> Line:
    """Say how it ended, as far as there is room; the reason first where it is not a good one."""
    view, ended = watch.view, watch.view.ended
    spans: list[Span] = []
    if view.started is not None:
        spans.append((f"{view.iteration:,} of {view.started.iterations:,}", "strong"))
    if view.best is not None:
        spans.append((f"best ★ {loss(view.best.val_loss)} at {view.best.iteration:,}", "good"))
    if ended is None:
        why = "It broke off without a word. What was saved is safe."
    else:
        why = " ".join(one_line(text) for text in (ended.reason, ended.hint) if text)
    if watch.standing in ("failed", "aborted", "interrupted"):
        spans.insert(0, (why, "bad"))
    elif watch.standing == "stopped":
        spans.append((why, "muted"))
    row = line(*spans[:1])
    for span in spans[1:]:
        longer = (*row, ("   ", ""), span)
        row = longer if width_of(longer) <= width else row
    return row
