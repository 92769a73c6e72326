"""The log pane: what happened, in words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from tui.paint import Line, Picture, centred, fit, line
from tui.panes.pane import Pane
from tui.words import wrap

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.view import LogLine
    from tui.watch import RunWatch

_GLYPHS: dict[str, tuple[str, str]] = {
    "checkpoint": ("▴", "good"),
    "ended": ("■", "strong"),
    "evaluated": ("◆", "val"),
    "guard": ("!", "warn"),
    "paused": ("‖", "warn"),
    "policy": ("!", "muted"),
    "resumed": ("●", "good"),
    "sampled": ("›", "muted"),
    "slept": ("‖", "muted"),
    "started": ("●", "good"),
    "warning": ("▲", "warn"),
}
_CLOCK_WIDTH = 8
"""The time of day, a glyph and the spaces around it."""
_ENTRIES_SHOWN = 1000
_SHORT_ROWS = 2


class LogPane(Pane):
    """The run's events, the newest at the bottom."""

    title: ClassVar[str] = "log"
    follows_end: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self._drawn_for: tuple[object, ...] = ()
        self._drawn = Picture()

    def picture(self, watch: RunWatch, width: int, height: int) -> Picture:
        """List what happened, wrapped to the width."""
        log = watch.view.log
        if not log:
            return Picture(centred([line(("nothing yet", "muted"))], width, height))
        wanted = (log[-1], len(log), width, height)
        if wanted != self._drawn_for:
            self._drawn_for = wanted
            entries = list(_without_repeats(log))[-_ENTRIES_SHOWN:]
            few = height <= _SHORT_ROWS
            rows = _newest(entries, width, height) if few else _all(entries, width)
            self._drawn = Picture(tuple(rows))
        return self._drawn


def _without_repeats(entries: Iterable[LogLine]) -> Iterable[LogLine]:
    """Leave out progress that says again what the line before it said."""
    last = ""
    for entry in entries:
        if entry.kind != "progress" or entry.text != last:
            yield entry
        last = entry.text


def _all(entries: list[LogLine], width: int) -> list[Line]:
    return [row for entry in entries for row in _entry(entry, width)]


def _newest(entries: list[LogLine], width: int, height: int) -> list[Line]:
    """Write the last entry as whole as it fits, and those before it on one row each."""
    rows = _entry(entries[-1], width)[:height]
    for entry in reversed(entries[:-1]):
        if len(rows) == height:
            break
        first, *more = _entry(entry, width)
        rows.insert(0, fit((*first, (" …", "muted")), width) if more else first)
    return rows


def _entry(entry: LogLine, width: int) -> list[Line]:
    glyph, style = _GLYPHS.get(entry.kind, ("·", "muted"))
    clock = time.strftime("%H:%M", time.localtime(entry.time))
    first, *more = wrap(entry.text, width - _CLOCK_WIDTH) or [""]
    strong = "muted" if entry.kind in ("progress", "sampled") else ""
    return [
        line((f"{clock} ", "muted"), (f"{glyph} ", style), (first, strong)),
        *(line((" " * _CLOCK_WIDTH, ""), (words, strong)) for words in more),
    ]
