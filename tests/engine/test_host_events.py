"""Looks at the machine and the guard's actions become events, with nothing left out."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from engine import events as ev
from engine.config import RunConfig
from engine.guard import Abort, Growth, Halve, Pause, Tighten, Warn, next_reduction
from engine.host import HostSample
from engine.host_events import guard_event, host_event, slept_event


def test_all_that_an_event_can_say_of_the_machine_is_said() -> None:
    numbers = range(1, len(fields(HostSample)) + 1)
    names = (field.name for field in fields(HostSample))
    known: dict[str, Any] = dict(zip(names, numbers, strict=True)) | {"pressure": "yellow"}
    event = host_event(HostSample(**known), Growth(1, 2))
    empty = [field.name for field in fields(event) if getattr(event, field.name) is None]
    assert empty == []
    assert (event.run_growth, event.others_growth) == (1, 2)


def test_what_a_sample_does_not_know_is_not_made_up() -> None:
    event = host_event(HostSample(time=3.0))
    assert event == ev.Host(time=3.0, pressure=None)


def test_sleep_is_an_event_of_its_own() -> None:
    assert slept_event(HostSample(time=1.0, sleep_gap_seconds=0.0)) is None
    assert slept_event(HostSample(time=1.0)) is None
    slept = slept_event(HostSample(time=1.0, sleep_gap_seconds=3600.0))
    assert slept == ev.Slept(time=1.0, seconds=3600.0)


def test_actions_are_said_with_what_came_of_them() -> None:
    offer = next_reduction(RunConfig())
    said = [
        guard_event(action, time=1.0, iteration=7, freed_bytes=freed)
        for action, freed in (
            (Tighten("yellow", 64), 300),
            (Halve("yellow", 2), None),
            (Pause("yellow"), 500),
            (Abort("red", offer), None),
            (Warn("hot"), None),
        )
    ]
    assert said == [
        ev.Guard(time=1.0, action="shrink", why="yellow", iteration=7, freed=300),
        ev.Guard(time=1.0, action="shrink", why="yellow", iteration=7, micro_batch=2),
        ev.Guard(time=1.0, action="pause", why="yellow", iteration=7, freed=500),
        ev.Guard(time=1.0, action="abort", why="red", iteration=7, offer={"batch_size": 2}),
        ev.Warned(time=1.0, message="hot"),
    ]
