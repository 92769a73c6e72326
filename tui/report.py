"""The morning report on the screen: the page's facts, in words and a few small curves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.report import words
from engine.report.advice import commands
from engine.report.facts import gather
from engine.report.keep import PAGE, name_of, read_report
from engine.runs import RunDirectory
from tui.spark import blocks
from tui.standing import standing_span
from tui.words import loss, significant, size, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from textual.app import ComposeResult
    from textual.binding import BindingType

    from engine.report.facts import Report
    from tui.controls import RunControls

_BOX_WIDTH, _MOST_PERCENT = 106, 98
_AROUND = 7
"""Cells of the frame, the padding and the scroll bar."""
_LABEL = 13
_CURVE_LABEL = 9
_MUTED = "$foreground 60%"
_MOST_SPARK = 60
LEVEL_SHARE = 0.25
"""Of the highest, by which a figure has to change for its curve to show it."""
_STYLES = {
    "good": "$text-success", "warn": "$text-warning", "bad": "$text-error", "muted": _MUTED,
}  # fmt: skip
_GLYPH_STYLES = {
    "●": "$text-success", "▲": "$text-warning", "!": "$text-warning", "‖": "$text-warning",
    "∅": "$text-warning", "↺": "$text-warning", "■": "bold",
}  # fmt: skip


def facts_of(controls: RunControls) -> Report:
    """Read a run's report from its journal, which has more than a screen keeps of the machine."""
    run = RunDirectory(Path(controls.path))
    if run.journal_file.is_file():
        return read_report(run)
    return gather(controls.events, name_of(run), controls.path, is_alive=controls.is_alive())


class ReportScreen(ModalScreen[None]):
    """Tells what a run did, over everything else."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter,m", "dismiss", show=False),
        Binding("c", "copy", show=False),
    ]
    DEFAULT_CSS = f"""
    ReportScreen {{ align: center middle; background: $background; }}
    ReportScreen:ansi {{ background: ansi_default; }}
    ReportScreen > VerticalScroll {{
        width: {_BOX_WIDTH}; max-width: {_MOST_PERCENT}%; height: auto; max-height: 100%;
        padding: 0 2;
        background: $surface; border: round $primary;
        border-title-color: $primary; border-title-style: bold;
        border-subtitle-color: $text-muted;
        overflow-y: scroll; scrollbar-size-vertical: 1;
        scrollbar-background: $surface; scrollbar-color: $foreground 30%;
    }}
    """

    def __init__(self, read: Callable[[], Report]) -> None:
        """Show what ``read`` gives; it may take a while, so it is called on another thread."""
        super().__init__()
        self._read = read
        self._report: Report | None = None
        self._width = 0

    def compose(self) -> ComposeResult:
        """Show a frame that scrolls."""
        with VerticalScroll() as box:
            box.border_title = "report"
            box.border_subtitle = "↑ ↓ scroll · c copy the page's path · esc closes"
            yield Static("Reading the journal…", markup=False)

    def on_mount(self) -> None:
        """Read the report aside."""
        self.run_worker(self._fill, exclusive=True)

    def on_resize(self) -> None:
        """Wrap anew."""
        self._draw()

    def action_copy(self) -> None:
        """Copy where the page is."""
        if self._report is not None:
            path = str(Path(self._report.folder) / PAGE)
            self.app.copy_to_clipboard(path)  # pyright: ignore[reportUnknownMemberType]
            self.notify(f"Copied: {path}", markup=False)

    async def _fill(self) -> None:
        try:
            self._report = await asyncio.to_thread(self._read)
        except OSError as error:
            words = f"The journal cannot be read: {error}"
            self.query_one(Static).update(Content(words))
            return
        self._draw()

    def _draw(self) -> None:
        width = min(_BOX_WIDTH, self.app.size.width * _MOST_PERCENT // 100) - _AROUND  # pyright: ignore[reportUnknownMemberType]
        if self._report is not None and width != self._width:
            self._width = width
            self.query_one(Static).update(report_content(self._report, max(1, width)))


def report_content(report: Report, width: int) -> Content:
    """Write a report in rows of a width, with headings and small curves."""
    glyph, style = standing_span(str(report.status))
    rows = [
        Content.assemble((report.name, "bold"), "  ", (glyph, f"bold {_STYLES[style]}")),
        *_styled(words.title(report), width, _MUTED),
        Content(""),
        *_styled(words.result(report), width, "bold"),
        Content(""),
        *_curves(report, width),
        *_section("Best checkpoint", _styled(words.best_checkpoint(report), width)),
        *_section("What happened", _timeline(report, width)),
        *_section("Planned and real", _table(report, width)),
        *_section("What to try next", _hints(report, width)),
    ]
    if typed := commands(report):
        told = [row for each in typed for row in _command(each.purpose, each.text, width)]
        rows += _section("Use it", told)
    page = _styled(str(Path(report.folder) / PAGE), width)
    rows += _section("The same as a page, with charts", page)
    return Content("\n").join(rows)


def _section(title: str, rows: Sequence[Content] | Iterator[Content]) -> list[Content]:
    return [Content(""), Content.styled(title, "bold $primary"), *rows]


def _styled(text: str, width: int, style: str = "") -> list[Content]:
    return [Content.styled(row, style) for row in wrap(text, width)]


def _curves(report: Report, width: int) -> Iterator[Content]:
    """Draw loss, memory and pace in a row each, over all that was trained."""
    series = report.series
    cells = min(_MOST_SPARK, width - _CURVE_LABEL - 24)
    if cells < 8 or not series.steps:
        return
    losses = [point.mean for point in series.loss]
    rates = [point.tokens_per_second for point in series.steps]
    peaks = [float(point.peak_bytes) for point in series.steps]
    swap = [point.swap_bytes for point in series.host]
    curves = [
        ("loss", losses, f"{loss(losses[0])} → {loss(losses[-1])}", "$primary"),
        ("memory", peaks, f"{size(max(peaks))} at most", "$accent"),
        ("swap", swap, f"{size(report.swap_bytes)} at most", "$secondary"),
        ("pace", rates, f"{significant(report.tokens_per_second)} tokens/s", "$success"),
    ]
    for name, values, said, style in curves:
        if values:
            curve = blocks(_even(values), cells)
            yield Content.assemble((f"{name:<{_CURVE_LABEL}}", _MUTED), (curve, style), f"  {said}")


def _even(values: Sequence[float]) -> list[float]:
    """Draw what hardly changes as a level line, not as mountains."""
    known = [value for value in values if value == value]
    low, high = min(known, default=0.0), max(known, default=0.0)
    return [high] * len(values) if high - low <= LEVEL_SHARE * abs(high) else list(values)


def _timeline(report: Report, width: int) -> Iterator[Content]:
    told = words.timeline(report)
    room = max((len(when) for when, _, _ in told), default=0)
    for when, glyph, text in told:
        first, *more = wrap(text, max(10, width - room - 4)) or [""]
        style = _GLYPH_STYLES.get(glyph, "")
        yield Content.assemble((f"{when:>{room}}  ", _MUTED), (f"{glyph} ", style), first)
        yield from (Content(" " * (room + 4) + row) for row in more)


def _table(report: Report, width: int) -> Iterator[Content]:
    rows = words.comparison(report)
    planned = max(len("planned"), *(len(row.planned) for row in rows))
    real = max(len("real"), *(len(row.real) for row in rows))
    yield Content.styled(f"{'':<{_LABEL}} {'planned':>{planned}}  {'real':>{real}}", _MUTED)
    for row in rows:
        figures = f"{row.name:<{_LABEL}} {row.planned:>{planned}}  {row.real:>{real}}"
        fits = row.note and len(figures) + 2 + len(row.note) <= width
        yield Content.assemble(figures, (f"  {row.note}" if fits else "", _MUTED))


def _hints(report: Report, width: int) -> Iterator[Content]:
    for hint in words.advice(report):
        first, *more = wrap(hint.words, width - 2)
        yield Content(f"· {first}")
        yield from (Content(f"  {row}") for row in more)
        if hint.command:
            yield from (Content.styled(f"  {row}", "bold") for row in wrap(hint.command, width - 2))


def _command(purpose: str, text: str, width: int) -> Iterator[Content]:
    yield Content.styled(purpose, _MUTED)
    yield from (Content.styled(f"  {row}", "bold") for row in wrap(text, width - 2))
