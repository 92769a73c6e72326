"""The socket in a run's folder: for its owner alone, also where the path is too long for one."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

_MOST_PATH_BYTES = 103 if sys.platform == "darwin" else 107
"""``sun_path`` less the zero at its end: 104 bytes on macOS, 108 on Linux."""
_ELSEWHERE = "lora-tui-"
_LOCAL_LEVEL, _LOCAL_PEERCRED, _XUCRED_BYTES = 0, 1, 76
"""``SOL_LOCAL`` and ``LOCAL_PEERCRED`` of macOS's ``sys/un.h``, which Python does not name."""


def listen(path: Path) -> socket.socket:
    """Make the socket and listen on it; what a dead process left there gives way.

    Where the path is too long, or its file system has no sockets, the socket is in a temporary
    folder of this user's, and the path is a link to it.

    Raises:
        OSError: when it cannot be made.
    """
    remove(path)
    if len(os.fsencode(path)) <= _MOST_PATH_BYTES:
        # A network share may know no sockets.
        with suppress(OSError):
            return _bound(path)
    folder = _short_folder()
    try:
        listening = _bound(folder / path.name)
        path.symlink_to(folder / path.name)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return listening


def remove(path: Path) -> None:
    """Remove the socket, and where its path is a link what that leads to."""
    with suppress(OSError):
        target = path.readlink()
        # Only what this program put there.
        if target.parent.name.startswith(_ELSEWHERE) and target.name == path.name:
            target.unlink(missing_ok=True)
            target.parent.rmdir()
    with suppress(OSError):
        path.unlink()


def connect(path: Path, timeout_seconds: float) -> socket.socket:
    """Connect to a run's socket.

    Raises:
        OSError: when nobody listens, or somebody else than this user does.
    """
    with suppress(OSError):
        path = path.readlink()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_seconds)
        connection.connect(str(path))
        if not is_same_user(connection):
            raise PermissionError(f"{path} belongs to another user")
    except OSError:
        connection.close()
        raise
    return connection


def is_same_user(connection: socket.socket) -> bool:
    """Whether the other end belongs to this process's user (``SO_PEERCRED``, ``LOCAL_PEERCRED``).

    Raises:
        OSError: when the system does not say.
    """
    if sys.platform == "darwin":
        # struct xucred: a version, then the user's number.
        told = connection.getsockopt(_LOCAL_LEVEL, _LOCAL_PEERCRED, _XUCRED_BYTES)
        (user,) = struct.unpack_from("I", told, 4)
    else:
        told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _process, user, _group = struct.unpack("iII", told)
    return user == os.geteuid()


def _bound(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        # Nobody can connect before it listens.
        path.chmod(0o600)
        listening.listen()
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _short_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix=_ELSEWHERE))
    if len(os.fsencode(folder)) + 20 > _MOST_PATH_BYTES:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=_ELSEWHERE, dir="/tmp"))
    return folder
