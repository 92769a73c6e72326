"""A run is made to fit by what costs least, and by no more than is needed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.config import load_config
from engine.fit import FREE, fit, fitted_config
from engine.lengths import Lengths
from engine.planning import make_plan
from tests.engine.test_planning import MAC

MIXED = Lengths.exactly([200] * 75 + [2048] * 25, "counted")
ORDER = [
    "micro_batch_size",
    "tail_chunk",
    "cache_limit_bytes",
    "attention",
    "step",
    "batch_size",
    "max_seq_length",
    "grad_accumulation_steps",
    "lora_parameters.rank",
    "num_layers",
    "model",
]


def fitted(budget: float, **changes: Any) -> Any:
    config = load_config("maximum", changes)
    return fit(config, replace(MAC, budget_bytes=int(budget)), MIXED)


def test_what_fits_is_left_alone() -> None:
    found = fitted(6e9)
    assert found.changes == ()
    assert found.config == load_config("maximum")


def test_what_costs_nothing_comes_first() -> None:
    found = fitted(6e9, micro_batch_size=4, tail_chunk=2048)
    assert found.plan.fits
    assert [change.setting for change in found.changes] == ["micro_batch_size", "tail_chunk"]
    assert {change.cost for change in found.changes} == {FREE}
    assert all(change.saved_bytes > 0 for change in found.changes)


@pytest.mark.parametrize("budget", [5.4e9, 4.9e9, 4.4e9, 3.9e9, 3e9, 2e9, 1.3e9])
def test_less_memory_costs_more_and_never_more_than_needed(budget: float) -> None:
    found = fitted(budget, micro_batch_size=4)
    assert found.plan.fits
    settings = [change.setting for change in found.changes]
    assert settings == sorted(settings, key=ORDER.index)
    plan = make_plan(load_config("maximum", {"micro_batch_size": 4}), MAC, lengths=MIXED)
    assert sum(c.saved_bytes for c in found.changes) == plan.memory.peak - found.plan.memory.peak
    for change in found.changes:
        values = {c.setting: c.after for c in found.changes if c is not change}
        machine = replace(MAC, budget_bytes=int(budget))
        without = load_config("maximum", {"micro_batch_size": 4} | values)
        assert not make_plan(without, machine, lengths=MIXED).fits, f"{change.setting} was needless"


def test_what_does_not_help_is_not_proposed() -> None:
    """In micro-batches of one row a smaller batch needs no less, nor do fewer accumulated steps."""
    settings = {c.setting for c in fitted(4.9e9).changes}
    assert settings == {"max_seq_length"}


def test_a_change_says_what_it_costs() -> None:
    (change,) = fitted(4.9e9).changes
    assert (change.before, change.after) == (2048, 1024)
    assert change.cost == "longer rows are cut, at most 25 % of them"
    assert 0.4 < change.time_ratio < 1


def test_too_large_a_model_is_taken_in_four_bits() -> None:
    found = fitted(5.15e9, model="Qwen/Qwen2.5-3B-Instruct")
    assert found.plan.fits
    assert found.config.model == "mlx-community/Qwen2.5-3B-Instruct-4bit"


def test_what_cannot_fit_says_so() -> None:
    found = fitted(4e8)
    assert not found.plan.fits
    assert found.changes


def test_a_run_takes_the_settings_that_fit() -> None:
    machine = replace(MAC, budget_bytes=4_900_000_000)
    assert fitted_config(load_config("maximum"), machine).max_seq_length == 1024


def test_buffers_kept_for_reuse_go_before_what_costs_quality() -> None:
    config = load_config("maximum", {"cache_limit_bytes": 1_000_000_000})
    fitted = fit(config, MAC, MIXED)
    assert fitted.plan.fits
    assert [c.setting for c in fitted.changes] == ["cache_limit_bytes"]
    change = fitted.changes[-1]
    assert change.before == 1_000_000_000
    assert change.after == fitted.plan.budget - fitted.plan.memory.peak
    assert change.saved_bytes == 1_000_000_000 - change.after
    assert "the same result" in change.cost
