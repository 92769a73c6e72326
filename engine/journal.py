"""The run's append-only event log: one event a line, and reading it back while it grows."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from engine import events as ev

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

STEP, HOST, _BEGINNING = b'{"event": "step"', b'{"event": "host"', b'{"event": "started"'
"""How the lines begin that there are thousands of, and that of a process's first."""
_BLOCK_BYTES = 65_536
_COUNTED_BYTES = 1 << 20
_NEWEST_STEPS = 1_000


class Journal:
    """Appends events to a file, each line in one write. Only the run's own process opens it."""

    def __init__(self, path: Path) -> None:
        """Open it, without what a killed process left of its last line.

        Raises:
            OSError: when it cannot be read or written.
        """
        self._file: BinaryIO = path.open("a+b", buffering=0)
        self._end = _whole_bytes(self._file)
        if self._end < self._file.seek(0, os.SEEK_END):
            self._file.truncate(self._end)

    def append(self, event: ev.Event) -> None:
        """Write one event.

        Raises:
            OSError: when it cannot be written; nothing of it stays then.
        """
        line = ev.to_json(event).encode() + b"\n"
        # A disk that fills up takes a part of a line without complaint.
        if (written := self._file.write(line)) < len(line):
            self._file.truncate(self._end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
        self._end += written

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _whole_bytes(file: BinaryIO) -> int:
    """Return where the last whole line of a file ends."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        begin = max(0, end - _BLOCK_BYTES)
        file.seek(begin)
        at = file.read(end - begin).rfind(b"\n")
        if at >= 0:
            return begin + at + 1
        end = begin
    return 0


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
                if (event := parse_line(line)) is not None:
                    yield event


def read_journal(path: Path) -> list[ev.Event]:
    """Return all whole events of a journal.

    Raises:
        OSError: when the file is there and cannot be read.
    """
    return list(JournalReader(path).read())


def read_history(path: Path, host_samples: int) -> list[ev.Event]:
    """Return all that a screen shows of a run: of the host's samples only the newest few.

    Args:
        path: the journal.
        host_samples: how many of them.

    Raises:
        OSError: when the file is there and cannot be read.
    """
    return list(_read_history(path, _count(path), host_samples))


@dataclass(frozen=True, slots=True)
class Count:
    """The whole lines of a journal."""

    lines: int
    steps: int
    hosts: int


@dataclass(frozen=True, slots=True)
class Overview:
    """What a screen shows of a run at first sight."""

    events: list[ev.Event]
    count: Count
    """What the journal has, with what was not read."""
    is_whole: bool
    """Whether no steps were left out."""


def read_overview(path: Path, host_samples: int, most_steps: int) -> Overview:
    """Return what ``read_history`` does, but of a long run only so many steps.

    They lie evenly over the run, but for the newest, of which none is missing: they are what
    averages and rates are made of.

    Raises:
        OSError: when the file is there and cannot be read.
    """
    count = _count(path)
    newest = min(count.steps, _NEWEST_STEPS)
    stride = -(-(count.steps - newest) // max(1, most_steps - newest))
    events = list(_read_history(path, count, host_samples, max(1, stride)))
    return Overview(events, count, stride <= 1)


def read_details(path: Path, host_samples: int, count: Count) -> Generator[ev.Event]:
    """Yield what ``read_history`` returns of so many lines, one by one: it may take seconds.

    Raises:
        OSError: when the file is there and cannot be read.
    """
    return _read_history(path, count, host_samples)


def _count(path: Path) -> Count:
    """Count whole lines, in blocks: line by line takes several times as long."""
    lines = steps = hosts = 0
    if not path.exists():
        return Count(0, 0, 0)
    with path.open("rb") as file:
        # Every line begins behind another's end.
        rest = b"\n"
        while data := file.read(_COUNTED_BYTES):
            data = rest + data
            end = data.rfind(b"\n")
            lines += data.count(b"\n", 1, end + 1)
            steps += data.count(b"\n" + STEP, 0, end)
            hosts += data.count(b"\n" + HOST, 0, end)
            rest = data[end:]
    return Count(lines, steps, hosts)


def _read_history(
    path: Path, count: Count, host_samples: int, stride: int = 1
) -> Generator[ev.Event]:
    if not count.lines:
        return
    spare = count.hosts - host_samples
    older = count.steps - _NEWEST_STEPS
    at = 0
    for line in _whole_lines(path, count.lines):
        if line.startswith(HOST):
            spare -= 1
            if spare >= 0:
                continue
        elif line.startswith(STEP):
            at += 1
            if at <= older and at % stride:
                continue
        if (event := parse_line(line)) is not None:
            yield event


def _whole_lines(path: Path, most: int | None = None) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in islice(file, most):
            if not line.endswith(b"\n"):
                return
            yield line


def read_outline(path: Path) -> list[ev.Event]:
    """Return how a run stands and how it came there: no host samples and steps but the last ones.

    Much quicker than reading everything: the lines left out are most of a journal, and not parsed.

    Raises:
        OSError: when the file is there and cannot be read.
    """
    step = host = b""
    told: list[bytes] = []
    for line in _whole_lines(path):
        if line.startswith(STEP):
            step = line
        elif line.startswith(HOST):
            host = line
        else:
            told.append(line)
            if line.startswith(_BEGINNING):
                # The steps before it may be undone.
                step = b""
    events = [parse_line(line) for line in (*told, step, host)]
    return [event for event in events if event is not None]


def parse_line(line: bytes) -> ev.Event | None:
    """Return the event that a line holds; None when it holds none that this version knows."""
    try:
        values: Any = json.loads(line)
        return ev.from_dict(cast("dict[str, Any]", values)) if isinstance(values, dict) else None
    except (ValueError, TypeError):
        return None
