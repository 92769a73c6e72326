"""Hands out a journal's lines from any of them on, as one reader is able to take them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine import events as ev

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

CHUNK_BYTES = 65_536


class Feed:
    """One reader's place in a journal that grows.

    It reads the file itself, so that a reader, however far behind, costs no memory and the trainer
    no time. Only what a full disk keeps out of the journal comes from memory.
    """

    def __init__(
        self, path: Path, start: int, unwritten: Callable[[], Sequence[ev.Event]] = tuple
    ) -> None:
        """Open the journal.

        Args:
            path: the journal.
            start: the line to begin with, counted from 0; -1 for the first that is not there yet.
            unwritten: events that wait to be written.

        Raises:
            OSError: when it cannot be read.
        """
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._unwritten = unwritten
        self._offset = 0
        self._line = 0
        """The line at the offset."""
        self.next_line = start
        """The line that is handed out next."""
        if start < 0:
            self._go_to_end()

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def read(self) -> bytes:
        """Return the next whole lines, some 64 KB at most; nothing when there is nothing new.

        Raises:
            OSError: when the journal cannot be read.
        """
        while whole := self._whole_lines():
            count = whole.count(b"\n")
            behind = self.next_line - self._line
            self._offset += len(whole)
            self._line += count
            if behind >= count:
                continue
            if behind > 0:
                whole = b"".join(whole.splitlines(keepends=True)[behind:])
            self.next_line = self._line
            return whole
        return self._waiting()

    def _whole_lines(self) -> bytes:
        """What follows the offset, without a line that is not whole: that may be taken back."""
        size = CHUNK_BYTES
        while True:
            chunk = os.pread(self._file, size, self._offset)
            end = chunk.rfind(b"\n") + 1
            if end or len(chunk) < size:
                return chunk[:end]
            size *= 2

    def _waiting(self) -> bytes:
        waiting = self._unwritten()
        # Otherwise some of them were written meanwhile, and come from there.
        if not waiting or os.fstat(self._file).st_size != self._offset:
            return b""
        new = waiting[max(0, self.next_line - self._line) :]
        self.next_line += len(new)
        return b"".join(ev.to_json(event).encode() + b"\n" for event in new)

    def _go_to_end(self) -> None:
        while whole := self._whole_lines():
            self._offset += len(whole)
            self._line += whole.count(b"\n")
        self.next_line = self._line + len(self._unwritten())
