"""Turns looks at the machine, and what the guard decided, into the run's own events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import events as ev
from engine.guard import Abort, Halve, Warn

if TYPE_CHECKING:
    from engine.guard import Action, Growth
    from engine.host import HostSample


def host_event(sample: HostSample, growth: Growth | None = None) -> ev.Host:
    """Say how the machine is, and who came to use more of it."""
    return ev.Host(
        time=sample.time,
        pressure=sample.pressure,
        to_yellow=sample.to_yellow,
        swap_used=sample.swap_used_bytes,
        swap_growth=sample.swap_growth_bytes,
        swap_out_bytes_per_second=sample.swap_out_bytes_per_second,
        thermal=sample.thermal,
        on_battery=sample.on_battery,
        battery_percent=sample.battery_percent,
        available=sample.available_bytes,
        memory_total=sample.memory_total_bytes,
        footprint=sample.footprint_bytes,
        disk_free=sample.disk_free_bytes,
        compressor=sample.compressor_bytes,
        wired=sample.wired_bytes,
        lid_closed=sample.lid_closed,
        display_awake=sample.display_awake,
        run_growth=growth and growth.run,
        others_growth=growth and growth.others,
    )


def slept_event(sample: HostSample) -> ev.Slept | None:
    """Say how long the machine slept since the sample before; None when it did not."""
    if not sample.sleep_gap_seconds:
        return None
    return ev.Slept(time=sample.time, seconds=sample.sleep_gap_seconds)


def guard_event(
    action: Action, time: float, iteration: int, freed_bytes: int | None = None
) -> ev.Guard | ev.Warned:
    """Say that an action of the guard was carried out.

    Args:
        action: what was done.
        time: seconds since the epoch.
        iteration: the last one done.
        freed_bytes: what came back by it; None where it was not measured.
    """
    if isinstance(action, Warn):
        return ev.Warned(time=time, message=action.why, about=action.about)
    offer = action.offer if isinstance(action, Abort) else None
    return ev.Guard(
        time=time,
        action=action.event,
        why=action.why,
        iteration=iteration,
        micro_batch=action.micro_batch if isinstance(action, Halve) else None,
        freed=freed_bytes,
        offer=offer.settings if offer else {},
    )
