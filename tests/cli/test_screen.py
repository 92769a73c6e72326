"""With a terminal there is a dashboard; it keeps the screen to itself and leaves it clean."""

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
from typing import TYPE_CHECKING, Self

from tests.cli.program import PATIENCE, environment, files_under
from tests.tiny import make_tiny_data, write_rows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Tiny

ROWS, COLUMNS = 30, 100
LEAVES_SCREEN = "\x1b[?1049l"


class Screen:
    """A program in a terminal of its own; ``text`` is all that it wrote there."""

    def __init__(self, *arguments: str, home: Path, module: str = "tui") -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(home, {"TERM": "xterm-256color"}),
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read until a text was written.

        Raises:
            EOFError: when the program ended before.
        """
        while text not in self.text:
            if not self._read():
                raise EOFError(f"{text!r} never came: {self.text!r}")

    def end(self) -> int:
        """Read to the end and return the exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], PATIENCE)
        assert ready, f"silent for too long: {self.text!r}"
        try:
            chunk = os.read(self._master, 65536)
        except OSError:
            # Linux's way to say that nobody holds the terminal any more.
            return False
        self.text += chunk.decode(errors="replace")
        return bool(chunk)


def test_stray_output_goes_to_the_log_and_a_signal_saves(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny.config("screen", iters=1_000_000, val_batches=0)
    with Screen("run", config, home=tmp_path, module="tests.cli.noisy") as screen:
        screen.wait_for("tok/s")
        screen.process.send_signal(signal.SIGTERM)
        code = screen.end()
    assert code == 128 + signal.SIGTERM
    assert "NOISE" not in screen.text
    (log_file,) = tmp_path.glob("runs/*/log.txt")
    log = log_file.read_text(encoding="utf-8")
    for how in ("out", "err", "printed", "complained", "warned", "logged"):
        for when in ("early", "late"):
            assert f"NOISE {when} {how}" in log
    last_words = screen.text.rpartition(LEAVES_SCREEN)[2]
    assert "Stopped at" in last_words
    assert "signal SIGTERM" in last_words
    assert "Adapters: " in last_words


def test_bad_rows_are_told_after_the_screen_is_gone(tiny: Tiny, tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data")
    write_rows(data / "train.jsonl", ['{"text": "a"}', "{"])
    config = tiny.config("screen-bad", data=str(data))
    with Screen("run", config, home=tmp_path / "home") as screen:
        code = screen.end()
    assert code == 2
    last_words = screen.text.rpartition(LEAVES_SCREEN)[2]
    assert "Error: " in last_words
    assert "train.jsonl, line 2" in last_words.replace("\r\n", "")
    assert not files_under(tmp_path / "home")


def test_home_opens_and_closes(tmp_path: Path) -> None:
    with Screen(home=tmp_path / "home") as screen:
        screen.wait_for("New here?")
        screen.wait_for("cores")
        screen.type("q")
        assert screen.end() == 0
    assert screen.text.rpartition(LEAVES_SCREEN)[1]
    assert not (tmp_path / "home").exists()
