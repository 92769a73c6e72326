"""How long the rest takes: exact where the machine is steady, a range where it is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.eta import EtaEstimator

ITERATIONS = 400
RATE = 1e-3
"""Seconds a position."""
WIDTHS = np.random.default_rng(0).choice([64, 128, 256, 512], ITERATIONS).astype(np.int64)
POSITIONS = 4 * WIDTHS
NEVER = np.zeros(ITERATIONS, np.bool_)


def every(count: int) -> np.ndarray:
    """Evaluations after each ``count`` iterations."""
    return np.arange(1, ITERATIONS + 1) % count == 0


def measured(estimator: EtaEstimator, until: int, compile_seconds: float = 0.0) -> EtaEstimator:
    """Let the first iterations take exactly their share, the first of each width longer."""
    seen: set[int] = set()
    for iteration in range(1, until + 1):
        positions = int(POSITIONS[iteration - 1])
        extra = compile_seconds if positions not in seen else 0.0
        seen.add(positions)
        estimator.add_step(iteration, RATE * positions + extra)
    return estimator


def test_nothing_is_said_before_enough_steps_are_known() -> None:
    estimator = EtaEstimator(np.full(10, 64, np.int64), np.zeros(10, np.bool_), 100)
    for iteration in range(1, 3):
        estimator.add_step(iteration, 1.0)
        assert estimator.remaining(iteration) is None
    estimator.add_step(3, 1.0)
    assert estimator.remaining(3) is not None


def test_a_first_step_that_compiled_does_not_count_among_them() -> None:
    estimator = EtaEstimator(np.full(10, 64, np.int64), np.zeros(10, np.bool_), 100)
    for iteration, seconds in enumerate((30.0, 1.0, 1.0), 1):
        estimator.add_step(iteration, seconds)
        assert estimator.remaining(iteration) is None
    estimator.add_step(4, 1.0)
    eta = estimator.remaining(4)
    assert eta is not None
    assert eta.seconds == 6.0


def test_a_probe_speaks_until_steps_do() -> None:
    estimator = EtaEstimator(POSITIONS, NEVER, 1000)
    estimator.add_probe(4 * 512, 1.25 * RATE * 4 * 512)
    before = estimator.remaining(0)
    assert before is not None
    assert before.seconds == pytest.approx(1.25 * RATE * POSITIONS.sum())
    assert before.low <= RATE * POSITIONS.sum() < before.high
    measured(estimator, 50)
    after = estimator.remaining(50)
    assert after is not None
    assert after.seconds == pytest.approx(RATE * POSITIONS[50:].sum(), rel=0.01)


def test_sizes_not_seen_yet_lie_between_those_that_were() -> None:
    """A step costs something however small it is, so that small ones cost more a position."""

    def cost(positions: int) -> float:
        return 0.5 + RATE * positions

    estimator = EtaEstimator(POSITIONS, NEVER, 10_000)
    for iteration in range(1, 301):
        # A fourth of the sizes is seen never before the last hundred steps.
        if POSITIONS[iteration - 1] != 4 * 256:
            estimator.add_step(iteration, cost(int(POSITIONS[iteration - 1])))
    eta = estimator.remaining(300)
    assert eta is not None
    assert eta.seconds == pytest.approx(sum(map(cost, POSITIONS[300:])), rel=0.03)


def test_updates_after_some_steps_are_in_the_mean() -> None:
    estimator = EtaEstimator(POSITIONS, NEVER, 10_000)
    seconds = RATE * POSITIONS * np.where(np.arange(1, ITERATIONS + 1) % 4 == 0, 1.2, 1.0)
    for iteration in range(1, 301):
        estimator.add_step(iteration, float(seconds[iteration - 1]))
    eta = estimator.remaining(300)
    assert eta is not None
    assert eta.seconds == pytest.approx(seconds[300:].sum(), rel=0.02)


def test_answers_to_prompts_come_with_evaluations() -> None:
    estimator = EtaEstimator(POSITIONS, every(100), 10_000, samples=2)
    measured(estimator, 120)
    for seconds in (1.0, 5.0, 2.0):
        estimator.add_sample(seconds)
    eta = estimator.remaining(120)
    assert eta is not None
    assert eta.seconds == pytest.approx(RATE * POSITIONS[120:].sum() + 3 * 2 * 2.0)


RECORDING = json.loads(
    (Path(__file__).parents[1] / "data" / "step_times.json").read_text(encoding="utf-8")
)


def replayed() -> list[tuple[float, bool]]:
    """The error of every forecast from 5 % of a recorded run on, and whether its range held."""
    steps = RECORDING["steps"]
    count = len(steps)
    evaluations = dict(RECORDING["evaluations"])
    saves = dict(RECORDING["checkpoints"])
    iterations = np.arange(1, count + 1)
    planned = (iterations % RECORDING["steps_per_eval"] == 0) | (iterations == count)
    positions = np.array([RECORDING["batch_size"] * width for width, _ in steps])
    estimator = EtaEstimator(positions, planned, RECORDING["save_every"])
    estimator.add_evaluation(evaluations[0])
    left = sum(seconds for _, seconds in steps)
    left += sum(evaluations[i] for i in evaluations if i) + sum(saves.values())
    found: list[tuple[float, bool]] = []
    for iteration, (_, seconds) in enumerate(steps, 1):
        estimator.add_step(iteration, seconds)
        left -= seconds
        eta = estimator.remaining(iteration)
        if 0.05 * count <= iteration < count:
            assert eta is not None
            found.append((abs(eta.seconds / left - 1), eta.low <= left <= eta.high))
        if iteration in evaluations:
            estimator.add_evaluation(evaluations[iteration])
            left -= evaluations[iteration]
        if iteration in saves:
            estimator.add_save(saves[iteration])
            left -= saves[iteration]
    return found


def test_a_recorded_run_was_foreseen() -> None:
    """Mixed lengths, evaluations and checkpoints: real times, replayed."""
    found = replayed()
    errors = [error for error, _ in found]
    assert np.median(errors) <= 0.03
    assert max(errors) <= 0.08
    assert np.mean([is_held for _, is_held in found]) >= 0.9


@pytest.mark.parametrize("until", [20, 200, 399])
def test_mixed_widths_on_a_steady_machine_are_exact(until: int) -> None:
    eta = measured(EtaEstimator(POSITIONS, NEVER, 10_000), until).remaining(until)
    assert eta is not None
    assert eta.seconds == pytest.approx(RATE * POSITIONS[until:].sum())
    assert eta.low < eta.seconds < eta.high


def test_nothing_is_left_at_the_end() -> None:
    eta = measured(EtaEstimator(POSITIONS, NEVER, 10_000), ITERATIONS).remaining(ITERATIONS)
    assert eta is not None
    assert (eta.low, eta.seconds, eta.high) == (0.0, 0.0, 0.0)


def test_the_first_step_of_a_width_is_left_out() -> None:
    """It compiles: 30 s on top would dwarf every other step."""
    plain = measured(EtaEstimator(POSITIONS, NEVER, 10_000), 20).remaining(20)
    compiled = measured(EtaEstimator(POSITIONS, NEVER, 10_000), 20, 30.0).remaining(20)
    assert compiled == plain


def test_evaluations_and_checkpoints_to_come_are_counted() -> None:
    estimator = measured(EtaEstimator(POSITIONS, every(50), 100), 120)
    for seconds in (9.0, 11.0):
        estimator.add_evaluation(seconds)
    for seconds in (1.0, 3.0):
        estimator.add_save(seconds)
    eta = estimator.remaining(120)
    assert eta is not None
    # Evaluations at 150, 200, …, 400, checkpoints at 200, 300 and 400.
    assert eta.seconds == pytest.approx(RATE * POSITIONS[120:].sum() + 6 * 10.0 + 3 * 2.0)


def test_a_machine_that_became_slower_is_followed() -> None:
    estimator = EtaEstimator(POSITIONS, NEVER, 10_000)
    for iteration in range(1, 301):
        rate = RATE if iteration <= 100 else 3 * RATE
        estimator.add_step(iteration, rate * POSITIONS[iteration - 1])
    eta = estimator.remaining(300)
    assert eta is not None
    assert eta.seconds == pytest.approx(3 * RATE * POSITIONS[300:].sum())


def test_a_step_that_paged_does_not_move_it() -> None:
    estimator = measured(EtaEstimator(POSITIONS, NEVER, 10_000), 40)
    before = estimator.remaining(40)
    estimator.add_step(41, 500.0)
    after = estimator.remaining(40)
    assert before is not None
    assert after is not None
    assert after.seconds == pytest.approx(before.seconds, rel=1e-6)


@pytest.mark.parametrize("until", [50, 200, 380])
def test_the_range_holds_the_truth(until: int) -> None:
    """Steps scatter by 5 %; in 200 such runs the truth lies in the range mostly."""
    held = 0
    for seed in range(200):
        noise = np.random.default_rng(seed).normal(1.0, 0.05, ITERATIONS)
        seconds = RATE * POSITIONS * noise
        estimator = EtaEstimator(POSITIONS, NEVER, 10_000)
        for iteration in range(1, until + 1):
            estimator.add_step(iteration, float(seconds[iteration - 1]))
        eta = estimator.remaining(until)
        assert eta is not None
        held += eta.low <= seconds[until:].sum() <= eta.high
    assert held >= 150


def test_the_range_is_wider_where_steps_scatter_more() -> None:
    def width(scatter: float) -> float:
        noise = np.random.default_rng(0).normal(1.0, scatter, ITERATIONS)
        estimator = EtaEstimator(POSITIONS, NEVER, 10_000)
        for iteration in range(1, 381):
            estimator.add_step(iteration, float(RATE * POSITIONS[iteration - 1] * noise[iteration]))
        eta = estimator.remaining(380)
        assert eta is not None
        return (eta.high - eta.low) / eta.seconds

    assert width(0.3) > 1.5 * width(0.05)
