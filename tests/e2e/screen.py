"""A program in a terminal of its own, with the moment at which each thing was shown."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

KEPT = 200_000
"""Characters: a screen is drawn many times in a run, and only the newest is looked at."""
TOLD = 2000
"""Characters of it that a failure tells."""
ESCAPES = re.compile(r"\x1b(?:\[[0-9;?<>=]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[=>78])")


class Screen:
    """Starts a program; ``text`` is what it wrote since the last key, without escape sequences."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        size: tuple[int, int] = (100, 30),
    ) -> None:
        self._master, slave = pty.openpty()
        columns, rows = size
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.started = time.perf_counter()
        # In a session without a controlling terminal: closing this one sends no SIGHUP.
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=dict(environment) | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(slave)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._raw = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.close()

    @property
    def text(self) -> str:
        """What was written since the last key."""
        return ESCAPES.sub("", self._raw)

    def close(self) -> None:
        """Close the terminal under the program."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def press(self, keys: str, after: float = 0.0) -> float:
        """Press keys, some seconds from now in which the screen is read on, and return when."""
        end = time.perf_counter() + after
        while select.select([self._master], [], [], max(0.0, end - time.perf_counter()))[0]:
            self._read()
        self._raw = ""
        pressed = time.perf_counter()
        os.write(self._master, keys.encode())
        return pressed

    def wait_for(self, shown: str | Callable[[str], object], seconds: float) -> float:
        """Read until something was written, and return when.

        Raises:
            AssertionError: with all that was written, when it does not come in time.
            EOFError: when the program ended before.
        """
        end = time.perf_counter() + seconds
        while True:
            now = time.perf_counter()
            if (shown in self.text) if isinstance(shown, str) else shown(self.text):
                return now
            assert now < end, f"not shown within {seconds:g} s: {shown!r}; {self.text[-TOLD:]}"
            if select.select([self._master], [], [], end - now)[0]:
                self._read()

    def end(self, seconds: float) -> int:
        """Read to the end and return the exit code."""
        try:
            self.wait_for(lambda _: False, seconds)
        except EOFError:
            return self.process.wait(seconds)
        raise AssertionError("unreachable")

    def _read(self) -> None:
        try:
            chunk = os.read(self._master, 65536)
        except OSError:
            # Linux's way to say that nobody holds the terminal any more.
            chunk = b""
        if not chunk:
            raise EOFError(f"it ended: {self.text[-TOLD:]}")
        self._raw = (self._raw + self._decoder.decode(chunk))[-KEPT:]
