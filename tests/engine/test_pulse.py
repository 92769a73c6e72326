"""What the trainer says of itself reaches the guard as it is at that moment."""

from __future__ import annotations

import threading

import pytest

from engine.guard import Pulse, TrainingFacts


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def facts(pulse: Pulse) -> TrainingFacts:
    return pulse.facts("protect", micro_batch=4, active_bytes=5, cache_bytes=6)


def train(pulse: Pulse, clock: Clock, seconds: float, iteration: int, width: int = 64) -> None:
    pulse.begin_step(width)
    clock.now += seconds
    pulse.end_step(iteration, seconds)


def test_a_run_that_loads_and_then_trains(clock: Clock) -> None:
    pulse = Pulse(clock)
    assert facts(pulse).phase == "loading"
    pulse.is_ready(is_metal=True)
    now = facts(pulse)
    assert (now.phase, now.is_metal, now.seconds) == ("training", True, 100.0)
    assert (now.policy, now.micro_batch) == ("protect", 4)
    assert (now.active_bytes, now.cache_bytes) == (5, 6)
    assert (now.iteration, now.step_seconds, now.in_flight_seconds) == (0, None, None)


def test_steps_and_what_they_usually_take(clock: Clock) -> None:
    pulse = Pulse(clock)
    for iteration in range(1, 6):
        train(pulse, clock, 2.0, iteration)
    train(pulse, clock, 9.0, 6)
    now = facts(pulse)
    assert (now.iteration, now.step_seconds, now.step_norm_seconds) == (6, 9.0, 2.0)
    pulse.begin_step(64)
    clock.now += 3
    now = facts(pulse)
    assert (now.in_flight_seconds, now.in_flight_norm_seconds) == (3.0, 2.0)
    pulse.drop_step()
    assert facts(pulse).in_flight_seconds is None
    pulse.begin_step(128)
    assert facts(pulse).in_flight_norm_seconds is None


def test_a_step_that_was_dropped_is_no_measure(clock: Clock) -> None:
    pulse = Pulse(clock)
    for iteration in range(1, 5):
        train(pulse, clock, 2.0, iteration)
    pulse.begin_step(64)
    pulse.drop_step()
    pulse.end_step(5, 0.1)
    assert (facts(pulse).iteration, facts(pulse).step_seconds) == (4, 2.0)


def test_phases_end_also_when_they_fail(clock: Clock) -> None:
    pulse = Pulse(clock)
    pulse.is_ready(is_metal=False)
    seen: list[str] = []

    def save() -> None:
        with pulse.phase("saving"):
            seen.append(facts(pulse).phase)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        save()
    assert seen == ["saving"]
    assert facts(pulse).phase == "training"


def test_pauses_and_who_made_them(clock: Clock) -> None:
    pulse = Pulse(clock)
    pulse.pause("guard", is_deep=True)
    assert (facts(pulse).paused_by, facts(pulse).is_deep) == ("guard", True)
    pulse.pause("person")
    assert (facts(pulse).paused_by, facts(pulse).is_deep) == ("person", False)
    pulse.resume()
    assert not facts(pulse).is_paused


def test_sizes(clock: Clock) -> None:
    pulse = Pulse(clock)
    pulse.saved(7)
    pulse.keeps(8)
    assert (facts(pulse).checkpoint_bytes, facts(pulse).kept_bytes) == (7, 8)


def test_it_is_read_while_it_is_written() -> None:
    """A step is never seen half begun: its norm and its age belong together."""
    pulse = Pulse()
    for iteration in range(5):
        train(pulse, Clock(), 1.0, iteration)
    is_over = threading.Event()

    def write() -> None:
        for iteration in range(20_000):
            pulse.begin_step(64)
            pulse.end_step(iteration, 1.0)
        is_over.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not is_over.is_set():
        now = facts(pulse)
        assert (now.in_flight_seconds is None) == (now.in_flight_norm_seconds is None)
    writer.join()
