"""Rings the terminal where there is no dashboard that does: BEL, and OSC 9 for a notification."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

from engine.channels import APP, CannotCallError

if TYPE_CHECKING:
    from collections.abc import Mapping

DUMB = ("dumb", "linux", "unknown", "")
"""Terminals that would print a sequence instead of following it."""
_NOTIFYING = ("iTerm.app", "ghostty", "WezTerm")


class TerminalBell:
    """A channel (engine.channels) to whoever has the terminal in sight."""

    name = "the terminal"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @staticmethod
    def can_ring(stream: TextIO | None, environment: Mapping[str, str] = os.environ) -> bool:
        """Whether a stream is a terminal that rings."""
        if stream is None or environment.get("TERM", "") in DUMB:
            return False
        return stream.isatty()

    def open(self) -> None:
        """Nothing to make ready."""

    def send(self, title: str, text: str) -> None:
        """Ring, and say the title.

        Raises:
            CannotCallError: when the terminal is gone.
        """
        del text
        words = "".join(c for c in title.removeprefix(f"{APP}: ") if c.isprintable())
        try:
            self._stream.write(f"\x07\x1b]9;{words}\x07")
            self._stream.flush()
        except (OSError, ValueError) as error:
            raise CannotCallError("it is gone") from error


def shows_notifications(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the terminal is known to make a notification of OSC 9."""
    return environment.get("TERM_PROGRAM") in _NOTIFYING
