"""Looks at a Linux machine: /proc, /sys and the control groups. No subprocess, no root."""

from __future__ import annotations

import os
import re
import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.host.cgroup import Cgroups
from engine.host.linux_files import folders, table, text
from engine.host.linux_power import Heat, display_awake, lid_closed, power
from engine.host.pressure import Room, linux_pressure, linux_to_yellow
from engine.host.sample import HostSample, disk_free

if TYPE_CHECKING:
    from collections.abc import Callable

_PSS_SHARE = 0.003
"""Of one core, for walking this process's pages: 12 ms for 3 GB in small pages (measured)."""
_AVG10 = re.compile(r"(some|full) avg10=(\d+\.\d+)\b")
_WIRED = ("Unevictable", "SUnreclaim", "KernelStack", "PageTables", "Percpu")


class Psi(NamedTuple):
    """Percent of the last 10 seconds lost waiting for memory; None is unknown."""

    some: float | None = None
    full: float | None = None


def read_psi(path: Path) -> Psi:
    """Return a pressure file's ``avg10`` figures.

    Source: ``/proc/pressure/memory`` or a group's ``memory.pressure``, lines such as
    ``some avg10=0.00 avg60=0.00 avg300=0.00 total=0``; Documentation/accounting/psi.rst.
    """
    found: dict[str, float] = {}
    for line in (text(path) or "").splitlines():
        match = _AVG10.match(line)
        if match:
            found[match[1]] = float(match[2])
    return Psi(found.get("some"), found.get("full"))


class Footprint:
    """This process's memory as macOS would count it: its share of pages, swapped ones included."""

    def __init__(self, process: Path, seconds: Callable[[], float] = clock.perf_counter) -> None:
        """Read the process's folder in ``/proc``; ``seconds`` times how long that takes."""
        self._process = process
        self._seconds = seconds
        self._exact: int | None = None
        self._quick_then = 0
        self._next = 0.0

    def read(self) -> tuple[int | None, int | None]:
        """Return the footprint and the highest resident size so far, in bytes.

        Source: Pss + SwapPss of ``smaps_rollup``, which makes the kernel walk every page. So it is
        read only as often as ``_PSS_SHARE`` of the time allows; in between the change in
        VmRSS + VmSwap of ``status`` is added. Without it those two are all there is.
        """
        status = table(self._process / "status")
        rss = status.get("VmRSS")
        if rss is None:
            return None, None
        quick = rss + status.get("VmSwap", 0)
        began = self._seconds()
        if began >= self._next:
            self._exact, self._quick_then = self._walk(), quick
            ended = self._seconds()
            self._next = ended + (ended - began) / _PSS_SHARE
        now = quick if self._exact is None else max(self._exact + quick - self._quick_then, 0)
        return now, status.get("VmHWM")

    def _walk(self) -> int | None:
        rollup = table(self._process / "smaps_rollup")
        pss = rollup.get("Pss")
        return None if pss is None else pss + rollup.get("SwapPss", 0)


class LinuxHost:
    """Reads everything that one look at a Linux machine can tell."""

    def __init__(self, folder: Path, root: Path = Path("/"), page_bytes: int | None = None) -> None:
        """Find what there is to read.

        Args:
            folder: whose disk is watched.
            root: where ``proc`` and ``sys`` lie; a test gives a recorded tree.
            page_bytes: the size of a page; the running system's by default.
        """
        self._folder = folder
        self._root = root
        self._page = page_bytes or os.sysconf("SC_PAGE_SIZE")
        self._cgroups = Cgroups(root)
        self._heat = Heat(root)
        self._footprint = Footprint(root / "proc/self")
        self._zram = folders(root / "sys/block", "zram*/mm_stat")

    def read(self, time: float) -> HostSample:
        """Look at the machine once; what did not answer is None."""
        memory, counters = table(self._root / "proc/meminfo"), table(self._root / "proc/vmstat")
        psi, limits = self._psi(), self._cgroups.rooms()
        rooms = [*limits, *_machine_room(memory)]
        tightest = min(limits, key=lambda room: room.left, default=None)
        supply = power(self._root)
        footprint, peak = self._footprint.read()
        return HostSample(
            time=time,
            pressure=linux_pressure(psi.some, psi.full, rooms),
            to_yellow=linux_to_yellow(psi.some, psi.full, rooms),
            memory_total_bytes=memory.get("MemTotal"),
            available_bytes=min((room.left for room in rooms), default=None),
            swap_used_bytes=_difference(memory, "SwapTotal", "SwapFree"),
            swapped_in_bytes=_times(counters.get("pswpin"), self._page),
            swapped_out_bytes=_times(counters.get("pswpout"), self._page),
            compressor_bytes=self._compressed(memory),
            wired_bytes=_sum([memory[name] for name in _WIRED if name in memory]),
            footprint_bytes=footprint,
            footprint_peak_bytes=peak,
            thermal=self._heat.level(),
            on_battery=supply.on_battery,
            battery_percent=supply.battery_percent,
            lid_closed=lid_closed(self._root),
            display_awake=display_awake(self._root),
            disk_free_bytes=disk_free(self._folder),
            psi_some_avg10=psi.some,
            psi_full_avg10=psi.full,
            cgroup_limit_bytes=tightest and tightest.limit,
            cgroup_used_bytes=tightest and tightest.used,
        )

    def _psi(self) -> Psi:
        """The worse of the machine's and this process's own group's pressure.

        A group at its limit may suffer alone; a machine may suffer from others.
        """
        machine = read_psi(self._root / "proc/pressure/memory")
        group = self._cgroups.own()
        ours = Psi() if group is None else read_psi(group / "memory.pressure")
        return Psi(_most(machine.some, ours.some), _most(machine.full, ours.full))

    def _compressed(self, memory: dict[str, int]) -> int | None:
        """Memory that zswap and zram hold; None where the kernel has neither.

        Source: ``Zswap`` of meminfo; the third number of ``/sys/block/zram*/mm_stat``.
        """
        parts = [memory["Zswap"]] if "Zswap" in memory else []
        for path in self._zram:
            words = (text(path) or "").split()
            if len(words) > 2 and words[2].isdigit():
                parts.append(int(words[2]))
        return _sum(parts)


def _machine_room(memory: dict[str, int]) -> list[Room]:
    total, available = memory.get("MemTotal"), memory.get("MemAvailable")
    return [] if not total or available is None else [Room(total, total - available)]


def _sum(parts: list[int]) -> int | None:
    return sum(parts) if parts else None


def _most(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _difference(values: dict[str, int], whole: str, part: str) -> int | None:
    return values[whole] - values[part] if whole in values and part in values else None


def _times(count: int | None, size: int) -> int | None:
    return None if count is None else count * size
