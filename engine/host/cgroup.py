"""Finds the memory limits of the control groups above this process, version 1 or 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.host.linux_files import integer, table, text
from engine.host.pressure import Room

if TYPE_CHECKING:
    from pathlib import Path

_NO_LIMIT = 1 << 60
"""Version 1 writes "no limit" as the largest number of whole pages, just under 2**63."""


@dataclass(frozen=True, slots=True)
class _Names:
    """What the two versions call the same things."""

    limits: tuple[str, ...]
    used: str
    cache: tuple[str, ...]


_V1 = _Names(
    ("memory.limit_in_bytes",),
    "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)
# Above memory.high the kernel slows the group down, so that is its limit in practice.
_V2 = _Names(("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file"))


class Cgroups:
    """The groups from this process's own up to the root of what is mounted."""

    def __init__(self, root: Path) -> None:
        """Read below ``root``, which is ``/`` except in tests."""
        self._root = root
        self._membership: str | None = None
        self._names = _V2
        self._levels: list[Path] = []

    def rooms(self) -> list[Room]:
        """Return every group that has a limit, this process's own first.

        Used leaves out the file cache, which the kernel drops before it refuses memory; what is in
        constant use of it shows in PSI instead.
        Source: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
        """
        rooms = (self._room(level) for level in self._find())
        return [room for room in rooms if room is not None]

    def own(self) -> Path | None:
        """Return the folder of this process's own group; None without cgroups."""
        levels = self._find()
        return levels[0] if levels else None

    def _find(self) -> list[Path]:
        """The groups' folders, found anew only when the process was moved."""
        membership = text(self._root / "proc/self/cgroup")
        if membership != self._membership:
            self._membership = membership
            self._names, self._levels = self._locate(membership or "")
        return self._levels

    def _locate(self, membership: str) -> tuple[_Names, list[Path]]:
        lines = [line.split(":", 2) for line in membership.splitlines() if line.count(":") >= 2]
        for number, controllers, path in lines:
            if number == "0" and not controllers:
                levels = self._mounted("cgroup2", "", path)
                # In a mixed set-up version 2 is mounted too, but version 1 owns the memory.
                if any((level / _V2.used).exists() for level in levels):
                    return _V2, levels
        for _, controllers, path in lines:
            if "memory" in controllers.split(","):
                return _V1, self._mounted("cgroup", "memory", path)
        return _V2, []

    def _mounted(self, kind: str, controller: str, path: str) -> list[Path]:
        """The group's folder and its parents', inside the first mount of the kind.

        A container may see only a part of the hierarchy: mountinfo's fourth field says which
        group the mount's top is.
        """
        for line in (text(self._root / "proc/self/mountinfo") or "").splitlines():
            fields, _, rest = line.partition(" - ")
            words, types = fields.split(), rest.split()
            if len(words) < 5 or len(types) < 3 or types[0] != kind:
                continue
            if controller and controller not in types[2].split(","):
                continue
            top = self._root / words[4].lstrip("/")
            return _upwards(top, _below(path, words[3]))
        return []

    def _room(self, level: Path) -> Room | None:
        limits = [integer(level / name) for name in self._names.limits]
        limit = min((n for n in limits if n is not None and n < _NO_LIMIT), default=None)
        used = integer(level / self._names.used)
        if not limit or used is None:
            return None
        statistics = table(level / "memory.stat")
        cache = sum(statistics.get(name, 0) for name in self._names.cache)
        return Room(limit, max(used - cache, 0))


def _below(path: str, top: str) -> list[str]:
    """A group's path as seen from the group that is mounted; the top itself if it lies outside."""
    parts, above = path.strip("/").split("/"), top.strip("/").split("/")
    if above == [""]:
        above = []
    if parts[: len(above)] != above or ".." in parts:
        return []
    return [part for part in parts[len(above) :] if part]


def _upwards(top: Path, parts: list[str]) -> list[Path]:
    return [top.joinpath(*parts[:count]) for count in range(len(parts), -1, -1)]
