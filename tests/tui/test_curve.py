"""The curve keeps extremes, gaps and order, whatever its length."""

from __future__ import annotations

import math
import random
import time

import pytest

from engine.view import StepHistory
from tui.curve import CAPACITY, Buckets, place_iteration, smooth, trace
from tui.panes.loss import effective_window


def history(losses: list[float], first: int = 1) -> StepHistory:
    """A history with these losses, two seconds and ten tokens a step."""
    steps = StepHistory()
    extend(steps, losses, first)
    return steps


def extend(steps: StepHistory, losses: list[float], first: int) -> None:
    """Train on, or again, from an iteration on."""
    for iteration, loss in enumerate(losses, first):
        steps.iteration.append(iteration)
        steps.loss.append(loss)
        steps.tokens.append(10 * (len(steps.tokens) + 1))
        steps.seconds.append(2.0)


def noisy(count: int) -> list[float]:
    """A falling loss with noise."""
    draw = random.Random(3)
    return [1 + 2 * math.exp(-5 * i / count) + draw.gauss(0, 0.1) for i in range(count)]


@pytest.mark.parametrize("again", [2, 5, 3000])
def test_a_run_that_goes_back_is_drawn_as_if_it_had_not(again: int) -> None:
    """Whether it is shorter, as long or longer by the next look."""
    steps = history([1.0, 2.0, math.nan, 9.0, 9.0])
    buckets = Buckets()
    buckets.absorb(steps)
    steps.cut(2)
    extend(steps, noisy(again), 3)
    buckets.absorb(steps)
    anew = Buckets(cuts=steps.cuts)
    anew.absorb(steps)
    assert buckets == anew


def test_short_runs_are_kept_step_by_step() -> None:
    losses = noisy(300)
    steps = history(losses)
    buckets = Buckets()
    buckets.absorb(steps)
    assert buckets.size == 1
    assert list(buckets.low) == list(buckets.high) == list(buckets.mean) == losses


def test_one_spike_in_a_million_stays() -> None:
    losses = [1.0] * 1_000_000
    losses[654_321] = 99.0
    buckets = Buckets()
    buckets.absorb(history(losses))
    assert len(buckets) <= CAPACITY
    assert max(buckets.high) == 99.0
    assert buckets.high.index(99.0) == 654_321 // buckets.size
    assert sum(buckets.count) == 1_000_000


@pytest.mark.parametrize("piece", [1, 7, 1000, 4999])
def test_pieces_give_the_same_buckets_as_the_whole(piece: int) -> None:
    losses = noisy(5000)
    losses[4321] = math.nan
    whole, pieces = Buckets(), Buckets()
    whole.absorb(history(losses))
    steps = StepHistory()
    for start in range(0, len(losses), piece):
        extend(steps, losses[start : start + piece], start + 1)
        pieces.absorb(steps)
    assert pieces.size == whole.size
    assert pieces.low == whole.low
    assert pieces.high == whole.high
    assert pieces.count == whole.count
    assert pieces.mean == pytest.approx(whole.mean)
    assert pieces.seconds == pytest.approx(whole.seconds)
    assert pieces.broken == whole.broken == [4321]


def test_absorbing_a_step_costs_the_same_after_a_million() -> None:
    steps = history([1.0] * 1_000_000)
    buckets = Buckets()
    buckets.absorb(steps)
    extend(steps, [2.0], 1_000_001)
    began = time.perf_counter()
    buckets.absorb(steps)
    assert time.perf_counter() - began < 0.01
    assert buckets.high[-1] == 2.0


def test_the_average_starts_where_the_losses_do() -> None:
    assert smooth([3.0, 3.0, 3.0], [1, 1, 1], 50) == pytest.approx([3.0, 3.0, 3.0])


def test_without_a_window_the_average_is_the_loss() -> None:
    assert smooth([3.0, 1.0, 2.0], [1, 1, 1], 0) == [3.0, 1.0, 2.0]


def test_a_broken_step_is_a_gap_in_the_average() -> None:
    first, gap, last = smooth([2.0, math.nan, 2.0], [1, 0, 1], 10)
    assert first == pytest.approx(2.0)
    assert math.isnan(gap)
    assert last == pytest.approx(2.0)


def test_large_buckets_weigh_what_their_steps_weigh() -> None:
    single = smooth([1.0] * 10 + [2.0] * 10, [1] * 20, 10)
    grouped = smooth([1.0, 2.0], [10, 10], 10)
    assert grouped[-1] == pytest.approx(single[-1], rel=0.02)


def test_going_back_to_a_checkpoint_replaces_what_came_after_it() -> None:
    steps = history([3.0, 2.9, 2.8, 2.7, 2.6])
    extend(steps, [1.0, 0.9], first=4)
    buckets = Buckets()
    buckets.absorb(steps)
    curve = trace(buckets, steps, "iterations", 0)
    assert curve.x == [1, 2, 3, 4, 5]
    assert curve.average == [3.0, 2.9, 2.8, 1.0, 0.9]


def test_axes_count_iterations_tokens_and_hours() -> None:
    steps = history(noisy(1800))
    buckets = Buckets()
    buckets.absorb(steps)
    assert trace(buckets, steps, "iterations", 0).x[-1] == pytest.approx(1800, abs=2)
    assert trace(buckets, steps, "tokens", 0).x[-1] == pytest.approx(18_000, abs=20)
    assert trace(buckets, steps, "hours", 0).x[-1] == pytest.approx(1.0)
    assert place_iteration(buckets, steps, 900, "tokens") == 9000
    assert place_iteration(buckets, steps, 0, "tokens") == 0


def test_the_average_never_lags_behind_a_short_run() -> None:
    assert [effective_window(50, steps) for steps in (3, 120, 499, 5000)] == [10, 12, 49, 50]
    assert effective_window(0, 5000) == 0
    assert effective_window(1000, 5000) == 500
