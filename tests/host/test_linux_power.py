"""Battery, lid, display and heat from recorded trees of /sys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.host.linux_power import Heat, Supply, display_awake, lid_closed, power

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Tree = Callable[[dict[str, str]], Path]


def supply(name: str, **values: str) -> dict[str, str]:
    return {f"sys/class/power_supply/{name}/{key}": f"{value}\n" for key, value in values.items()}


def battery(status: str, capacity: str = "57") -> dict[str, str]:
    return supply("BAT0", type="Battery", status=status, capacity=capacity)


MOUSE = supply("hidpp_0", type="Battery", scope="Device", status="Discharging", capacity="9")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, Supply(None, None)),
        (MOUSE, Supply(None, None)),
        (supply("AC", type="Mains", online="1"), Supply(on_battery=False, battery_percent=None)),
        (
            battery("Charging") | supply("AC", type="Mains", online="1"),
            Supply(on_battery=False, battery_percent=57.0),
        ),
        (
            battery("Discharging") | supply("AC", type="Mains", online="0") | MOUSE,
            Supply(on_battery=True, battery_percent=57.0),
        ),
        (
            battery("Not charging") | supply("ucsi", type="USB", online="1"),
            Supply(on_battery=False, battery_percent=57.0),
        ),
        (battery("Full", "broken"), Supply(on_battery=False, battery_percent=None)),
    ],
)
def test_power(tree: Tree, files: dict[str, str], expected: Supply) -> None:
    assert power(tree(files)) == expected


@pytest.mark.parametrize(
    ("state", "closed"),
    [("state:      open\n", False), ("state:      closed\n", True), ("", None), ("odd", None)],
)
def test_lid(tree: Tree, state: str, closed: bool | None) -> None:
    assert lid_closed(tree({})) is None
    assert lid_closed(tree({"proc/acpi/button/lid/LID0/state": state})) is closed


def connector(name: str, status: str, dpms: str) -> dict[str, str]:
    folder = f"sys/class/drm/card0-{name}"
    return {f"{folder}/status": f"{status}\n", f"{folder}/dpms": f"{dpms}\n"}


@pytest.mark.parametrize(
    ("files", "awake"),
    [
        ({}, None),
        (connector("HDMI-A-1", "disconnected", "On"), None),
        (connector("eDP-1", "connected", "Off"), False),
        (connector("eDP-1", "connected", "Off") | connector("DP-1", "connected", "On"), True),
        ({"sys/class/drm/card0-eDP-1/status": "connected"}, None),
    ],
)
def test_display(tree: Tree, files: dict[str, str], awake: bool | None) -> None:
    assert display_awake(tree(files)) is awake


def zone(number: int, degrees: str, **trips: str) -> dict[str, str]:
    folder = f"sys/class/thermal/thermal_zone{number}"
    files = {f"{folder}/temp": f"{degrees}\n"}
    for point, (kind, value) in enumerate(trips.items()):
        files[f"{folder}/trip_point_{point}_type"] = f"{kind}\n"
        files[f"{folder}/trip_point_{point}_temp"] = f"{value}\n"
    return files


TRIPS = {"passive": "85000", "hot": "95000", "critical": "105000"}


@pytest.mark.parametrize(
    ("degrees", "grade"),
    [
        ("40000", "nominal"),
        ("85000", "moderate"),
        ("96000", "heavy"),
        ("105000", "trapping"),
        ("not a number", None),
    ],
)
def test_heat(tree: Tree, degrees: str, grade: str | None) -> None:
    assert Heat(tree(zone(0, degrees, **TRIPS))).level() == grade


def test_the_hottest_zone_counts_and_zones_without_trip_points_do_not(tree: Tree) -> None:
    root = tree(zone(0, "99000", active="50000") | zone(1, "99000", passive="-274000"))
    assert Heat(root).level() is None
    root = tree(zone(2, "30000", **TRIPS) | zone(3, "86000", **TRIPS))
    assert Heat(root).level() == "moderate"
