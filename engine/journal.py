"""The run's append-only event log: one event a line, and reading it back while it grows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, BinaryIO

from engine import events as ev

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Journal:
    """Appends events to a file, each line in one write."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("ab", buffering=0)

    def append(self, event: ev.Event) -> None:
        """Write one event.

        Raises:
            OSError: when it cannot be written.
        """
        self._file.write(ev.to_json(event).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class JournalReader:
    """Reads a journal from wherever it stopped last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> Iterator[ev.Event]:
        """Yield the events that are whole and not read yet; a line cut short waits for its end.

        Lines that are no event, of a newer version or damaged, are passed over.

        Raises:
            OSError: when the file is there and cannot be read.
        """
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                if (event := _parse(line)) is not None:
                    yield event


def read_journal(path: Path) -> list[ev.Event]:
    """Return all whole events of a journal.

    Raises:
        OSError: when the file is there and cannot be read.
    """
    return list(JournalReader(path).read())


def _parse(line: bytes) -> ev.Event | None:
    try:
        values = json.loads(line)
        return ev.from_dict(values) if isinstance(values, dict) else None
    except (ValueError, TypeError):
        return None
