"""How near the machine is to memory pressure. Pure functions of what the systems report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.events import Pressure

MAC_YELLOW_SHARE = 0.5
"""xnu's VM_PAGE_COMPRESSOR_COMPACT_THRESHOLD, as a share of the memory that is not wired."""

_MAC_LEVELS: dict[int | None, Pressure] = {1: "green", 2: "yellow", 4: "red"}

PSI_SOME_YELLOW = 10.0
"""Percent: a second in ten lost by some task. A healthy machine shows 0 to 1."""
PSI_FULL_RED = 20.0
"""Percent: a fifth of the time nothing at all runs, as in thrashing."""

_MIB = 1 << 20
_YELLOW_LEFT = (0.10, 1024 * _MIB)
_RED_LEFT = (0.04, 400 * _MIB)


@dataclass(frozen=True, slots=True)
class Room:
    """A limit on memory and what is used of it, in bytes."""

    limit: int
    used: int

    @property
    def left(self) -> int:
        """What may still be used."""
        return max(self.limit - self.used, 0)


def mac_pressure(level: int | None) -> Pressure | None:
    """Return the colour of ``kern.memorystatus_vm_pressure_level``; None for an unknown value.

    The sysctl speaks libdispatch's numbers: 1 normal, 2 warning, 4 critical.
    """
    return _MAC_LEVELS.get(level)


def mac_to_yellow(level: Pressure | None, uncompressed: int, compressor: int) -> float | None:
    """Return the share of the way still left to yellow on macOS.

    Args:
        level: the kernel's own verdict. It leaves yellow only at 1.2 times the threshold that
            entered it, so while it is not green nothing is left whatever the pages say.
        uncompressed: active + inactive + free + speculative pages (or bytes).
        compressor: pages that the compressor occupies.

    Source: xnu, doc/vm/memorystatus_notify.md and osfmk/vm/vm_pageout.c. Normal turns to warning
    when AVAILABLE_NON_COMPRESSED_MEMORY falls below half of itself plus the compressor's pages
    (macOS divisor 20). ``kern.memorystatus_level`` divides by all memory, wired included, so its
    50 % is not the threshold.
    """
    if level in ("yellow", "red"):
        return 0.0
    total = uncompressed + compressor
    if total <= 0:
        return None
    return _share((uncompressed / total - MAC_YELLOW_SHARE) / (1 - MAC_YELLOW_SHARE))


def linux_pressure(
    psi_some: float | None, psi_full: float | None, rooms: Sequence[Room]
) -> Pressure | None:
    """Grade Linux's memory pressure; None when nothing is known.

    Yellow: PSI some avg10 of 10 % or more, or the tightest room has no more left than 10 % of its
    limit (1 GiB at most). Red: PSI full avg10 of 20 % or more, or no more left than 4 % (400 MiB
    at most). Linux has no verdict of its own. The thresholds are ours: PSI's are far below the
    60 % at which systemd-oomd kills, the rooms' leave space to write a checkpoint.

    Args:
        psi_some: percent of the last 10 seconds, from ``/proc/pressure/memory``.
        psi_full: the same, for every task at once.
        rooms: the machine's memory and each cgroup limit above this process.
    """
    if psi_some is None and psi_full is None and not rooms:
        return None
    if (psi_full or 0.0) >= PSI_FULL_RED or any(r.left <= _kept(r, _RED_LEFT) for r in rooms):
        return "red"
    if (psi_some or 0.0) >= PSI_SOME_YELLOW or any(r.left <= _kept(r, _YELLOW_LEFT) for r in rooms):
        return "yellow"
    return "green"


def linux_to_yellow(
    psi_some: float | None, psi_full: float | None, rooms: Sequence[Room]
) -> float | None:
    """Return the share of the way left to what ``linux_pressure`` calls yellow; None if unknown.

    The least of: PSI's way from 0 to its threshold, each room's way from empty to its threshold.
    """
    pressure = linux_pressure(psi_some, psi_full, rooms)
    if pressure != "green":
        return None if pressure is None else 0.0
    ways = [
        (room.left - _kept(room, _YELLOW_LEFT)) / (room.limit - _kept(room, _YELLOW_LEFT))
        for room in rooms
    ]
    if psi_some is not None:
        ways.append(1 - psi_some / PSI_SOME_YELLOW)
    return _share(min(ways, default=1.0))


def _kept(room: Room, left: tuple[float, int]) -> float:
    share, most = left
    return min(share * room.limit, most)


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)
