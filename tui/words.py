"""Turns bytes, seconds and counts into the words that people read."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from rich.cells import cell_len, chop_cells, set_cell_size

from engine.figures import DAY, HOUR, MINUTE, SIZE_UNITS, UNKNOWN
from engine.figures import clock as clock
from engine.figures import day as day
from engine.figures import duration as duration
from engine.figures import loss as loss
from engine.figures import significant as significant
from engine.figures import size as size

if TYPE_CHECKING:
    from engine.events import Progress

_STAMP = re.compile(r"^\d{4}-?\d{2}-?\d{2}-(?:\d{6}-)?")
_WITH_UNIT = re.compile(r"(\d) (s|min|h|d|%|[kMG]?B)\b")


def transfer(work: Progress) -> str:
    """Say how far a download is, or what keeps it: ``1.20 of 3.09 GB, 24.0 MB/s, 2 min left``."""
    if work.trouble or not work.total:
        return one_line(work.trouble)
    number, _, unit = size(work.total).rpartition(" ")
    scale = next((scale for scale, name in SIZE_UNITS if name == unit), 1)
    here = significant(work.done / scale) if scale > 1 else f"{work.done}"
    parts = [f"{here} of {number} {unit}"]
    if work.per_second:
        parts += [f"{size(work.per_second)}/s", f"{duration(work.seconds_left)} left"]
    return ", ".join(parts)


def tight_size(count: float | None) -> str:
    """Say a number of bytes in at most five characters: ``3.09G``, ``148M``."""
    return UNKNOWN if count is None else size(count).removesuffix("B").replace(" ", "")


def brief(seconds: float | None) -> str:
    """Say how long something takes in at most six characters: ``45 s``, ``12 min``, ``3 h``."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    return age(seconds) if seconds >= MINUTE else f"{max(0, int(seconds))} s"


def age(seconds: float) -> str:
    """Say how long ago in at most six characters: ``now``, ``22 min``, ``3 h``."""
    whole = max(0, int(seconds))
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if whole >= unit:
            return f"{whole // unit} {name}"
    return "now"


def short_count(value: float, figures: int = 3) -> str:
    """Say a count for an axis: ``500``, ``2k``, ``1.5M``."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.{figures}g}{name}"
    return f"{value:.{figures}g}"


def short_name(name: str) -> str:
    """Give a run's name without the date and time that its folder begins with."""
    return _STAMP.sub("", name) or name


def one_line(text: str) -> str:
    """Put a text on one line that cannot disturb the terminal."""
    return " ".join(printable(text).split())


def printable(line: str) -> str:
    """Take from a line what could disturb the terminal; its columns stay."""
    return "".join(c if c.isprintable() else " " for c in line).rstrip()


def shorten(text: str, width: int) -> str:
    """Cut a text to a width in cells, showing that something was cut."""
    if cell_len(text) <= width:
        return text
    return f"{set_cell_size(text, width - 1).rstrip()}…" if width > 0 else ""


def wrap(text: str, width: int) -> list[str]:
    """Break a text into rows at spaces, and inside a word only where it is wider than a row."""
    rows: list[str] = []
    row = ""
    # A number and its unit stay together.
    glued = _WITH_UNIT.sub("\\1\u00a0\\2", one_line(text))
    for word in filter(None, glued.split(" ")):
        *whole, rest = chop_cells(word, max(1, width))
        if row and (whole or cell_len(row) + 1 + cell_len(rest) > width):
            rows.append(row)
            row = ""
        rows.extend(whole)
        row = f"{row} {rest}" if row else rest
    return [row.replace("\u00a0", " ") for row in ([*rows, row] if row else rows)]
