"""The run's append-only event log: one event a line, and reading it back while it grows."""

from __future__ import annotations

import errno
import json
import os
from collections import deque
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from engine import events as ev

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

STEP, HOST, _BEGINNING = b'{"event": "step"', b'{"event": "host"', b'{"event": "started"'
"""How the lines begin that there are thousands of, and that of a process's first."""
_BLOCK_BYTES = 65_536
_NEWEST_STEPS = 1_000
_NEWEST_SAMPLES, _SAMPLE_STRIDE = 120, 8
"""Of an overview's samples: how many of the newest are all there, and one of how many before."""
_Line = tuple[int, bytes]
"""Its number, and itself."""


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
    return list(read_details(path, host_samples, _count(path)))


@dataclass(frozen=True, slots=True)
class Count:
    """The whole lines of a journal."""

    lines: int
    hosts: int


@dataclass(frozen=True, slots=True)
class Overview:
    """What a screen shows of a run at first sight."""

    events: list[ev.Event]
    count: Count
    """What the journal has, with what was not read."""
    is_whole: bool
    """Whether nothing was left out."""


def read_overview(path: Path, host_samples: int, most_steps: int) -> Overview:
    """Return what ``read_history`` does, but of a long run only so many steps.

    They lie evenly over the run, but for the newest, of which none is missing: they are what
    averages and rates are made of. A step that stands for some takes as many times its seconds, so
    that times add up. Of the host's samples some are left out then, too.

    Raises:
        OSError: when the file is there and cannot be read.
    """
    told: list[_Line] = []
    steps = _Thinned(_NEWEST_STEPS, max(1, most_steps - _NEWEST_STEPS))
    hosts: deque[_Line] = deque(maxlen=host_samples)
    lines = samples = 0
    # Gone through once: it is what a screen waits for.
    for lines, line in enumerate(_whole_lines(path), 1):
        if line.startswith(HOST):
            samples += 1
            hosts.append((lines, line))
        elif line.startswith(STEP):
            steps.add((lines, line))
        else:
            told.append((lines, line))
    is_whole = steps.stride == 1
    samples_kept = list(hosts) if is_whole else _thin(list(hosts))
    chosen = sorted((*told, *steps.older, *steps.newest, *samples_kept))
    events = [event for _, line in chosen if (event := parse_line(line)) is not None]
    return Overview(_stretched(events), Count(lines, samples), is_whole)


def read_details(path: Path, host_samples: int, count: Count) -> Generator[ev.Event]:
    """Yield what ``read_history`` returns of so many lines, one by one: it may take seconds.

    Raises:
        OSError: when the file is there and cannot be read.
    """
    spare = count.hosts - host_samples
    for line in _whole_lines(path, count.lines):
        if line.startswith(HOST):
            spare -= 1
            if spare >= 0:
                continue
        if (event := parse_line(line)) is not None:
            yield event


def _stretched(events: list[ev.Event]) -> list[ev.Event]:
    before: int | None = None
    for at, event in enumerate(events):
        if isinstance(event, ev.Step):
            steps = 1 if before is None else event.iteration - before
            before = event.iteration
            # A run that went back did nothing in between.
            if steps > 1:
                events[at] = replace(event, seconds=steps * event.seconds)
    return events


class _Thinned:
    """Of lines that come one by one all of the newest, and of the older ones evenly so many."""

    def __init__(self, newest: int, older: int) -> None:
        self.newest: deque[_Line] = deque()
        self.older: list[_Line] = []
        self.stride = 1
        """Of how many older lines one is kept."""
        self._newest_most, self._older_most = newest, older
        self._older_seen = 0

    def add(self, line: _Line) -> None:
        self.newest.append(line)
        if len(self.newest) <= self._newest_most:
            return
        aged = self.newest.popleft()
        if self._older_seen % self.stride == 0:
            self.older.append(aged)
        self._older_seen += 1
        if len(self.older) > self._older_most:
            del self.older[1::2]
            self.stride *= 2


def _thin(samples: list[_Line]) -> list[_Line]:
    return samples[:-_NEWEST_SAMPLES:_SAMPLE_STRIDE] + samples[-_NEWEST_SAMPLES:]


def _count(path: Path) -> Count:
    lines = hosts = 0
    for line in _whole_lines(path):
        lines += 1
        hosts += line.startswith(HOST)
    return Count(lines, hosts)


def _whole_lines(path: Path, most: int | None = None) -> Iterator[bytes]:
    if not path.exists():
        return
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
