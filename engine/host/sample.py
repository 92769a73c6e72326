"""What one look at the machine found."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from engine.events import Pressure

Thermal = Literal["nominal", "moderate", "heavy", "trapping", "sleeping"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSample:
    """The machine at one moment; sizes are bytes, None is what could not be read here."""

    time: float
    """Wall clock, seconds since the epoch."""
    pressure: Pressure | None = None
    """Memory pressure as the operating system grades it."""
    to_yellow: float | None = None
    """Share of the way still left to yellow: 1 far, 0 there or beyond."""
    memory_total_bytes: int | None = None
    """Physical memory of the machine."""
    available_bytes: int | None = None
    """What can be handed out without compressing or swapping."""
    swap_used_bytes: int | None = None
    """Swap in use by the whole machine."""
    swap_growth_bytes: int | None = None
    """Swap in use now less what was in use when sampling began; negative when it shrank."""
    swapped_in_bytes: int | None = None
    """Read back from swap since the machine started."""
    swapped_out_bytes: int | None = None
    """Written to swap since the machine started."""
    swap_in_bytes_per_second: float | None = None
    """Since the sample before, sleep left out; None in the first one."""
    swap_out_bytes_per_second: float | None = None
    """Since the sample before, sleep left out; None in the first one."""
    compressor_bytes: int | None = None
    """Physical memory that holds compressed pages."""
    wired_bytes: int | None = None
    """Memory that can be neither compressed nor swapped."""
    footprint_bytes: int | None = None
    """What the system charges this process with, its compressed or swapped pages included."""
    footprint_peak_bytes: int | None = None
    """The highest footprint of this process so far, also between samples."""
    thermal: Thermal | None = None
    """How far the system slows down for heat."""
    on_battery: bool | None = None
    """Whether the machine runs from its battery."""
    battery_percent: float | None = None
    """Charge, 0 to 100; None also without a battery."""
    lid_closed: bool | None = None
    """Whether the lid is closed; None also where there is no lid."""
    display_awake: bool | None = None
    """Whether any display is lit."""
    disk_free_bytes: int | None = None
    """Free to this user on the disk that holds the run."""
    psi_some_avg10: float | None = None
    """Percent of the last 10 seconds in which some task waited for memory; Linux only."""
    psi_full_avg10: float | None = None
    """Percent of the last 10 seconds in which every task waited for memory; Linux only."""
    cgroup_limit_bytes: int | None = None
    """Limit of the cgroup above this process with the least room; None also without a limit."""
    cgroup_used_bytes: int | None = None
    """Used in that cgroup, the file cache that can be dropped left out."""
    sleep_gap_seconds: float | None = None
    """How long the machine slept since the sample before."""


def disk_free(folder: Path) -> int | None:
    """Return the bytes free to this user on the folder's disk; None where it cannot be read.

    A folder that is not there yet counts as its nearest parent that is.
    Source: ``statvfs``, blocks available to unprivileged users times the fragment size.
    """
    places = (place for place in (folder, *folder.parents) if place.exists())
    try:
        disk = os.statvfs(next(places, folder))
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize
