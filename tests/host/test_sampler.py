"""Differences between samples, with clocks that the tests turn."""

from __future__ import annotations

import gc
import sys
import time
from dataclasses import dataclass, replace

import pytest

from engine.host.sample import HostSample
from engine.host.sampler import Clocks, HostSampler, system_clocks
from tests.host.near import near

NIGHT = 28_800


@dataclass
class Machine:
    """A machine whose time and swap move only when told."""

    wall: float = 1_700_000_000.0
    elapsed: float = 5_000.0
    awake: float = 4_000.0
    swap: int | None = 0
    read_back: int | None = 0
    written: int | None = 0

    def passes(self, seconds: float, *, asleep: float = 0.0) -> None:
        self.wall += seconds + asleep
        self.elapsed += seconds + asleep
        self.awake += seconds

    def read(self, now: float) -> HostSample:
        return HostSample(
            time=now,
            swap_used_bytes=self.swap,
            swapped_in_bytes=self.read_back,
            swapped_out_bytes=self.written,
        )

    def clocks(self) -> Clocks:
        return Clocks(lambda: self.wall, lambda: self.elapsed, lambda: self.awake)

    def sampler(self) -> HostSampler:
        return HostSampler(self.read, self.clocks())


def test_the_first_sample_has_no_rates_yet() -> None:
    machine = Machine(swap=500)
    first = machine.sampler().sample()
    assert first.time == 1_700_000_000.0
    assert first.swap_growth_bytes == 0
    assert first.swap_in_bytes_per_second is None
    assert first.swap_out_bytes_per_second is None
    assert first.sleep_gap_seconds == 0.0


def test_growth_is_since_the_start_and_rates_are_since_the_sample_before() -> None:
    machine = Machine(swap=1000)
    sampler = machine.sampler()
    sampler.sample()
    growths: list[int | None] = []
    rates: list[tuple[float | None, float | None]] = []
    for swap, read_back, written in ((1500, 0, 800), (900, 300, 800), (900, 300, 1000)):
        machine.passes(2.0)
        machine.swap, machine.read_back, machine.written = swap, read_back, written
        sample = sampler.sample()
        growths.append(sample.swap_growth_bytes)
        rates.append((sample.swap_in_bytes_per_second, sample.swap_out_bytes_per_second))
    assert growths == [500, -100, -100]
    assert rates == [(0.0, 400.0), (150.0, 0.0), (0.0, 100.0)]


def test_unknown_counters_stay_unknown() -> None:
    machine = Machine(swap=None, read_back=None, written=None)
    sampler = machine.sampler()
    sampler.sample()
    machine.passes(1.0)
    sample = sampler.sample()
    assert sample.swap_growth_bytes is None
    assert sample.swap_in_bytes_per_second is None
    assert sample.swap_out_bytes_per_second is None


def test_swap_known_only_later_grows_from_there() -> None:
    machine = Machine(swap=None)
    sampler = machine.sampler()
    assert sampler.sample().swap_growth_bytes is None
    machine.swap = 700
    machine.passes(1.0)
    assert sampler.sample().swap_growth_bytes == 0
    machine.swap = None
    machine.passes(1.0)
    assert sampler.sample().swap_growth_bytes is None
    machine.swap = 750
    machine.passes(1.0)
    assert sampler.sample().swap_growth_bytes == 50


def test_a_counter_that_went_back_has_no_rate() -> None:
    machine = Machine(written=1000)
    sampler = machine.sampler()
    sampler.sample()
    machine.written = 10
    machine.passes(1.0)
    assert sampler.sample().swap_out_bytes_per_second is None


def test_two_samples_at_the_same_moment_have_no_rate() -> None:
    sampler = Machine().sampler()
    sampler.sample()
    assert sampler.sample().swap_out_bytes_per_second is None


def test_a_sleep_is_a_gap_once_and_is_left_out_of_the_rates() -> None:
    machine = Machine()
    sampler = machine.sampler()
    sampler.sample()
    machine.written = 3000
    machine.passes(1.5, asleep=7200.0)
    sample = sampler.sample()
    assert sample.sleep_gap_seconds == near(7200.0)
    assert sample.swap_out_bytes_per_second == near(2000.0)
    machine.passes(1.0)
    assert sampler.sample().sleep_gap_seconds == 0.0


@pytest.mark.parametrize(("asleep", "gap"), [(0.0, 0.0), (0.4, 0.0), (0.6, 0.6), (60.0, 60.0)])
def test_only_a_sleep_that_matters_is_a_gap(asleep: float, gap: float) -> None:
    machine = Machine()
    sampler = machine.sampler()
    sampler.sample()
    machine.passes(1.0, asleep=asleep)
    assert sampler.sample().sleep_gap_seconds == near(gap)


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_setting_the_wall_clock_is_no_sleep(step: float) -> None:
    machine = Machine()
    sampler = machine.sampler()
    sampler.sample()
    machine.wall += step
    machine.passes(1.0)
    assert sampler.sample().sleep_gap_seconds == 0.0


def test_a_thread_held_up_between_two_clocks_is_no_sleep() -> None:
    machine = Machine()
    held_up = [0.0]

    def elapsed() -> float:
        # All clocks run on while the thread waits for its turn, just before it reads this one.
        machine.passes(held_up[0])
        return machine.elapsed

    sampler = HostSampler(
        machine.read, Clocks(lambda: machine.wall, elapsed, lambda: machine.awake)
    )
    gaps: list[float | None] = []
    for seconds in (0.0, 5.0, 0.0, 5.0, 5.0, 0.0):
        held_up[0] = seconds
        gaps.append(sampler.sample().sleep_gap_seconds)
        machine.passes(1.0)
    assert gaps == [0.0] * 6


def test_a_night_of_samples_neither_grows_nor_drifts() -> None:
    machine = Machine()
    sampler = machine.sampler()
    slept = written = read_back = 0.0
    blocks = 0
    for second in range(NIGHT):
        before = machine.awake
        machine.passes(1.0 + (second % 7) * 0.001, asleep=30.0 if second % 3600 == 1800 else 0.0)
        machine.swap = (second * 4096) % 2**33
        machine.written, machine.read_back = second * 16384, second * 4096
        sample = sampler.sample()
        if sample.swap_out_bytes_per_second is not None:
            slept += sample.sleep_gap_seconds or 0.0
            written += sample.swap_out_bytes_per_second * (machine.awake - before)
            read_back += (sample.swap_in_bytes_per_second or 0.0) * (machine.awake - before)
        if second == 1000:
            gc.collect()
            blocks = sys.getallocatedblocks()
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 200
    assert slept == near(8 * 30.0)
    assert written == near((NIGHT - 1) * 16384)
    assert read_back == near((NIGHT - 1) * 4096)


def test_closing_closes_the_reader() -> None:
    closed: list[bool] = []
    machine = Machine()
    with HostSampler(machine.read, machine.clocks(), lambda: closed.append(True)) as sampler:
        sampler.sample()
        assert not closed
    assert closed == [True]


@pytest.mark.parametrize("platform", ["darwin", "linux", "elsewhere"])
def test_system_clocks_run(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("CLOCK_MONOTONIC_RAW", "CLOCK_UPTIME_RAW", "CLOCK_BOOTTIME"):
        monkeypatch.setattr(time, name, time.CLOCK_MONOTONIC, raising=False)
    clocks = system_clocks()
    assert clocks.wall() == near(time.time(), within=5)
    for clock in (clocks.elapsed, clocks.awake):
        first = clock()
        time.sleep(0.002)
        assert 0.001 < clock() - first < 5


def test_a_sample_can_be_changed_only_by_copy() -> None:
    sample = HostSample(time=1.0)
    with pytest.raises(AttributeError):
        sample.time = 2.0  # pyright: ignore[reportAttributeAccessIssue]
    assert replace(sample, swap_used_bytes=3).swap_used_bytes == 3
