"""The doctor: what it makes of machines good and bad, and how it says so."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from engine.doctor import MlxFacts, SleepFacts, findings, idle_minutes, read_sleep
from engine.host import HostSample
from tui.cli_doctor import as_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engine.doctor import Finding
    from tests.cli.program import Outcome

GB = 10**9
WELL = HostSample(
    time=0.0,
    pressure="green",
    to_yellow=0.62,
    memory_total_bytes=8 * GB,
    available_bytes=5 * GB,
    swap_used_bytes=0,
    thermal="nominal",
    on_battery=False,
    battery_percent=100.0,
    lid_closed=False,
    display_awake=False,
    disk_free_bytes=90 * GB,
)
MAC = MlxFacts("0.32.4", "metal", "Apple M2", working_set_bytes=5_726_630_000)
LINUX = MlxFacts("0.32.4", "cpu", "Xeon", blas="/lib/libopenblas.so.0")
KEPT = SleepFacts(idle_minutes=1, keeper="caffeinate")


def by_name(found: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in found}


def test_a_mac_that_is_well() -> None:
    found = findings(WELL, MAC, KEPT, "darwin")
    assert [finding.name for finding in found if finding.advice] == []
    said = {finding.name: finding.value for finding in found}
    assert said["chip"] == "Apple M2"
    assert said["MLX"] == "0.32.4, computes on the GPU (Metal)"
    assert said["memory"] == "8.0 GB, 5.0 GB available"
    assert said["working set"] == "5.7 GB recommended for one process on the GPU"
    assert said["pressure"] == "green, 62 % of the way to yellow left"
    assert said["power"] == "mains, 100 %"
    assert said["sleep"] == "after 1 min idle, but not while it trains (caffeinate)"
    assert "BLAS" not in said
    assert as_lines(found)[-1] == "All is well for training."


@pytest.mark.parametrize(
    ("name", "changes", "advice"),
    [
        ("memory", {"memory_total_bytes": 4 * GB}, "small model"),
        ("pressure", {"pressure": "yellow"}, "Close other programs"),
        ("pressure", {"pressure": "red"}, "Close other programs"),
        ("swap", {"swap_used_bytes": GB}, "restart the machine"),
        ("disk", {"disk_free_bytes": 3 * GB}, "Free some space"),
        ("heat", {"thermal": "heavy"}, "Let it cool"),
        ("power", {"on_battery": True}, "Plug it in"),
        ("power", {"lid_closed": True}, "Open it"),
        ("display", {"display_awake": True}, "Let it sleep"),
    ],
)
def test_one_thing_is_not_well(name: str, changes: dict[str, Any], advice: str) -> None:
    found = findings(replace(WELL, **changes), MAC, KEPT, "darwin")
    assert [finding.name for finding in found if finding.status == "warning"] == [name]
    assert advice in by_name(found)[name].advice


def test_a_working_set_that_was_raised_by_hand() -> None:
    found = findings(WELL, replace(MAC, wired_limit_bytes=7000 << 20), KEPT, "darwin")
    finding = by_name(found)["working set"]
    assert "iogpu.wired_limit_mb was set to 7000" in finding.advice
    assert finding.figures["wired_limit_bytes"] == 7000 << 20


def test_blas_on_linux() -> None:
    good = findings(WELL, LINUX, SleepFacts(can_sleep=False), "linux")
    assert by_name(good)["BLAS"].value == "OpenBLAS"
    assert by_name(good)["sleep"].value == "this machine does not sleep"
    slow = findings(WELL, replace(LINUX, blas=None), SleepFacts(can_sleep=False), "linux")
    assert "many times slower" in by_name(slow)["BLAS"].advice
    # On a GPU nobody waits for it.
    cuda = replace(LINUX, device="cuda", blas=None)
    assert "BLAS" not in by_name(findings(WELL, cuda, SleepFacts(can_sleep=False), "linux"))


def test_mlx_without_a_back_end() -> None:
    broken = MlxFacts(error="libmlx.so: cannot open shared object file")
    found = by_name(findings(WELL, broken, KEPT, "linux"))
    assert "libmlx.so" in found["MLX"].value
    assert "uv tool install" in found["MLX"].advice
    assert "BLAS" not in found


def test_what_cannot_be_read_is_not_available_and_no_fault() -> None:
    found = by_name(findings(HostSample(time=0.0), LINUX, SleepFacts(can_sleep=False), "linux"))
    assert all(finding.status == "ok" for finding in found.values())
    assert found["memory"].value == "n/a, n/a available"
    for name in ("pressure", "swap", "heat", "power"):
        assert found[name].value == "n/a"


def test_a_memory_limit_is_shown() -> None:
    sample = replace(WELL, cgroup_limit_bytes=2 * GB, cgroup_used_bytes=GB)
    found = by_name(findings(sample, LINUX, KEPT, "linux"))
    assert found["memory limit"].value == "2.0 GB for this control group, 1.0 GB used"


def test_nothing_is_clipped_or_too_wide() -> None:
    sample = replace(
        WELL,
        pressure="red",
        swap_used_bytes=9 * GB,
        memory_total_bytes=4 * GB,
        disk_free_bytes=GB,
        thermal="heavy",
        on_battery=True,
        lid_closed=True,
        display_awake=True,
        cgroup_limit_bytes=2 * GB,
        cgroup_used_bytes=GB,
    )
    found = findings(sample, replace(MAC, wired_limit_bytes=7000 << 20), SleepFacts(), "darwin")
    lines = as_lines(found)
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert all(finding.value in text for finding in found)
    assert sum("▲ warning" in line for line in lines) == sum("→ " in line for line in lines) == 9
    assert lines[-1] == "9 of 13 could be better: see the arrows."


PMSET = """System-wide power settings:
Currently in use:
 standby              1
 Sleep On Power Button 1
 powernap             1
 sleep                10 (sleep prevented by coreaudiod, caffeinate)
 displaysleep         2
"""


def test_when_an_idle_mac_sleeps() -> None:
    assert idle_minutes(PMSET) == 10
    assert idle_minutes(PMSET.replace("10 (sleep prevented by coreaudiod, caffeinate)", "0")) == 0
    assert idle_minutes("") is None
    never = findings(WELL, MAC, SleepFacts(idle_minutes=0), "darwin")
    assert by_name(never)["sleep"].value == "never by itself"
    unkept = findings(WELL, MAC, SleepFacts(idle_minutes=10), "darwin")
    assert "automatic sleep off" in by_name(unkept)["sleep"].advice


def test_a_linux_kernel_that_cannot_suspend(tmp_path: Path) -> None:
    state = tmp_path / "sys/power/state"
    state.parent.mkdir(parents=True)
    state.write_text("\n")
    assert read_sleep("linux", tmp_path) == SleepFacts(can_sleep=False)


@pytest.mark.parametrize(("code", "keeper"), [(0, "systemd-inhibit"), (1, None)])
def test_whether_linux_lets_itself_be_kept_awake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, keeper: str | None
) -> None:
    tool = tmp_path / "systemd-inhibit"
    tool.write_text(f"#!/bin/sh\nexit {code}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert read_sleep("linux", tmp_path).keeper == keeper


def test_this_machine(call: Callable[..., Outcome], home: Path) -> None:
    outcome = call("doctor")
    assert outcome.code == 0
    assert "computes on the" in outcome.out
    assert not home.exists()


def test_this_machine_for_programs(call: Callable[..., Outcome]) -> None:
    found: list[dict[str, Any]] = json.loads(call("doctor", "--json").out)
    assert [set(line) for line in found] == [
        {"name", "status", "value", "advice", "figures"},
    ] * len(found)
    memory = next(line for line in found if line["name"] == "memory")
    assert memory["figures"]["total_bytes"] > GB // 4
