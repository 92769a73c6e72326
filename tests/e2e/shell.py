"""A shell with jobs in a window of tmux: programs are typed, suspended and brought back there."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from tests.cli.program import ROOT, environment
from tests.e2e.window import PROGRAM
from tests.tmux import Terminal

if TYPE_CHECKING:
    from pathlib import Path

PROMPTS = ("$", "#")


class Shell(Terminal):
    """Types commands as a person does."""

    forbidden: str = ""
    """What the screen must never show."""

    def __init__(self, home: Path, *, size: tuple[int, int], site: Path | None = None) -> None:
        own = environment(home) | {"BASH_SILENCE_DEPRECATION_WARNING": "1"}
        if site is not None:
            own["PYTHONPATH"] = f"{site}:{own['PYTHONPATH']}"
        self._patience = 60.0
        super().__init__("bash --norc --noprofile -i", cwd=ROOT, environment=own, size=size)
        self._wait_for_prompt()

    @property
    def screen(self) -> str:
        """What is on the screen now."""
        screen = super().screen
        assert not self.forbidden or self.forbidden not in screen, screen
        return screen

    def _wait_for_prompt(self) -> str:
        return self.wait_until(
            lambda screen: screen.rstrip().endswith(PROMPTS), self._patience, "no prompt"
        )

    def start(self, *arguments: str) -> None:
        """Start ``lora-tui`` in the foreground, on an empty screen."""
        self.type(f"clear; {shlex.join([PROGRAM, *arguments])}")

    def type(self, line: str) -> None:
        """Type a line and enter."""
        self._say("send-keys", "-l", line)
        self.press("Enter")

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size."""
        self._say("resize-window", "-x", str(columns), "-y", str(rows))

    def wait_for_code(self, code: int) -> str:
        """Wait for the program's end, and see that it left the terminal as it found it."""
        words = self._wait_for_prompt()
        self.type("echo code $?; stty -a")
        told = self.wait_until(
            lambda screen: re.search(r"^code \d+\n[\s\S]*echo", screen, re.MULTILINE),
            self._patience,
            "no code",
        )
        assert f"\ncode {code}\n" in told, told
        assert "Traceback" not in words, words
        state = self._say(
            "display-message", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag}"
        )
        assert state.split() == ["0", "1", "0"], f"alternate screen, cursor, mouse: {state}"
        settings = set(told.replace(";", " ").split())
        assert {"echo", "icanon", "isig", "opost"} <= settings, settings
        return words
