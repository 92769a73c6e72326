"""This machine, sampled for real: what it costs and what it does not do."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine.host import HostSample, open_host
from engine.host.linux import LinuxHost
from engine.host.sample import disk_free
from tests.host.near import near

supported = pytest.mark.skipif(
    sys.platform not in ("darwin", "linux"), reason="only macOS and Linux can be read"
)


@supported
def test_this_machine_tells_the_essentials(tmp_path: Path) -> None:
    with open_host(tmp_path) as host:
        sample = host.sample()
    assert sample.time == near(time.time(), within=10)
    assert sample.memory_total_bytes is not None
    assert sample.available_bytes is not None
    assert 0 < sample.available_bytes <= sample.memory_total_bytes
    assert sample.footprint_bytes is not None
    assert 2**20 < sample.footprint_bytes < sample.memory_total_bytes
    assert sample.pressure in ("green", "yellow", "red")
    assert sample.to_yellow is not None
    assert 0 <= sample.to_yellow <= 1
    assert sample.disk_free_bytes is not None


@supported
def test_a_sample_costs_less_than_a_hundredth_of_a_core_at_1_hz(tmp_path: Path) -> None:
    with open_host(tmp_path) as host:
        host.sample()
        began = time.thread_time()
        for _ in range(50):
            host.sample()
        seconds = (time.thread_time() - began) / 50
    assert seconds <= 0.010


@supported
def test_sampling_starts_no_process_and_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        pytest.fail("sampling started a process")

    for module, name in ((subprocess, "Popen"), (os, "posix_spawn"), (os, "fork"), (os, "system")):
        monkeypatch.setattr(module, name, refuse)
    threads = threading.active_count()
    with open_host(tmp_path) as host:
        for _ in range(3):
            assert isinstance(host.sample(), HostSample)
    assert threading.active_count() == threads


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_reading_linux_over_and_over_keeps_nothing(tmp_path: Path) -> None:
    host = LinuxHost(tmp_path)
    for second in range(50):
        host.read(float(second))
    gc.collect()
    files, blocks = open_files(), sys.getallocatedblocks()
    for second in range(500):
        host.read(float(second))
    gc.collect()
    assert open_files() == files
    assert sys.getallocatedblocks() - blocks < 200


def test_a_run_folder_that_is_not_there_yet_lies_on_its_parents_disk(tmp_path: Path) -> None:
    free = disk_free(tmp_path / "runs" / "not-yet")
    assert free is not None
    assert free > 0


def test_a_disk_that_cannot_be_read_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_folder: Path) -> None:
        raise OSError

    monkeypatch.setattr(os, "statvfs", fail)
    assert disk_free(tmp_path) is None


def test_an_unknown_system_gives_only_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "plan9")
    sample = open_host(tmp_path).sample()
    known = {name for name in sample.__slots__ if getattr(sample, name) is not None}
    assert known == {"time", "sleep_gap_seconds"}


def test_a_mac_is_opened_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    for name in ("CLOCK_MONOTONIC_RAW", "CLOCK_UPTIME_RAW"):
        monkeypatch.setattr(time, name, time.CLOCK_MONOTONIC, raising=False)
    with open_host(tmp_path) as host:
        assert host.sample().disk_free_bytes is not None


def test_the_host_needs_neither_mlx_nor_a_screen() -> None:
    program = (
        "import sys, engine.host, engine.awake\n"
        "print({'mlx', 'textual', 'rich', 'tui'} & {name.split('.')[0] for name in sys.modules})"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert found.stdout.strip() == "set()"
