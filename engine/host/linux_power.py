"""Battery, lid, display and heat of a Linux machine, from sysfs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.host.linux_files import folders, integer, text

if TYPE_CHECKING:
    from pathlib import Path

    from engine.host.sample import Thermal

_GRADES: tuple[Thermal, ...] = ("nominal", "moderate", "heavy", "trapping")
_GRADE_OF_TRIP = {"passive": 1, "hot": 2, "critical": 3}


class Supply(NamedTuple):
    """Where the power comes from; None is unknown."""

    on_battery: bool | None
    battery_percent: float | None


def power(root: Path) -> Supply:
    """Return whether the machine runs from its battery, and the charge in percent.

    Mains that are online decide; without any, a battery that discharges does. Batteries of mice
    and the like (scope Device) do not count.
    Source: ``/sys/class/power_supply``, Documentation/ABI/testing/sysfs-class-power.
    """
    online: list[bool] = []
    discharging: list[bool] = []
    charge: float | None = None
    for supply in folders(root / "sys/class/power_supply"):
        kind = text(supply / "type")
        if kind in ("Mains", "USB"):
            online.append(integer(supply / "online") == 1)
        elif kind == "Battery" and text(supply / "scope") != "Device":
            discharging.append(text(supply / "status") == "Discharging")
            percent = integer(supply / "capacity")
            charge = charge if percent is None else float(percent)
    if any(online):
        return Supply(on_battery=False, battery_percent=charge)
    if discharging:
        return Supply(on_battery=any(discharging), battery_percent=charge)
    return Supply(None, None)


def lid_closed(root: Path) -> bool | None:
    """Return whether the lid is closed; None where there is none.

    Source: ``/proc/acpi/button/lid/*/state``: ``state:      open``.
    """
    for lid in folders(root / "proc/acpi/button/lid"):
        words = (text(lid / "state") or "").split()
        if words[-1:] in (["open"], ["closed"]):
            return words[-1] == "closed"
    return None


def display_awake(root: Path) -> bool | None:
    """Return whether any connected display is lit; None without one.

    Source: ``/sys/class/drm/card*-*``: ``status`` and ``dpms``.
    """
    states = [
        text(connector / "dpms")
        for connector in folders(root / "sys/class/drm", "card*-*")
        if text(connector / "status") == "connected"
    ]
    known = [state for state in states if state is not None]
    return "On" in known if known else None


class Heat:
    """The thermal zones that say at which temperatures the system slows down."""

    def __init__(self, root: Path) -> None:
        """Find the zones and their trip points once; they do not come and go."""
        zones = folders(root / "sys/class/thermal", "thermal_zone*")
        self._zones = [(zone, trips) for zone in zones if (trips := _trips(zone))]

    def level(self) -> Thermal | None:
        """Return the hottest zone's grade; None without a zone that can be read.

        At its passive trip point a zone throttles (moderate), at hot the system is warned (heavy),
        at critical it shuts down (trapping).
        Source: ``/sys/class/thermal/thermal_zone*``,
        Documentation/driver-api/thermal/sysfs-api.rst.
        """
        grades = [_grade(zone, trips) for zone, trips in self._zones]
        known = [grade for grade in grades if grade is not None]
        return _GRADES[max(known)] if known else None


def _trips(zone: Path) -> list[tuple[int, int]]:
    """Trip points as (millidegrees, grade); firmware marks unused ones with 0 or less."""
    found: list[tuple[int, int]] = []
    for kind in folders(zone, "trip_point_*_type"):
        grade = _GRADE_OF_TRIP.get(text(kind) or "")
        degrees = integer(kind.with_name(kind.name.replace("_type", "_temp")))
        if grade is not None and degrees is not None and degrees > 0:
            found.append((degrees, grade))
    return found


def _grade(zone: Path, trips: list[tuple[int, int]]) -> int | None:
    degrees = integer(zone / "temp")
    if degrees is None:
        return None
    return max((grade for trip, grade in trips if degrees >= trip), default=0)
