"""A window of tmux with ``lora-tui`` in it, and what the program leaves of the terminal."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.cli.program import ROOT, environment
from tests.tmux import Terminal

if TYPE_CHECKING:
    import signal

PROGRAM = str(Path(sys.executable).with_name("lora-tui"))


class Window(Terminal):
    """Runs ``lora-tui`` with arguments as a shell would."""

    def __init__(
        self, *arguments: str, home: Path, log: Path, size: tuple[int, int] = (80, 24)
    ) -> None:
        self._log = log
        command = shlex.join([PROGRAM, *arguments])
        # The exit code is the program's, which the shell shows last.
        line = f"{command}; code=$?; stty -a > {shlex.quote(str(log))}; (exit $code)"
        super().__init__(line, cwd=ROOT, environment=environment(home), size=size)

    @property
    def program(self) -> psutil.Process:
        """The process that runs in the window."""
        shell = psutil.Process(int(self._say("display-message", "-p", "#{pane_pid}")))
        (child,) = shell.children()
        return child

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size."""
        self._say("resize-window", "-x", str(columns), "-y", str(rows))

    def signal(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        self.program.send_signal(number)

    def assert_clean(self) -> None:
        """See that nothing of the program is left on the terminal."""
        flags = "#{alternate_on} #{cursor_flag} #{mouse_any_flag} #{bracket_paste_flag}"
        state = self._say("display-message", "-p", flags.replace(" #{bracket_paste_flag}", ""))
        assert state.split() == ["0", "1", "0"], f"alternate screen, cursor, mouse: {state}"
        settings = self._log.read_text(encoding="utf-8").replace(";", " ").split()
        assert {"echo", "icanon", "isig", "opost"} <= set(settings), settings
