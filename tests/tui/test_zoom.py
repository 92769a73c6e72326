"""A part of the run is looked at, and nothing of it is averaged away."""

from __future__ import annotations

import math

import pytest

from engine.events import Memory, Step
from engine.view import StepHistory
from tui.curve import Buckets, lead, place_step, trace
from tui.spark import blocks, overview
from tui.zoom import LEAST_STEPS, Zoom


def history(losses: list[float], norms: dict[int, float] | None = None) -> StepHistory:
    """A history of these losses, two seconds and ten tokens a step."""
    steps = StepHistory()
    for i, loss in enumerate(losses, 1):
        steps.append(Step(
            time=2.0 * i, iteration=i, loss=loss, learning_rate=1e-4, tokens=10, seconds=2.0,
            tokens_per_second=5, iterations_per_second=0.5, trained_tokens=10 * i, memory=Memory(),
            eta_seconds=None, gradient_norm=(norms or {}).get(i),
        ))  # fmt: skip
    return steps


def test_zooming_in_keeps_the_newest_and_follows() -> None:
    zoom = Zoom().by(0.5, 1000, 1.0)
    assert zoom.part(1000) == (500, 999)
    assert zoom.follows
    assert zoom.part(1100) == (600, 1099)


def test_what_lies_under_the_pointer_stays() -> None:
    zoom = Zoom().by(0.5, 1001, 0.25)
    first, last = zoom.part(1001)
    assert first + 0.25 * (last - first) == pytest.approx(250, abs=1)
    assert not zoom.follows


def test_zooming_ends_at_a_few_steps_and_at_the_whole() -> None:
    zoom = Zoom()
    for _ in range(30):
        zoom = zoom.by(0.5, 100_000, 1.0)
    assert zoom.width == LEAST_STEPS
    for _ in range(30):
        zoom = zoom.by(2.0, 100_000, 1.0)
    assert zoom.is_whole
    assert Zoom().by(0.5, 10, 1.0).is_whole


def test_moving_stops_at_both_ends() -> None:
    zoom = Zoom().by(0.1, 1000, 1.0)
    assert zoom.moved(-5000, 1000).part(1000) == (0, 99)
    assert zoom.moved(-50, 1000).moved(5000, 1000).follows
    assert Zoom().moved(10, 1000).is_whole


def test_the_cursor_is_always_in_sight() -> None:
    zoom = Zoom().by(0.1, 1000, 1.0)
    for cursor in (0, 450, 999):
        first, last = zoom.part(1000, cursor)
        assert first <= cursor <= last
        assert last - first == 99


@pytest.mark.parametrize("axis", ["iterations", "tokens", "hours"])
def test_a_closer_look_shows_every_step_in_its_place(axis: str) -> None:
    losses = [2.0 + math.sin(i / 7) for i in range(50_000)]
    losses[30_007] = 99.0
    losses[30_020] = math.nan
    steps = history(losses)
    whole = Buckets()
    whole.absorb(steps)
    part = (30_000, 30_099)
    close = whole.magnify(steps, lead(part[0], 50), part[1] + 1, 400)
    assert close.size == 1
    curve = trace(close, steps, axis, 50, part)  # pyright: ignore[reportArgumentType]
    assert len(curve.x) == 100
    assert curve.high[7] == curve.low[7] == 99.0
    assert len(curve.broken) == 1
    assert curve.x == sorted(curve.x)
    unit = {"iterations": 30_001, "tokens": 300_010, "hours": 60_002 / 3600}[axis]
    assert curve.x[0] == pytest.approx(unit)
    assert place_step(close, steps, 30_000, axis) == curve.x[0]  # pyright: ignore[reportArgumentType]


def test_the_average_of_a_part_is_that_of_the_whole() -> None:
    steps = history([3.0 - i / 1000 for i in range(2000)])
    whole = Buckets()
    whole.absorb(steps)
    far = trace(whole, steps, "iterations", 50)
    close = whole.magnify(steps, lead(1500, 50), 1600, 200)
    near = trace(close, steps, "iterations", 50, (1500, 1599))
    assert near.average[-1] == pytest.approx(far.average[far.x.index(1599.0)], abs=0.01)


def test_large_parts_are_drawn_from_what_is_known() -> None:
    steps = history([1.0] * 20_000)
    whole = Buckets()
    whole.absorb(steps)
    assert whole.magnify(steps, 0, 20_000, 200) is whole


def test_norms_between_updates_are_neither_gaps_nor_broken() -> None:
    steps = history([1.0] * 100, {32: 0.5, 64: 0.7, 96: 9.0})
    norms = Buckets("gradient_norm")
    norms.absorb(steps)
    curve = trace(norms, steps, "iterations", 0)
    assert curve.x == [32.0, 64.0, 96.0]
    assert curve.high == [0.5, 0.7, 9.0]
    assert curve.broken == []


def test_the_overview_marks_what_is_in_sight() -> None:
    row = overview([3.0, 2.0, 1.0, 0.0], (50, 99), 25, 14, 6)
    assert [text for text, _ in row] == ["whole ", "██▆▆", "▃▃▁▁", ""]
    assert blocks([1.0, math.nan], 2) == "▁ "
