"""A real terminal for tests: what a program shows in it, and keys pressed in it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

HAS_TMUX = shutil.which("tmux") is not None
NEEDS_TMUX = "a real terminal needs tmux"
LOOK_SECONDS = 0.1
HIDDEN = ("NO_COLOR", "TMUX", "TMUX_PANE")
"""What a shell in a window of its own would not have."""


class Terminal:
    """A window of tmux with one command in it, on a server of its own."""

    def __init__(
        self,
        command: Sequence[str] | str,
        *,
        cwd: Path,
        environment: Mapping[str, str],
        size: tuple[int, int] = (80, 24),
    ) -> None:
        line = command if isinstance(command, str) else shlex.join(command)
        self._tmux = ["tmux", "-L", f"lora-tui-{uuid.uuid4().hex[:8]}", "-u", "-f", "/dev/null"]
        self._environment = {k: v for k, v in environment.items() if k not in HIDDEN}
        columns, rows = (str(number) for number in size)
        # The window stays when the command is over, so that its last words can be read.
        self._say(
            "new-session", "-d", "-x", columns, "-y", rows, "-c", str(cwd),
            f"{line}; echo \"exit code $?\"; exec sleep 600",
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._say("kill-server", check=False)

    @property
    def screen(self) -> str:
        """What is on the screen now."""
        return self._say("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        """Press keys, in tmux's names."""
        self._say("send-keys", *keys)

    def wait_for(self, text: str, seconds: float) -> str:
        """Return the screen once it shows a text.

        Raises:
            AssertionError: with the screen, when it does not in time.
        """
        return self.wait_until(lambda screen: text in screen, seconds, f"no {text!r}")

    def wait_until(self, is_so: Callable[[str], object], seconds: float, otherwise: str) -> str:
        """Return the screen once something is so about it.

        Raises:
            AssertionError: with the screen, when it is not so in time.
        """
        end = time.monotonic() + seconds
        while not is_so(screen := self.screen):
            assert time.monotonic() < end, f"{otherwise} within {seconds:g} s:\n{screen}"
            time.sleep(LOOK_SECONDS)
        return screen

    def _say(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            [*self._tmux, *words],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=check,
            text=True,
        )
        return done.stdout
