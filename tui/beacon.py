"""Tells those who do not look: the terminal's title, its progress, its bell.

Sequences: OSC 0 (title), CSI 22/23 t (keeps and restores it), OSC 9;4 (progress in a tab or dock,
from ConEmu; also Windows Terminal, Ghostty, WezTerm, iTerm2, Konsole), OSC 9 (notification).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tui.forecast import forecast
from tui.words import clock, one_line, short_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tui.watch import RunWatch

KEEP_TITLE, RESTORE_TITLE = "\x1b[22;0t", "\x1b[23;0t"
NO_PROGRESS = "\x1b]9;4;0\x07"
CLEAR = NO_PROGRESS + RESTORE_TITLE
"""What leaves the terminal as it was found."""
_NORMAL, _FAILED, _UNKNOWN, _PAUSED = 1, 2, 3, 4
_DUMB = ("dumb", "linux", "unknown", "")
_ITERM_WITH_PROGRESS = (3, 6, 6)
_FRESH_SECONDS = 60.0
"""What happened longer ago is no news."""
_ENDINGS = ("completed", "stopped", "aborted", "failed", "interrupted")


class Beacon:
    """Writes only what changed; each piece of news once."""

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        bell: bool = True,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._write = write
        self._bell = bell
        self._can_write = environment.get("TERM", "") not in _DUMB
        self._has_progress = shows_progress(environment)
        self._title = ""
        self._progress: str = ""
        self._told: set[str] = set()
        self._was_alive = False

    def show(self, watch: RunWatch) -> None:
        """Say how the run stands, if it stands differently."""
        self._was_alive = self._was_alive or watch.controls.is_alive()
        if not self._can_write:
            return
        title, progress = title_of(watch), progress_of(watch)
        written = ""
        if title != self._title:
            written += (KEEP_TITLE if not self._title else "") + f"\x1b]0;{title}\x07"
        if progress != self._progress and self._has_progress:
            written += progress
        self._title, self._progress = title, progress
        if self._was_alive:
            written += "".join(self._tell(kind, words) for kind, words in news_of(watch))
        if written:
            self._write(written)

    def clear(self) -> None:
        """Leave the terminal as it was found."""
        if self._title:
            self._write(CLEAR if self._has_progress else RESTORE_TITLE)
        self._title = self._progress = ""

    def _tell(self, kind: str, words: str) -> str:
        if kind in self._told:
            return ""
        self._told.add(kind)
        return f"\x07\x1b]9;{words}\x07" if self._bell else ""


def shows_progress(environment: Mapping[str, str]) -> bool:
    """Whether OSC 9;4 is safe here: iTerm2 before 3.6.6 takes it for a notification."""
    if environment.get("TERM_PROGRAM") != "iTerm.app":
        return environment.get("TERM", "") not in _DUMB
    parts = environment.get("TERM_PROGRAM_VERSION", "").split(".")
    version = tuple(int(part) for part in parts if part.isdigit())
    return version >= _ITERM_WITH_PROGRESS


def title_of(watch: RunWatch) -> str:
    """Give the title: how far and when done, then what."""
    view = watch.whole
    name = short_name(one_line(view.started.name)) if view.started else "lora-tui"
    standing = watch.standing
    if view.started is None or standing in ("loading", *_ENDINGS):
        return f"{standing} · {name}"
    percent = f"{int(100 * view.progress)} %"
    if standing == "paused":
        return f"{percent} · paused · {name}"
    left = forecast(watch)
    done = f" · {clock(watch.now + left.seconds, watch.today)}" if left else ""
    return f"{percent}{done} · {name}"


def progress_of(watch: RunWatch) -> str:
    """Give the sequence for a tab's or a dock's progress."""
    percent = int(100 * watch.whole.progress)
    match watch.standing:
        case "loading":
            return f"\x1b]9;4;{_UNKNOWN}\x07"
        case "paused":
            return f"\x1b]9;4;{_PAUSED};{percent}\x07"
        case "failed" | "aborted" | "interrupted":
            return f"\x1b]9;4;{_FAILED};{percent}\x07"
        case "completed" | "stopped":
            return NO_PROGRESS
        case _:
            return f"\x1b]9;4;{_NORMAL};{percent}\x07"


def news_of(watch: RunWatch) -> list[tuple[str, str]]:
    """Say what is worth a bell now: an end, a machine short of memory, a pause nobody asked for."""
    view, name = watch.whole, "lora-tui"
    if view.started:
        name = short_name(one_line(view.started.name))
    news: list[tuple[str, str]] = []
    last = view.ended.time if view.ended else watch.now
    if watch.standing in _ENDINGS and watch.today - last < _FRESH_SECONDS:
        news.append(("end", f"{name}: {watch.standing} at {view.iteration:,}"))
    host = view.host
    if host and host.pressure in ("yellow", "red") and watch.today - host.time < _FRESH_SECONDS:
        news.append((host.pressure, f"{name}: memory pressure is {host.pressure}"))
    if view.status == "paused" and view.paused_by == "guard":
        news.append(("pause", f"{name}: paused by the guard at {view.iteration:,}"))
    return news
