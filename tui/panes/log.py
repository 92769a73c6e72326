"""The log pane: what happened, in words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from tui.paint import Line, Picture, centred, fit, line
from tui.panes.pane import Pane
from tui.words import one_line, wrap

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
    "trouble": ("▲", "warn"),
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
        self.words = ""
        """What the entries shown are about; empty shows all."""
        self._drawn_for: tuple[object, ...] = ()
        self._drawn = Picture()

    def filter_by(self, words: str) -> None:
        """Show only entries with all of some words in their kind or text."""
        self.words = words.strip()
        self._scrolled = 0
        self.redraw()

    def picture(self, watch: RunWatch, width: int, height: int) -> Picture:
        """List what happened, wrapped to the width."""
        log = watch.view.log
        if not log:
            return Picture(centred([line(("nothing yet", "muted"))], width, height))
        wanted = (log[-1], len(log), width, height, self.words)
        if wanted != self._drawn_for:
            self._drawn_for = wanted
            told = list(_without_repeats(log))
            entries = about(self.words, told)[-_ENTRIES_SHOWN:]
            self._drawn = Picture(
                tuple(_rows(entries, width, height)),
                line((f"{len(entries):,} of {len(told):,} about ", "muted"), one_line(self.words))
                if self.words
                else (),
            )
        return self._drawn


def about(words: str, entries: list[LogLine]) -> list[LogLine]:
    """Keep the entries whose kind and text hold all of some words."""
    wanted = words.casefold().split()
    if not wanted:
        return entries
    return [e for e in entries if all(w in f"{e.kind} {e.text}".casefold() for w in wanted)]


def _rows(entries: list[LogLine], width: int, height: int) -> list[Line]:
    if not entries:
        return list(centred([line(("nothing about that", "muted"))], width, height))
    return _newest(entries, width, height) if height <= _SHORT_ROWS else _all(entries, width)


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
        rows.insert(0, _going_on(first, width) if more else first)
    return rows


def _going_on(first: Line, width: int) -> Line:
    """Say that an entry says more than its first row, which ends with a word."""
    *before, (words, style) = first
    return fit((*before, (words.rstrip(" ,;:"), style), (" …", "muted")), width)


def _entry(entry: LogLine, width: int) -> list[Line]:
    glyph, style = _GLYPHS.get(entry.kind, ("·", "muted"))
    clock = time.strftime("%H:%M", time.localtime(entry.time))
    first, *more = wrap(entry.text, width - _CLOCK_WIDTH) or [""]
    strong = "muted" if entry.kind in ("progress", "sampled") else ""
    return [
        line((f"{clock} ", "muted"), (f"{glyph} ", style), (first, strong)),
        *(line((" " * _CLOCK_WIDTH, ""), (words, strong)) for words in more),
    ]
