"""Writes files so that they appear whole and durable, or not at all."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

TEMPORARY = ".tmp-"
_OLD = "-old"


@contextmanager
def appearing(path: Path) -> Generator[Path, None, None]:
    """Give a temporary path to write to; it takes the real name, durably, when the block ends well.

    The temporary name keeps the suffix, which MLX's writers insist on.

    Raises:
        OSError: when the file cannot be made durable or renamed.
    """
    temporary = temporary_name(path)
    # A killed process of the same number may have left one that is a link to a file in use.
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def appearing_folder(path: Path) -> Generator[Path, None, None]:
    """Give a temporary folder to fill; it takes the real name, durably, when the block ends well.

    The files in it are the caller's to make durable.

    Raises:
        OSError: when the folder cannot be made durable or renamed.
    """
    temporary = temporary_name(path)
    old = temporary.with_name(f"{temporary.name}{_OLD}")
    for left in (temporary, old):
        shutil.rmtree(left, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        sync(temporary)
        # A folder with files in it cannot be replaced at once.
        if path.exists():
            path.rename(old)
        temporary.rename(path)
        sync(path.parent)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def temporary_name(path: Path) -> Path:
    """Return the name beside a path that this process writes under until the real one is taken."""
    return path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")


def put_back(path: Path) -> bool:
    """Give a folder its name back that a process was killed replacing; return whether it was one.

    Raises:
        OSError: when the system refuses.
    """
    match = re.fullmatch(rf"{re.escape(TEMPORARY)}\d+-(.+){_OLD}", path.name)
    if match is None or path.with_name(match[1]).exists():
        return False
    path.rename(path.with_name(match[1]))
    return True


def write_text(path: Path, text: str) -> None:
    """Write a small file so that it appears whole.

    Raises:
        OSError: when it cannot be written.
    """
    with appearing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Force a file or folder to the disk; on macOS ``fsync`` alone stops at the drive's cache.

    Raises:
        OSError: when the system refuses.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        if sys.platform == "darwin":
            try:
                fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
            except OSError:
                # Network shares and foreign file systems know only the common call.
                os.fsync(handle)
        else:
            os.fsync(handle)
    finally:
        os.close(handle)
