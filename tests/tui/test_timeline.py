"""A run that is over can be looked at as it was at any of its iterations."""

from __future__ import annotations

import dataclasses

import pytest

from engine.events import Guard, Step
from engine.view import RunView
from tests.tui.conftest import app_for, watched
from tests.tui.scripted import ScriptedRun, started, trained
from tui.timeline import Timeline


@pytest.fixture(scope="module")
def finished() -> ScriptedRun:
    """A run of 2,000 iterations, with everything that can happen on the way."""
    run = ScriptedRun(2000)
    run.begin()
    run.advance(700)
    run.shrink()
    run.advance(600)
    run.sample()
    run.answer()
    run.advance(700)
    run.finish()
    return run


def folded(run: ScriptedRun, iteration: int) -> RunView:
    """The run as it was, by folding everything until the step after."""
    view = RunView()
    for event in run.events:
        if isinstance(event, Step) and event.iteration > iteration:
            break
        view.apply(event)
    return view


@pytest.mark.parametrize("iteration", [1, 499, 500, 701, 1300, 1999])
def test_it_is_what_was_shown_then(finished: ScriptedRun, iteration: int) -> None:
    then, back = folded(finished, iteration), Timeline(finished.events).view_at(iteration - 1)
    assert back.average_loss == pytest.approx(then.average_loss, rel=1e-3)
    assert back.tokens_per_second == then.tokens_per_second
    assert list(back.log) == list(then.log)
    assert list(back.host_trace) == list(then.host_trace)
    for name in (
        "status", "iteration", "progress", "last_step", "evaluations", "best", "checkpoints",
        "guard_actions", "guard_state", "samples", "host", "memory", "peak_bytes",
        "first_step_time", "policy", "ended",
    ):  # fmt: skip
        assert getattr(back, name) == getattr(then, name), name


def test_what_was_undone_is_not_there() -> None:
    run = trained(100, 1000)
    run.log.append(Guard(time=run.time, action="reload", why="no number", iteration=60))
    run.iteration = 60
    run.advance(20)
    timeline = Timeline(run.events)
    assert len(timeline) == 80
    assert timeline.view_at(70).iteration == 71
    assert timeline.view_at(70).guard_actions
    assert timeline.view_at(59).iteration == 60


def test_a_resumed_run_goes_on_in_its_history() -> None:
    run = trained(100, 1000)
    run.end("stopped", "asked")
    run.log.append(dataclasses.replace(started(run.time, "maximum", 1000), iteration=100))
    run.advance(50)
    timeline = Timeline(run.events)
    assert len(timeline) == 150
    assert timeline.view_at(120).iteration == 121
    assert timeline.view_at(120).ended is None


async def test_arrow_keys_go_back_and_all_panes_follow(finished: ScriptedRun) -> None:
    async with watched(app_for(finished), (120, 40)) as seen:
        await seen.look()
        assert "← → look back" in seen.text()
        await seen.press("home")
        assert "looking back at 1 " in seen.text()
        assert "1 / 2,000" in seen.text()
        await seen.press("shift+right", "right")
        assert seen.dashboard.run_watch.place == 41
        assert "42 / 2,000" in seen.text()
        assert "1 saved" not in seen.text()
        await seen.press("left", "shift+left")
        assert seen.dashboard.run_watch.place == 0
        await seen.press("escape")
        assert "looking back" not in seen.text()
        assert "2,000 / 2,000" in seen.text()
        await seen.press("left", "end")
        assert seen.dashboard.run_watch.place is None


async def test_a_click_on_the_curve_goes_there(finished: ScriptedRun) -> None:
    async with watched(app_for(finished), (120, 40)) as seen:
        await seen.look()
        region = seen.dashboard.loss.region
        await seen.pilot.click(offset=(region.x + region.width // 2, region.y + 5))
        place = seen.dashboard.run_watch.place
        assert place is not None
        assert 850 < place < 1050
        assert f"looking back at {place + 1:,}" in seen.text()


async def test_a_run_that_goes_on_cannot_be_looked_back_in(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        await seen.press("left", "home", "shift+left")
        assert seen.dashboard.run_watch.place is None
        seen.dashboard.run_watch.look_at(5)
        assert seen.dashboard.run_watch.place is None
