"""Lets one process at a time train a run.

The operating system holds the lock as long as the process lives, so that one that died, however it
died, leaves nothing to clean. A copied run directory has a copy of the file, but not of the lock.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from engine.errors import RunBusyError, RunError

if TYPE_CHECKING:
    from pathlib import Path

_TRIES, _TRY_SECONDS = 20, 0.05
"""Who only asks whether a lock is held takes it for an instant."""


class RunLock:
    """A run's lock, taken once and held until it is released or the process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock, unless this object has it already.

        Raises:
            RunBusyError: when another process, or another run in this one, has it.
            RunError: when the file cannot be written.
        """
        if self._handle is not None:
            return
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _not_writable(self._path, error) from error
        for last in (*[False] * (_TRIES - 1), True):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if last:
                    os.close(handle)
                    raise _busy(self._path) from error
                time.sleep(_TRY_SECONDS)
            except OSError as error:
                os.close(handle)
                raise _not_writable(self._path, error) from error
        self._handle = handle
        # Only words for a person; a full disk may leave them out.
        with suppress(OSError):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back, if this object has it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def is_held(path: Path) -> bool:
    """Whether a living process trains the run."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def holder(path: Path) -> str:
    """Return who holds the lock, in words."""
    try:
        number = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        number = ""
    return f"process {number}" if number.isdigit() else "another process"


def check_free(path: Path) -> None:
    """Check that nobody trains the run.

    Raises:
        RunBusyError: when somebody does.
    """
    if is_held(path):
        raise _busy(path)


def _busy(path: Path) -> RunBusyError:
    return RunBusyError(
        f"{path.parent.name} is being trained by {holder(path)}.",
        "Only one process at a time can train a run. Stop that one first.",
    )


def _not_writable(path: Path, error: OSError) -> RunError:
    return RunError(
        f"The run's folder {path.parent} cannot be written: {error.strerror}.",
        "Make it writable, or copy it to a folder that is and resume it there.",
    )
