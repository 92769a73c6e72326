"""engine/host/macos.py, run unchanged against a C library that answers like macOS."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pytest

from engine.host.mac_calls import IO_KIT, LIB_PROC, LIB_SYSTEM, Kernel, load_library
from engine.host.macos import MacHost, Power
from tests.host.near import near

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engine.events import Pressure
    from engine.host.sample import HostSample
    from tests.host.conftest import MacScript

PAGE = 16384
MIB = 2**20
MAINS = Power(on_battery=False, battery_percent=80.0)


@pytest.fixture
def host(mac: MacScript, tmp_path: Path) -> Iterator[MacHost]:
    opened = MacHost(tmp_path, mac.load, lambda: MAINS, environment={})
    yield opened
    opened.close()


def test_a_quiet_mac_reads_whole(host: MacHost) -> None:
    sample = host.read(12.5)
    assert sample.time == 12.5
    assert (sample.pressure, sample.to_yellow) == ("green", 1.0)
    assert sample.memory_total_bytes == 8 * 2**30
    assert sample.available_bytes == 110000 * PAGE
    assert (sample.compressor_bytes, sample.wired_bytes) == (0, 80000 * PAGE)
    assert sample.swap_used_bytes == 0
    assert (sample.footprint_bytes, sample.footprint_peak_bytes) == (3_000_000_000, 3_500_000_000)
    assert sample.thermal == "nominal"
    assert (sample.on_battery, sample.battery_percent) == (False, 80.0)
    assert (sample.lid_closed, sample.display_awake) == (False, True)
    assert sample.disk_free_bytes is not None
    assert sample.disk_free_bytes > 0


def test_what_only_linux_knows_is_none(host: MacHost) -> None:
    sample = host.read(0.0)
    assert sample.psi_some_avg10 is None
    assert sample.psi_full_avg10 is None
    assert sample.cgroup_limit_bytes is None
    assert sample.cgroup_used_bytes is None


def test_pressure_rises_from_green_to_red_and_the_way_to_yellow_shrinks(
    mac: MacScript, host: MacHost
) -> None:
    seen: list[tuple[Pressure | None, float | None]] = []
    for level, uncompressed, compressor in (
        (1, 400000, 0),
        (1, 300000, 100000),
        (1, 220000, 180000),
        (2, 190000, 210000),
        (2, 230000, 170000),
        (4, 100000, 300000),
        (1, 300000, 100000),
    ):
        mac.sysctl("kern.memorystatus_vm_pressure_level", level)
        mac.pages(
            free=1000, active=99000, inactive=uncompressed - 100000, wired=80000,
            compressor=compressor,
        )  # fmt: skip
        sample = host.read(0.0)
        assert sample.compressor_bytes == compressor * PAGE
        seen.append((sample.pressure, sample.to_yellow))
    assert seen == [
        ("green", 1.0),
        ("green", 0.5),
        ("green", near(0.1)),
        ("yellow", 0.0),
        # The kernel leaves yellow only well above the share at which it entered.
        ("yellow", 0.0),
        ("red", 0.0),
        ("green", 0.5),
    ]


class RecordedMac(NamedTuple):
    """One real machine: vm_stat's pages, its level, and what must come out."""

    name: str
    memory: int
    swap: tuple[float, float]
    level: int
    free: int
    active: int
    inactive: int
    wired: int
    compressor: int
    to_yellow: float


RECORDED = [
    # A public file: 8 GB, "PhysMem: 7525M used (1496M wired, 3353M compressor), 91M unused."
    RecordedMac(
        "8 GB under load", 8589934592, (1024.0, 407.5), 2,
        4144, 85455, 84543, 99066, 3353 * MIB // PAGE, 0.0,
    ),
    # 16 GB at level 1: memorystatus_level 58, 4.12 GiB compressed, 2.07 GiB wired.
    RecordedMac(
        "16 GB at ease", 17179869184, (0.0, 0.0), 1,
        8489, 320000, 279685, 135659, 270008, 0.385,
    ),
    RecordedMac("freshly started", 8589934592, (0.0, 0.0), 1, 200000, 90000, 80000, 70000, 0, 1.0),
]  # fmt: skip


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.name)
def test_recorded_macs(mac: MacScript, tmp_path: Path, recorded: RecordedMac) -> None:
    mac.sysctl("hw.memsize", recorded.memory, 8)
    mac.sysctl("kern.memorystatus_vm_pressure_level", recorded.level)
    mac.swap(*recorded.swap)
    mac.pages(
        free=recorded.free, active=recorded.active, inactive=recorded.inactive,
        wired=recorded.wired, compressor=recorded.compressor,
    )  # fmt: skip
    sample = MacHost(tmp_path, mac.load, lambda: MAINS).read(0.0)
    assert sample.memory_total_bytes == recorded.memory
    assert sample.swap_used_bytes == int(recorded.swap[1] * MIB)
    assert sample.wired_bytes == recorded.wired * PAGE
    assert sample.compressor_bytes == recorded.compressor * PAGE
    assert sample.to_yellow == near(recorded.to_yellow, within=0.01)


def test_the_recorded_8_gb_mac_is_beyond_yellow_by_its_pages_alone(
    mac: MacScript, tmp_path: Path
) -> None:
    busy = RECORDED[0]
    mac.sysctl("kern.memorystatus_vm_pressure_level", 1)
    mac.pages(
        free=busy.free, active=busy.active, inactive=busy.inactive,
        wired=busy.wired, compressor=busy.compressor,
    )  # fmt: skip
    assert MacHost(tmp_path, mac.load, lambda: MAINS).read(0.0).to_yellow == 0.0


@pytest.mark.parametrize(
    ("total", "used"), [(0, 0), (4096, 2455), (7168, 6119.0625), (11264, 9652.1875)]
)
def test_swap_in_use_is_the_third_number(
    mac: MacScript, host: MacHost, total: float, used: float
) -> None:
    mac.swap(total, used)
    assert host.read(0.0).swap_used_bytes == int(used * MIB)


def test_swap_counters_are_swaps_and_not_file_pageins(mac: MacScript, host: MacHost) -> None:
    mac.swaps(12, 37088)
    sample = host.read(0.0)
    assert (sample.swapped_in_bytes, sample.swapped_out_bytes) == (12 * PAGE, 37088 * PAGE)


def test_speculative_pages_are_counted_once(mac: MacScript, host: MacHost) -> None:
    mac.pages(
        free=1000, speculative=500, active=98500, inactive=0, wired=1, compressor=50000,
        external=2000, purgeable=30,
    )  # fmt: skip
    sample = host.read(0.0)
    assert sample.available_bytes == (1500 + 2000 + 30) * PAGE
    assert sample.to_yellow == near((100000 / 150000 - 0.5) / 0.5)


@pytest.mark.parametrize("level", [0, 3, 5, 2**31])
def test_an_unknown_level_is_none_and_the_pages_still_tell_the_way(
    mac: MacScript, host: MacHost, level: int
) -> None:
    mac.sysctl("kern.memorystatus_vm_pressure_level", level)
    sample = host.read(0.0)
    assert sample.pressure is None
    assert sample.to_yellow == 1.0


@pytest.mark.parametrize(
    ("state", "grade"),
    [(0, "nominal"), (1, "moderate"), (2, "heavy"), (3, "trapping"), (4, "sleeping"), (5, None)],
)
def test_thermal_levels(mac: MacScript, host: MacHost, state: int, grade: str | None) -> None:
    mac.thermal(state)
    assert host.read(0.0).thermal == grade


def test_thermal_is_none_when_reading_it_fails(mac: MacScript, host: MacHost) -> None:
    mac.thermal(2, reading=9)
    assert host.read(0.0).thermal is None


def test_thermal_is_none_when_registering_fails(mac: MacScript, tmp_path: Path) -> None:
    mac.thermal(2, registering=1)
    opened = MacHost(tmp_path, mac.load, lambda: MAINS)
    assert opened.read(0.0).thermal is None
    opened.close()
    assert mac.count("registered") == 0


def test_one_port_and_one_registration_however_many_samples(mac: MacScript, tmp_path: Path) -> None:
    opened = MacHost(tmp_path, mac.load, lambda: MAINS)
    for second in range(50):
        opened.read(float(second))
    assert (mac.count("hosts_taken"), mac.count("registered")) == (1, 1)
    assert mac.count("objects_alive") == 0
    opened.close()
    assert mac.count("registered") == 0
    assert opened.read(0.0).thermal is None
    opened.close()


@pytest.mark.parametrize(("state", "closed"), [(0, False), (1, True), (-1, None), (2, None)])
def test_lid(mac: MacScript, host: MacHost, state: int, closed: bool | None) -> None:
    mac.lid(state)
    assert host.read(0.0).lid_closed is closed
    assert mac.count("objects_alive") == 0


@pytest.mark.parametrize(
    ("number", "asleep", "awake"), [(1, False, True), (1, True, False), (0, False, None)]
)
def test_display(
    mac: MacScript, host: MacHost, number: int, asleep: bool, awake: bool | None
) -> None:
    mac.display(number, asleep=asleep)
    assert host.read(0.0).display_awake is awake


def test_displays_are_not_asked_for_over_ssh(mac: MacScript, tmp_path: Path) -> None:
    asked: list[str] = []

    def load(path: str) -> ctypes.CDLL:
        asked.append(path)
        return mac.load(path)

    opened = MacHost(tmp_path, load, lambda: MAINS, environment={"SSH_CONNECTION": "1 2 3 4"})
    assert opened.read(0.0).display_awake is None
    assert not [path for path in asked if "CoreGraphics" in path]


def unreadable(sample: HostSample) -> set[str]:
    return {name for name in sample.__slots__ if getattr(sample, name) is None}


LINUX_ONLY = {
    "psi_some_avg10",
    "psi_full_avg10",
    "cgroup_limit_bytes",
    "cgroup_used_bytes",
    # These take two samples, which the sampler compares.
    "swap_growth_bytes",
    "swap_in_bytes_per_second",
    "swap_out_bytes_per_second",
    "sleep_gap_seconds",
}
FROM_PAGES = {
    "available_bytes",
    "wired_bytes",
    "compressor_bytes",
    "swapped_in_bytes",
    "swapped_out_bytes",
}


@dataclass(frozen=True)
class Fault:
    """Something that does not answer, and what must then be None, and nothing else."""

    name: str
    script: Callable[[MacScript], None]
    missing: set[str]


FAULTS: list[Fault] = [
    Fault("nothing", lambda _mac: None, set()),
    Fault(
        "host_statistics64 fails",
        lambda mac: mac.vm_answer(result=4),
        FROM_PAGES | {"to_yellow"},
    ),
    Fault(
        "host_statistics64 knows too few fields",
        lambda mac: mac.vm_answer(words=24),
        FROM_PAGES | {"to_yellow"},
    ),
    Fault("an older host_statistics64 is enough", lambda mac: mac.vm_answer(words=38), set()),
    Fault(
        "proc_pid_rusage fails",
        lambda mac: mac.footprint(1, 1, result=1),
        {"footprint_bytes", "footprint_peak_bytes"},
    ),
    Fault(
        "swapusage is too short",
        lambda mac: mac.sysctl("vm.swapusage", b"\1" * 16),
        {"swap_used_bytes"},
    ),
    Fault(
        "swapusage is longer than the buffer",
        lambda mac: mac.sysctl("vm.swapusage", b"\1" * 40),
        {"swap_used_bytes"},
    ),
    Fault(
        "the level is of an odd width",
        lambda mac: mac.sysctl("kern.memorystatus_vm_pressure_level", b"\1\0"),
        {"pressure"},
    ),
    Fault(
        "the level has grown to 8 bytes",
        lambda mac: mac.sysctl("kern.memorystatus_vm_pressure_level", 1, 8),
        set(),
    ),
    Fault("the page size is empty", lambda mac: mac.sysctl("vm.pagesize", b""), FROM_PAGES),
    Fault("no lid", lambda mac: mac.lid(-1), {"lid_closed"}),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_does_not_answer_is_none_and_the_rest_stays(
    mac: MacScript, tmp_path: Path, fault: Fault
) -> None:
    fault.script(mac)
    sample = MacHost(tmp_path, mac.load, lambda: MAINS, environment={}).read(0.0)
    assert unreadable(sample) == LINUX_ONLY | fault.missing


def test_unknown_sysctls_are_none(mac_library: Path, mac: MacScript, tmp_path: Path) -> None:
    assert Kernel(mac.load).integer("iogpu.wired_limit_mb") is None
    empty = type(mac)(mac_library)
    sample = MacHost(tmp_path, empty.load, Power, environment={}).read(0.0)
    assert sample.memory_total_bytes is None
    assert sample.pressure is None
    assert sample.swap_used_bytes is None
    assert sample.to_yellow is None


def test_the_page_size_may_come_from_the_older_name(mac: MacScript, tmp_path: Path) -> None:
    mac.sysctl("vm.pagesize", b"")
    mac.sysctl("hw.pagesize", 4096, 8)
    assert MacHost(tmp_path, mac.load, Power).read(0.0).wired_bytes == 80000 * 4096


@pytest.mark.parametrize("missing", [LIB_SYSTEM, LIB_PROC, IO_KIT, "Core", ""])
def test_a_library_that_does_not_load_takes_only_its_own_figures(
    mac: MacScript, tmp_path: Path, missing: str
) -> None:
    def load(path: str) -> ctypes.CDLL:
        if missing in path:
            raise OSError(path)
        return mac.load(path)

    opened = MacHost(tmp_path, load, lambda: MAINS, environment={})
    sample = opened.read(0.0)
    opened.close()
    assert (sample.pressure is None) == (missing in LIB_SYSTEM)
    assert (sample.footprint_bytes is None) == (missing in LIB_PROC)
    assert (sample.lid_closed is None) == (missing in (IO_KIT, "Core", ""))
    assert sample.on_battery is False
    assert sample.disk_free_bytes is not None


def test_a_library_without_these_functions_gives_nothing(tmp_path: Path) -> None:
    # The C library of this machine has none of the names, except for what a Mac's has.
    opened = MacHost(tmp_path, lambda _: ctypes.CDLL(None), Power, environment={})
    sample = opened.read(3.0)
    assert sample.time == 3.0
    assert sample.disk_free_bytes is not None


def test_a_missing_library_raises_what_is_caught() -> None:
    with pytest.raises(OSError, match="no-such-library"):
        load_library("/no-such-library.dylib")
