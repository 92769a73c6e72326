"""What somebody fills in becomes a plan, problems at their settings, and a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.machine import Machine, host_name, remember
from tui.cli_draft import MachinePlanner, asked_for
from tui.cli_records import RunRecords
from tui.cli_run import prepare

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setenv("LORA_TUI_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_preset_becomes_the_same_run_through_the_form() -> None:
    draft = MachinePlanner().begin("demo")
    config, directory = prepare(asked_for(draft))
    expected, _ = prepare(asked_for(MachinePlanner().begin("demo")))
    assert config == expected
    assert (config.batch_size, config.learning_rate, config.micro_batch_size) == (8, 1e-3, None)
    assert directory.name.endswith("-demo")
    outlook = MachinePlanner().look(draft)
    assert (outlook.fits, dict(outlook.problems), outlook.notes) == (True, {}, ())
    assert dict(outlook.facts)["work"].startswith("125 iterations, 125 updates, 2.1 passes")
    assert "unmeasured" in dict(outlook.facts)["time"]
    assert sum(count for _, count in outlook.parts) == outlook.peak_bytes


@pytest.mark.parametrize(
    ("key", "typed", "problem"),
    [
        ("batch_size", "many", "should be a number"),
        ("batch_size", "", "give a number"),
        ("batch_size", "0", "should be greater than or equal to 1"),
        ("iters", "1.5", "should be a whole number"),
        ("learning_rate", "fast", "should be a number"),
        ("lora_parameters.rank", "4000", "smaller side"),
        ("model", "", "give a folder or hub name"),
        ("model", "./nowhere", "There is no model folder nowhere"),
        ("data", "./nowhere", "nowhere"),
    ],
)
def test_a_problem_is_at_its_setting(key: str, typed: str, problem: str) -> None:
    outlook = MachinePlanner().look(MachinePlanner().begin("demo").changed(key, typed))
    assert list(outlook.problems) == [key]
    assert problem in outlook.problems[key]
    assert not outlook.can_start


@pytest.mark.parametrize("typed", ["1,500", " 1500 ", "1_500"])
def test_numbers_may_be_typed_as_people_do(typed: str) -> None:
    draft = MachinePlanner().begin("demo").changed("iters", typed)
    assert MachinePlanner().look(draft).problems == {}
    assert prepare(asked_for(draft))[0].iters == 1500


def test_a_learning_rate_may_have_an_exponent() -> None:
    draft = MachinePlanner().begin("demo").changed("learning_rate", "3e-4")
    assert prepare(asked_for(draft))[0].learning_rate == 3e-4


def test_a_model_nobody_knows_can_still_be_started() -> None:
    outlook = MachinePlanner().look(MachinePlanner().begin("demo").changed("model", "some/model"))
    assert outlook.can_start
    assert outlook.fits is None
    assert any("is not on this machine" in note for note in outlook.notes)
    assert any("Downloaded first: the model" in note for note in outlook.notes)


def test_it_is_made_to_fit_a_measured_machine() -> None:
    remember(Machine("Apple M2", False, False, 5_150_000_000, 3e12, 0.0, _now(), host_name()))
    planner = MachinePlanner()
    draft = planner.begin("longer")
    outlook = planner.look(draft)
    assert outlook.fits is False
    assert outlook.verdict.startswith("too large by")
    assert dict(outlook.facts)["time"].startswith("about ")
    fitting = planner.fit(draft)
    assert fitting.changes
    assert planner.look(fitting.draft).fits


def _now() -> float:
    import time

    return time.time()


def test_a_checkpoint_that_is_not_there_has_no_facts(tmp_path: Path) -> None:
    assert RunRecords().checkpoint(str(tmp_path), 5) is None
