"""Keeps the machine from going to sleep while it trains. The display may sleep, and should."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_STOP_SECONDS = 2.0
SYSTEMD = Path("/run/systemd/system")
"""Is there where systemd runs the machine."""


class KeepAwake:
    """Holds the system awake between entering and leaving; does nothing where it cannot.

    A child process holds it. It ends with the process it was made for, even when that is killed.
    """

    def __init__(self, pid: int, platform: str = sys.platform) -> None:
        """Prepare to hold the system awake as long as ``pid`` lives, with ``platform``'s tool."""
        self._platform = platform
        self._command = _command(pid, platform)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def is_awake(self) -> bool:
        """Whether nothing puts the machine to sleep by itself: it is held, or nothing could.

        On Linux systemd does, where it runs. Source: sd_booted(3).
        """
        could_sleep = self._platform != "linux" or SYSTEMD.is_dir()
        return self.method is not None or not could_sleep

    @property
    def method(self) -> str | None:
        """The tool that holds the system awake now; None when nothing does.

        A tool that is refused (no session bus, no rights) ends within moments of entering.
        """
        if self._child is None or self._child.poll() is not None:
            return None
        return self._command[0]

    def __enter__(self) -> Self:
        path = shutil.which(self._command[0]) if self._command else None
        if path is not None:
            # A program that vanished or may not run leaves the machine as it was.
            with contextlib.suppress(OSError):
                self._child = subprocess.Popen(
                    [path, *self._command[1:]],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            # The child leads its own group, so this also ends what it started.
            with contextlib.suppress(OSError):
                os.killpg(child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_STOP_SECONDS)
                return


def keep_awake(pid: int | None = None) -> KeepAwake:
    """Return a context manager that keeps this machine awake; it never raises.

    macOS: ``caffeinate -is``, without ``-d``: a lit display lets the GPU watchdog end long kernels.
    ``-s`` counts on mains only, and a closed lid sleeps all the same. Linux: ``systemd-inhibit``.

    Args:
        pid: whose end also ends it; this process by default.
    """
    return KeepAwake(os.getpid() if pid is None else pid)


def sleep_warning(on_battery: bool | None, lid_closed: bool | None, method: str | None) -> str:
    """Say how the machine may still go to sleep, and what to do; empty when it should not."""
    if lid_closed and on_battery:
        return "The lid is closed on battery: the machine will sleep. Open it or plug it in."
    if lid_closed:
        return "The lid is closed: without an external display the machine will sleep. Open it."
    if on_battery:
        return "On battery: closing the lid or an empty battery stops the run. Plug it in."
    if method is None:
        return "Nothing keeps the machine awake. Switch automatic sleep off in its settings."
    return ""


def _command(pid: int, platform: str) -> list[str]:
    if platform == "darwin":
        return ["caffeinate", "-is", "-w", str(pid)]
    if platform == "linux":
        # systemd-inhibit holds as long as its command runs, and cannot wait for a process itself.
        wait = f"while kill -0 {pid} 2>/dev/null; do sleep 5; done"
        reason = ["--who=lora-tui", "--why=A model is being trained"]
        return ["systemd-inhibit", "--what=idle:sleep", *reason, "sh", "-c", wait]
    return []
