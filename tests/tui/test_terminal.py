"""In a real terminal: every way out saves, gives its exit code and leaves the terminal clean."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TRAINING = b"epoch"
LEFT_SCREEN, CURSOR_SHOWN, MOUSE_OFF = b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1003l"


class Terminal:
    """A terminal of 80 by 24 with a scripted run played in it."""

    def __init__(self, *, controls_job: bool = True) -> None:
        self.near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.attributes = termios.tcgetattr(far)
        self.far = far
        self.program = subprocess.Popen(
            [sys.executable, "-m", "tests.tui.play", "--stage", "0.05"],
            cwd=ROOT, stdin=far, stdout=far, stderr=far, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
            preexec_fn=(lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) if controls_job else None,
        )  # fmt: skip
        self.output = b""

    def read_until(self, words: bytes, seconds: float = 15) -> None:
        end = time.monotonic() + seconds
        while words not in self.output and time.monotonic() < end:
            if select.select([self.near], [], [], 0.05)[0]:
                self.output += os.read(self.near, 65536)
        assert words in self.output

    def press(self, keys: bytes) -> None:
        self.output = b""
        os.write(self.near, keys)

    def hang_up(self) -> None:
        os.close(self.far)
        os.close(self.near)
        self.near = self.far = -1

    def close(self) -> None:
        if self.program.poll() is None:
            self.program.kill()
        self.program.wait()
        for end in (self.near, self.far):
            if end >= 0:
                os.close(end)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.close()


def assert_left_clean(terminal: Terminal) -> None:
    for sequence in (LEFT_SCREEN, CURSOR_SHOWN, MOUSE_OFF):
        assert sequence in terminal.output
    assert termios.tcgetattr(terminal.far) == terminal.attributes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_saves_and_leaves_clean(terminal: Terminal, number: signal.Signals) -> None:
    terminal.read_until(TRAINING)
    terminal.program.send_signal(number)
    terminal.read_until(f"asked: start, stop: signal {number.name}\r\n".encode())
    assert terminal.program.wait(5) == 128 + number
    assert_left_clean(terminal)


def test_keys_quit_after_asking(terminal: Terminal) -> None:
    terminal.read_until(TRAINING)
    terminal.press(b"q")
    terminal.read_until(b"stop, save and leave")
    terminal.press(b"s")
    terminal.read_until(b"asked: start, stop: asked\r\n")
    assert terminal.program.wait(5) == 0
    assert_left_clean(terminal)


def test_suspending_gives_the_shell_back_and_coming_back_goes_on(terminal: Terminal) -> None:
    terminal.read_until(TRAINING)
    terminal.press(b"\x1a")
    terminal.read_until(b"lora-tui is suspended, and training with it")
    _, status = os.waitpid(terminal.program.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    assert LEFT_SCREEN in terminal.output
    terminal.output = b""
    terminal.program.send_signal(signal.SIGCONT)
    terminal.read_until(b"stood still while")
    terminal.press(b"c")
    terminal.program.send_signal(signal.SIGTERM)
    assert terminal.program.wait(5) == 128 + signal.SIGTERM


@pytest.mark.parametrize("controls_job", [True, False])
def test_a_closed_terminal_ends_the_program(*, controls_job: bool) -> None:
    terminal = Terminal(controls_job=controls_job)
    try:
        terminal.read_until(TRAINING)
        terminal.hang_up()
        # With a controlling terminal comes SIGHUP; without one the app has to notice by itself.
        assert terminal.program.wait(6) is not None
    finally:
        terminal.close()
