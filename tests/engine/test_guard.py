"""The guard's decisions, scenario by scenario, and what eight hours of samples cost."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from engine.config import RunConfig, validate
from engine.guard import (
    Abort,
    Guard,
    GuardSettings,
    StepNorms,
    Warn,
    already_short,
    next_reduction,
)
from engine.host import HostSample
from tests.engine.guard_world import GB, MB, Line, Scenario, World, play, read_scenarios, said

ALL = read_scenarios()


def test_there_are_enough_scenarios() -> None:
    assert len({scenario.name for scenario in ALL}) == len(ALL) >= 40


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_scenario(scenario: Scenario) -> None:
    done = dict(play(scenario))
    expected = scenario.expected
    assert {second: said(action).split()[0] for second, action in done.items()} == {
        second: does.split()[0] for second, (does, _) in expected.items()
    }, {second: action.why for second, action in done.items()}
    for second, action in done.items():
        does, why = expected[second]
        assert why in action.why
        if isinstance(action, Abort):
            offer = action.offer
            wanted = does.partition(" ")[2]
            offered = f"{offer.key}={offer.after}" if offer else "nothing"
            assert wanted in ("", offered)
        else:
            assert said(action) == does


HOUR = 3600
CYCLE = (
    Line(0, ["green", "mains"], "", ""),
    Line(600, ["yellow", "battery", "50"], "", ""),
    Line(1200, ["green"], "", ""),
    Line(2400, ["sleep", "900", "thermal", "heavy"], "", ""),
    Line(3000, ["thermal", "nominal", "mains"], "", ""),
)
"""An hour of a night, again and again."""


def hour_of_night(guard: Guard, world: World, hour: int) -> list[tuple[int, str]]:
    """Let an hour of samples pass; return what was done, by the second of the hour."""
    happens = {line.second: line.happens for line in CYCLE}
    done: list[tuple[int, str]] = []
    for second in range(HOUR):
        now = hour * HOUR + second
        world.pass_second(now)
        world.happen(happens.get(second, []))
        if second % 7 == 0:
            world.happen(["step", "7", "of", "7"])
        world.obey(now)
        if action := guard.look(world.sample, world.facts):
            world.pending.append((now + 1, action))
            done.append((second, said(action)))
        world.look(sleep_gap_seconds=0.0)
    return done


def test_eight_hours_of_samples_leave_nothing_behind_and_do_not_drift() -> None:
    guard, world = Guard(RunConfig()), World()
    world.happen(["rows", "4", "cache", "0.4"])
    norms = StepNorms()
    first = hour_of_night(guard, world, 0)
    assert [what for _, what in first if what != "warn"] == [
        "tighten", "halve 2", "halve 1", "pause deep", "resume",
    ]  # fmt: skip
    usual = [(600, "warn"), (605, "pause deep"), (1230, "resume")]
    assert hour_of_night(guard, world, 1) == usual
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for hour in range(2, 10):
            assert hour_of_night(guard, world, hour) == usual
            for step in range(HOUR):
                norms.add(64 * (step % 8), 1.0 + hour)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The norms' own windows: 8 widths of 64 floats each; all else is what it was.
    assert after - before < 60_000


def test_the_norm_of_a_width_is_what_its_steps_usually_take() -> None:
    norms = StepNorms()
    assert norms.norm(64) is None
    norms.add(64, 30.0)
    for _ in range(2):
        norms.add(64, 2.0)
    assert norms.norm(64) is None
    norms.add(64, 2.2)
    assert norms.norm(64) == 2.0
    assert norms.norm(128) is None
    # A bout of paging does not become usual.
    for _ in range(40):
        norms.add(64, 2.0)
    for _ in range(40):
        norms.add(64, 20.0)
    assert norms.norm(64) == 2.0
    for _ in range(64):
        norms.add(64, 5.0)
    assert norms.norm(64) == 5.0


def test_reductions_in_their_order_down_to_nothing() -> None:
    config = RunConfig(batch_size=4, max_seq_length=2048, grad_accumulation_steps=32)
    found: list[str] = []
    while reduction := next_reduction(config):
        found.append(f"{reduction.key}={reduction.after}")
        config = validate(config.model_dump() | reduction.settings)
    assert found[:4] == [
        "batch_size=2", "max_seq_length=1024", "grad_accumulation_steps=16", "batch_size=1",
    ]  # fmt: skip
    assert found[4:6] == ["max_seq_length=512", "max_seq_length=256"]
    assert found[-1] == "grad_accumulation_steps=1"
    assert str(next_reduction(RunConfig(batch_size=8))) == "batch_size 8 → 4"


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (HostSample(time=0.0, pressure="green"), ""),
        (HostSample(time=0.0), ""),
        (HostSample(time=0.0, pressure="red"), "Memory pressure is red before the run has begun."),
        (
            HostSample(
                time=0.0, pressure="yellow", available_bytes=8 * 10**8, swap_used_bytes=3 * GB
            ),
            "Memory pressure is yellow before the run has begun, 0.8 GB available, 3.0 GB swapped.",
        ),
    ],
)
def test_a_machine_that_is_short_already_in_words(sample: HostSample, words: str) -> None:
    assert already_short(sample) == words


def test_settings_come_from_the_run_configuration() -> None:
    config = RunConfig(yellow_seconds=1, grace_seconds=2, green_seconds=3, deep_pause=False)
    settings = GuardSettings.of(config)
    assert (settings.yellow_seconds, settings.grace_seconds) == (1, 2)
    assert (settings.green_seconds, settings.deep_pause) == (3, False)
    assert GuardSettings.of(RunConfig()) == GuardSettings(deep_pause=True)


def test_others_than_this_process_are_told_apart_without_a_footprint() -> None:
    """MLX's own counters stand for a footprint that cannot be read."""
    guard, world = Guard(RunConfig()), World()
    world.look(footprint_bytes=None)
    world.be(active_bytes=2 * GB, cache_bytes=0)
    guard.look(world.sample, world.facts)
    assert guard.growth.fault == "unknown"
    world.pass_second(1)
    world.be(active_bytes=3 * GB, cache_bytes=GB // 2)
    world.look(available_bytes=GB)
    guard.look(world.sample, world.facts)
    assert (guard.growth.run, guard.growth.others) == (1.5 * GB, 0.5 * GB)
    assert guard.growth.fault == "run"


def test_a_rise_is_compared_with_the_calm_of_two_minutes_before() -> None:
    guard, world = Guard(RunConfig()), World()
    for second in range(300):
        world.pass_second(second)
        world.look(available_bytes=3 * GB - second * MB)
        guard.look(world.sample, world.facts)
    assert guard.growth.others == pytest.approx(119 * MB, abs=10 * MB)
    world.look(pressure="yellow")
    for second in range(300, 900):
        world.pass_second(second)
        world.look(available_bytes=3 * GB - second * MB)
        guard.look(world.sample, replace(world.facts, policy="watch"))
    # While it lasts, the calm that it is compared with does not move.
    assert guard.growth.others == pytest.approx(719 * MB, abs=10 * MB)
    assert guard.growth.fault == "others"


def test_a_limit_that_is_set_on_the_way_is_no_growth() -> None:
    guard, world = Guard(RunConfig()), World()
    guard.look(world.sample, world.facts)
    world.pass_second(1)
    world.look(cgroup_limit_bytes=GB, available_bytes=GB // 4)
    guard.look(world.sample, world.facts)
    assert str(guard.growth) == ""
    world.pass_second(2)
    world.look(available_bytes=GB // 8)
    guard.look(world.sample, world.facts)
    assert (guard.growth.run, guard.growth.others) == (0, GB // 8)


def test_nothing_follows_an_abort() -> None:
    guard, world = Guard(RunConfig()), World()
    world.happen(["red"])
    assert isinstance(guard.look(world.sample, world.facts), Abort)
    for second in range(1, 60):
        world.pass_second(second)
        world.happen(["battery", "5"])
        assert guard.look(world.sample, world.facts) is None


def test_a_warning_says_something_to_do_or_to_expect() -> None:
    texts = [
        action.why for scenario in ALL for _, action in play(scenario) if isinstance(action, Warn)
    ]
    assert len(set(texts)) > 10
    assert all(text.endswith(".") and len(text) < 260 for text in texts)
