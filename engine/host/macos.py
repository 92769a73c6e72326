"""Looks at a Mac. All through system calls: no subprocess, no root."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from engine.host.mac_calls import Display, Kernel, Lid, Notification, VmStatistics, load_library
from engine.host.pressure import mac_pressure, mac_to_yellow
from engine.host.sample import HostSample, Thermal, disk_free

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable, Mapping
    from pathlib import Path

_THERMAL_KEY = "com.apple.system.thermalpressurelevel"
_THERMAL: tuple[Thermal, ...] = ("nominal", "moderate", "heavy", "trapping", "sleeping")


class Power(NamedTuple):
    """Where the machine's power comes from; None is unknown."""

    on_battery: bool | None = None
    battery_percent: float | None = None


def read_power() -> Power:
    """Return the battery's state; a Mac without a battery runs from the mains.

    Source: psutil, which asks IOKit's power sources.
    """
    try:
        battery: Any = psutil.sensors_battery()
    except (OSError, RuntimeError):
        return Power()
    if battery is None:
        return Power(on_battery=False)
    plugged: bool | None = battery.power_plugged
    return Power(None if plugged is None else not plugged, float(battery.percent))


class MacHost:
    """Reads everything that one look at a Mac can tell."""

    def __init__(
        self,
        folder: Path,
        load: Callable[[str], ctypes.CDLL] = load_library,
        power: Callable[[], Power] = read_power,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Open what is needed and keep it open.

        Args:
            folder: whose disk is watched.
            load: opens a library by path; a test gives a stand-in.
            power: reads the battery.
            environment: an SSH session has no window server, so its displays are not asked for.
        """
        self._folder = folder
        self._pid = os.getpid()
        self._power = power
        self._kernel = Kernel(load)
        self._thermal = Notification(_THERMAL_KEY, load)
        self._lid = Lid(load)
        self._display = None if "SSH_CONNECTION" in environment else Display(load)
        self._memory_total = self._kernel.integer("hw.memsize")
        self._page = self._kernel.integer("vm.pagesize") or self._kernel.integer("hw.pagesize")

    def read(self, time: float) -> HostSample:
        """Look at the machine once; what did not answer is None."""
        pressure = mac_pressure(self._kernel.integer("kern.memorystatus_vm_pressure_level"))
        footprint, peak = self._kernel.footprint(self._pid) or (None, None)
        pages = self._kernel.vm_statistics()
        power = self._power()
        return HostSample(
            time=time,
            pressure=pressure,
            to_yellow=pages and mac_to_yellow(pressure, pages.uncompressed, pages.compressor),
            memory_total_bytes=self._memory_total,
            swap_used_bytes=self._kernel.swap_used(),
            footprint_bytes=footprint,
            footprint_peak_bytes=peak,
            thermal=self._thermal_level(),
            on_battery=power.on_battery,
            battery_percent=power.battery_percent,
            lid_closed=self._lid.closed(),
            display_awake=self._display and self._display.awake(),
            disk_free_bytes=disk_free(self._folder),
            **self._page_sizes(pages),
        )

    def close(self) -> None:
        """Give the thermal notification back."""
        self._thermal.close()

    def _page_sizes(self, pages: VmStatistics | None) -> dict[str, int]:
        """The statistics in bytes; nothing when they or the page size are unknown.

        Available is free + file-backed + purgeable: what xnu's memorystatus counts as reclaimable
        at once. Active and inactive anonymous pages are not: they would have to be compressed.
        """
        if pages is None or self._page is None:
            return {}
        return {
            "available_bytes": (pages.free + pages.external + pages.purgeable) * self._page,
            "compressor_bytes": pages.compressor * self._page,
            "wired_bytes": pages.wired * self._page,
            "swapped_in_bytes": pages.swapins * self._page,
            "swapped_out_bytes": pages.swapouts * self._page,
        }

    def _thermal_level(self) -> Thermal | None:
        state = self._thermal.state()
        return _THERMAL[state] if state is not None and state < len(_THERMAL) else None
