"""Turns bytes, seconds and losses into the figures that people read."""

from __future__ import annotations

import math
import time

UNKNOWN = "n/a"
SIZE_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
MINUTE, HOUR, DAY = 60, 3600, 86400


def size(count: float | None) -> str:
    """Say a number of bytes in at most seven characters: ``3.09 GB``, ``148 MB``."""
    if count is None:
        return UNKNOWN
    for unit, name in SIZE_UNITS:
        if abs(count) >= 0.9995 * unit:
            return f"{significant(count / unit)} {name}"
    return f"{count:.0f} B"


def significant(value: float) -> str:
    """Say a number with three figures, whole from a hundred on."""
    if not math.isfinite(value):
        return UNKNOWN
    magnitude = abs(value)
    if magnitude >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if magnitude >= 9.995 else f"{value:.2f}"


def duration(seconds: float | None) -> str:
    """Say how long something takes: ``45 s``, ``12 min``, ``3 h 12 min``, ``2 d 4 h``."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = max(0, round(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < 10 * MINUTE:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def loss(value: float | None) -> str:
    """Say a loss with the figures that matter."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0 or 0.01 <= abs(value) < 100:
        return f"{value:.3f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.1e}"


def clock(moment: float, now: float) -> str:
    """Say a time of day, with its weekday when it is not within a day of now."""
    near = abs(moment - now) < DAY
    return time.strftime("%H:%M" if near else "%a %H:%M", time.localtime(moment))


def day(moment: float, now: float) -> str:
    """Say when something was, in at most 11 characters: ``today 22:15``, ``Sat 14:02``."""
    then, today = time.localtime(moment), time.localtime(now)
    days = _days(today) - _days(then)
    if 0 <= days < 7:
        name = time.strftime("%a", then) if days else "today"
        return f"{name} {time.strftime('%H:%M', then)}"
    year = "" if then.tm_year == today.tm_year else f" {then.tm_year}"
    return f"{then.tm_mday} {time.strftime('%b', then)}{year}"


def _days(moment: time.struct_time) -> int:
    """Count days so that midnight here is where one ends."""
    return int(time.mktime((*moment[:3], 12, 0, 0, 0, 0, -1))) // DAY
