"""Starts a run as a process of its own that needs no terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from engine.control import Feed
from engine.errors import RunError
from tui.terminal import say

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import TextIO

    from engine.runs import RunDirectory

LOOK_SECONDS = 0.1
_STARTED = b'{"event": "started"'


def start_in_background(words: Sequence[str], run: RunDirectory, told: TextIO) -> int:
    """Start ``lora-tui run …`` in the background, and wait until it trains.

    Args:
        words: the arguments of ``run``.
        run: where it trains.
        told: who hears how the loading goes.

    Returns:
        The number of the process.

    Raises:
        RunError: when it ended before its first step, with what it said.
    """
    journal = _Journal(run.journal_file)
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            # Not from the working directory, where anything may be called tui.
            [sys.executable, "-P", "-m", "tui", "run", *words, "--background"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        said = 0
        while not journal.is_started():
            code = process.poll()
            text, said = _new_text(output, said)
            if code is not None:
                raise RunError(text.strip() or f"The background process ended with {code}.")
            if text:
                say(text.rstrip("\n"), told)
            time.sleep(LOOK_SECONDS)
    # It outlives this process: nobody is going to wait for it.
    process.returncode = 0
    return process.pid


def watching_words(run: RunDirectory, name: str, process: int) -> str:
    """Say where a run went, and how to see it again."""
    return (
        f"{run.name} trains in the background, as process {process}.\n"
        f"Watch it: lora-tui attach {name}\n"
        f"How it stands: lora-tui status {name}\n"
        f"Stop it, saved: lora-tui stop {name}"
    )


class _Journal:
    """What is new in a journal that may not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = -1 if path.exists() else 0
        self._feed: Feed | None = None
        self._open()

    def is_started(self) -> bool:
        """Whether a run has begun since; the journal is let go of then."""
        if self._feed is None:
            self._open()
        while self._feed is not None and (lines := self._feed.read()):
            if any(line.startswith(_STARTED) for line in lines.splitlines()):
                self._feed.close()
                return True
        return False

    def _open(self) -> None:
        with suppress(FileNotFoundError):
            self._feed = Feed(self._path, self._start)


def _new_text(output: IO[bytes], said: int) -> tuple[str, int]:
    """Return what was written since; not by reading, which would move the writer's place."""
    data = os.pread(output.fileno(), os.fstat(output.fileno()).st_size - said, said)
    return data.decode(errors="replace"), said + len(data)
