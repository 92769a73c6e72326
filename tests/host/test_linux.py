"""engine/host/linux.py on recorded trees of /proc and /sys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.host.linux import Footprint, LinuxHost, Psi, read_psi
from tests.host.near import near

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.host.sample import HostSample

    Tree = Callable[[dict[str, str]], Path]

KIB, MIB, GIB = 2**10, 2**20, 2**30

MEMINFO = """\
MemTotal:       16384000 kB
MemFree:         1024000 kB
MemAvailable:    8192000 kB
Buffers:            3144 kB
Cached:          6077504 kB
Unevictable:         100 kB
SwapTotal:       8388604 kB
SwapFree:        7340028 kB
Zswap:              2048 kB
Zswapped:           6144 kB
SUnreclaim:         3000 kB
KernelStack:          40 kB
PageTables:          500 kB
Percpu:               60 kB
HugePages_Total:       0
"""
VMSTAT = "nr_free_pages 256000\npgpgin 99999\npswpin 120\npswpout 4500\n"
PSI = """\
some avg10=0.22 avg60=0.17 avg300=1.11 total=58761459
full avg10=0.05 avg60=0.13 avg300=0.96 total=57422193
"""
STATUS = "Name:\tpython\nVmPeak:\t 900 kB\nVmHWM:\t 700 kB\nVmRSS:\t 600 kB\nVmSwap:\t 50 kB\n"
ROLLUP = """\
5650196a7000-7ffe8ccce000 ---p 00000000 00:00 0                          [rollup]
Rss:                 600 kB
Pss:                 400 kB
Pss_Dirty:           116 kB
Swap:                 50 kB
SwapPss:              30 kB
"""
PLAIN = {
    "proc/meminfo": MEMINFO,
    "proc/vmstat": VMSTAT,
    "proc/pressure/memory": PSI,
    "proc/self/status": STATUS,
    "proc/self/smaps_rollup": ROLLUP,
}

V1_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V1_MEMBER = "9:name=systemd:/\n4:memory:/jobs/run7\n2:cpuacct:/jobs\n0::/\n"
V1_NONE = "9223372036854771712\n"
V2_MOUNTS = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def look(root: Path, folder: Path | None = None) -> HostSample:
    return LinuxHost(folder or root, root, page_bytes=4096).read(7.0)


def v1_group(
    path: str, limit: str, used: int, inactive: int = 0, active: int = 0
) -> dict[str, str]:
    folder = f"sys/fs/cgroup/memory/{path}"
    statistics = f"cache 1\ntotal_inactive_file {inactive}\ntotal_active_file {active}\n"
    return {
        f"{folder}/memory.limit_in_bytes": limit,
        f"{folder}/memory.usage_in_bytes": f"{used}\n",
        f"{folder}/memory.stat": statistics,
    }


def v2_group(
    path: str, limit: str, used: int, high: str = "max", inactive: int = 0, active: int = 0
) -> dict[str, str]:
    folder = f"sys/fs/cgroup/{path}"
    statistics = f"anon {used}\ninactive_file {inactive}\nactive_file {active}\n"
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.high": f"{high}\n",
        f"{folder}/memory.current": f"{used}\n",
        f"{folder}/memory.stat": statistics,
    }


def test_a_plain_machine(tree: Tree, tmp_path: Path) -> None:
    sample = look(tree(PLAIN), tmp_path)
    assert sample.time == 7.0
    assert sample.pressure == "green"
    assert sample.to_yellow == near((8192000 - 2**20) / (16384000 - 2**20))
    assert sample.memory_total_bytes == 16384000 * KIB
    assert sample.available_bytes == 8192000 * KIB
    assert sample.swap_used_bytes == 1048576 * KIB
    assert (sample.swapped_in_bytes, sample.swapped_out_bytes) == (120 * 4096, 4500 * 4096)
    assert sample.compressor_bytes == 2048 * KIB
    assert sample.wired_bytes == 3700 * KIB
    assert (sample.footprint_bytes, sample.footprint_peak_bytes) == (430 * KIB, 700 * KIB)
    assert (sample.psi_some_avg10, sample.psi_full_avg10) == (0.22, 0.05)
    assert sample.disk_free_bytes is not None
    assert sample.disk_free_bytes > 0


def test_what_is_not_there_is_none(tree: Tree) -> None:
    sample = look(tree({}))
    known = {name for name in sample.__slots__ if getattr(sample, name) is not None}
    assert known == {"time", "disk_free_bytes"}


def test_without_psi_the_room_alone_tells(tree: Tree) -> None:
    files = {name: content for name, content in PLAIN.items() if "pressure" not in name}
    sample = look(tree(files))
    assert sample.psi_some_avg10 is None
    assert sample.psi_full_avg10 is None
    assert sample.pressure == "green"
    low = MEMINFO.replace("MemAvailable:    8192000", "MemAvailable:     300000")
    assert look(tree({"proc/meminfo": low})).pressure == "red"


@pytest.mark.parametrize(
    ("content", "psi"),
    [
        (PSI, Psi(0.22, 0.05)),
        ("some avg10=12.00 avg60=1.00 avg300=0.00 total=1\n", Psi(12.0, None)),
        ("some avg10=\nfull\n\n", Psi()),
        ("", Psi()),
    ],
)
def test_psi_files(tmp_path: Path, content: str, psi: Psi) -> None:
    (tmp_path / "memory").write_text(content)
    assert read_psi(tmp_path / "memory") == psi
    assert read_psi(tmp_path / "absent") == Psi()


def test_the_machines_pressure_and_that_of_our_own_group_count_alike(tree: Tree) -> None:
    calm = "some avg10=0.00 total=0\nfull avg10=0.00 total=0\n"
    tight = "some avg10=33.00 total=0\nfull avg10=21.00 total=0\n"
    group = {"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": V2_MOUNTS}
    group |= PLAIN | v2_group("a", "max", 5 * MIB)
    own = "sys/fs/cgroup/a/memory.pressure"
    sample = look(tree(group | {"proc/pressure/memory": calm, own: tight}))
    assert (sample.psi_some_avg10, sample.psi_full_avg10, sample.pressure) == (33.0, 21.0, "red")
    sample = look(tree({"proc/pressure/memory": tight, own: calm}))
    assert (sample.psi_some_avg10, sample.psi_full_avg10, sample.pressure) == (33.0, 21.0, "red")
    assert look(tree({"proc/pressure/memory": calm})).pressure == "green"


def test_cgroup_v1_without_a_limit(tree: Tree) -> None:
    files = {"proc/self/cgroup": V1_MEMBER, "proc/self/mountinfo": V1_MOUNTS}
    for path in ("", "jobs", "jobs/run7"):
        files |= v1_group(path, V1_NONE, 5 * MIB)
    sample = look(tree(PLAIN | files))
    assert sample.cgroup_limit_bytes is None
    assert sample.cgroup_used_bytes is None
    assert sample.available_bytes == 8192000 * KIB


def test_cgroup_v1_limit_of_a_parent_and_its_file_cache(tree: Tree) -> None:
    files = {"proc/self/cgroup": V1_MEMBER, "proc/self/mountinfo": V1_MOUNTS}
    files |= v1_group("", V1_NONE, 9 * GIB)
    files |= v1_group("jobs", f"{2 * GIB}", 2 * GIB, inactive=100 * MIB, active=20 * MIB)
    files |= v1_group("jobs/run7", f"{4 * GIB}", 1 * GIB)
    sample = look(tree(PLAIN | files))
    assert sample.cgroup_limit_bytes == 2 * GIB
    assert sample.cgroup_used_bytes == 2 * GIB - 120 * MIB
    assert sample.available_bytes == 120 * MIB
    assert (sample.pressure, sample.to_yellow) == ("yellow", 0.0)


def test_cgroup_v1_seen_from_inside_a_container(tree: Tree) -> None:
    mounts = V1_MOUNTS.replace("0:32 / ", "0:32 /docker/abc ")
    files = {"proc/self/cgroup": "4:memory:/docker/abc/sub\n", "proc/self/mountinfo": mounts}
    files |= v1_group("", f"{4 * GIB}", 1 * GIB) | v1_group("sub", f"{2 * GIB}", 1 * GIB)
    assert look(tree(PLAIN | files)).cgroup_limit_bytes == 2 * GIB


@pytest.mark.parametrize("path", ["/elsewhere", "/../../host", "/"])
def test_a_group_outside_the_mount_is_read_at_its_top(tree: Tree, path: str) -> None:
    mounts = V1_MOUNTS.replace("0:32 / ", "0:32 /docker/abc ")
    files = {"proc/self/cgroup": f"4:memory:{path}\n", "proc/self/mountinfo": mounts}
    assert look(tree(files | v1_group("", f"{4 * GIB}", 1))).cgroup_limit_bytes == 4 * GIB


DESKTOP = "user.slice/user-1000.slice/user@1000.service/app.slice/terminal.scope"


def test_cgroup_v2_nested_in_a_desktop_session(tree: Tree) -> None:
    files = {"proc/self/cgroup": f"0::/{DESKTOP}\n", "proc/self/mountinfo": V2_MOUNTS}
    parts = DESKTOP.split("/")
    for count in range(1, len(parts) + 1):
        files |= v2_group("/".join(parts[:count]), "max", 3 * GIB)
    assert look(tree(PLAIN | files)).cgroup_limit_bytes is None
    # What a parent grants, less its cache, is all that its children have.
    files = v2_group("user.slice", f"{6 * GIB}", 5 * GIB, inactive=1 * GIB, active=1 * GIB)
    files |= v2_group(DESKTOP, f"{8 * GIB}", 2 * GIB)
    sample = look(tree(files))
    assert (sample.cgroup_limit_bytes, sample.cgroup_used_bytes) == (6 * GIB, 3 * GIB)
    assert sample.available_bytes == 3 * GIB


def test_cgroup_v2_slows_down_at_high_before_it_ends_at_max(tree: Tree) -> None:
    files = {"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": V2_MOUNTS}
    files |= v2_group("a", f"{4 * GIB}", 1 * GIB, high=f"{2 * GIB}")
    assert look(tree(files)).cgroup_limit_bytes == 2 * GIB


def test_cgroup_v2_in_a_container_is_its_own_root(tree: Tree) -> None:
    files = {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": V2_MOUNTS}
    files |= v2_group("", f"{1 * GIB}", 990 * MIB)
    sample = look(tree(PLAIN | files))
    assert (sample.cgroup_limit_bytes, sample.cgroup_used_bytes) == (1 * GIB, 990 * MIB)
    assert sample.pressure == "red"


def test_a_process_that_is_moved_is_followed(tree: Tree) -> None:
    files = {"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": V2_MOUNTS}
    files |= v2_group("a", f"{4 * GIB}", 1) | v2_group("b", f"{2 * GIB}", 1)
    root = tree(files)
    host = LinuxHost(root, root)
    assert host.read(0.0).cgroup_limit_bytes == 4 * GIB
    tree({"proc/self/cgroup": "0::/b\n"})
    assert host.read(1.0).cgroup_limit_bytes == 2 * GIB


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "garbage\n", "proc/self/mountinfo": "garbage\n- \n"},
        {"proc/self/cgroup": "4:memory:/a\n", "proc/self/mountinfo": "garbage\n"},
        {"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": V2_MOUNTS},
        {"proc/self/cgroup": "0::/a\n"},
    ],
)
def test_cgroups_that_make_no_sense_are_none(tree: Tree, files: dict[str, str]) -> None:
    sample = look(tree(PLAIN | files))
    assert sample.cgroup_limit_bytes is None
    assert sample.available_bytes == 8192000 * KIB


def test_a_folder_that_cannot_be_listed_is_empty(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_path: Path, _pattern: str) -> list[Path]:
        raise OSError

    monkeypatch.setattr(Path, "glob", fail)
    sample = look(tree(PLAIN))
    assert (sample.thermal, sample.on_battery, sample.display_awake) == (None, None, None)
    assert sample.pressure == "green"


def test_zram_counts_as_compressor(tree: Tree) -> None:
    zram = {"sys/block/zram0/mm_stat": "81920 20480 32768 0 32768 0 0 0 0\n"}
    assert look(tree(PLAIN | zram)).compressor_bytes == 2048 * KIB + 32768
    assert look(tree({"sys/block/zram0/mm_stat": "broken\n"})).compressor_bytes == 2048 * KIB


def test_the_footprint_without_a_rollup_is_the_resident_size(tree: Tree) -> None:
    root = tree({"proc/self/status": STATUS})
    assert Footprint(root / "proc/self").read() == (650 * KIB, 700 * KIB)
    assert Footprint(root / "absent").read() == (None, None)


def test_a_slow_rollup_is_read_seldom_and_kept_up_to_date(tree: Tree) -> None:
    root = tree(PLAIN)
    now = [100.0]

    def seconds() -> float:
        # Every look at the clock takes 6 ms: walking the pages seems to take as long.
        now[0] += 0.006
        return now[0]

    footprint = Footprint(root / "proc/self", seconds)
    assert footprint.read()[0] == 430 * KIB
    tree(
        {
            "proc/self/status": STATUS.replace("600", "900"),
            "proc/self/smaps_rollup": ROLLUP.replace("400", "777"),
        }
    )
    now[0] += 1.0
    assert footprint.read()[0] == 730 * KIB
    now[0] += 1.0
    assert footprint.read()[0] == 807 * KIB
