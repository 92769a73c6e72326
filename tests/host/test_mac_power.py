"""A Mac's battery, which psutil reads."""

from __future__ import annotations

from typing import NamedTuple

import psutil
import pytest

from engine.host.macos import Power, read_power


class Battery(NamedTuple):
    percent: int
    power_plugged: bool | None


@pytest.mark.parametrize(
    ("battery", "power"),
    [
        (Battery(41, power_plugged=False), Power(on_battery=True, battery_percent=41.0)),
        (Battery(100, power_plugged=True), Power(on_battery=False, battery_percent=100.0)),
        (Battery(50, power_plugged=None), Power(on_battery=None, battery_percent=50.0)),
        (None, Power(on_battery=False, battery_percent=None)),
        (RuntimeError("no power sources"), Power()),
    ],
)
def test_power_comes_from_psutil(
    monkeypatch: pytest.MonkeyPatch, battery: Battery | Exception | None, power: Power
) -> None:
    def sensors_battery() -> Battery | None:
        if isinstance(battery, Exception):
            raise battery
        return battery

    monkeypatch.setattr(psutil, "sensors_battery", sensors_battery, raising=False)
    assert read_power() == power
