"""The app begins, follows, and ends in good order."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.events import Ended, Started
from tests.tui.conftest import app_for, watched, watched_briefly
from tests.tui.scripted import ScriptedRun, trained

if TYPE_CHECKING:
    from tui.controls import RunControls


def test_importing_the_app_loads_nothing_heavy() -> None:
    heavy = ("mlx", "mlx_lm", "transformers", "datasets", "numpy", "plotext", "pandas", "psutil")
    code = f"import sys, tui.app; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.asyncio
async def test_the_first_seconds_say_what_is_loaded() -> None:
    run = ScriptedRun()
    async with watched(app_for(run)) as seen:
        assert run.calls == ["start"]
        assert "starting…" in seen.text()
        run.load(2)
        await seen.look()
        assert "◌ loading" in seen.text()
        assert "loading the model 12 of 28" in seen.text()
        run.load()
        run.be_ready()
        await seen.look()
        assert "the first step…" in seen.text()
        run.advance(2)
        await seen.look()
        assert "average of 50" in seen.text()


@pytest.mark.asyncio
async def test_a_signal_stops_saves_and_gives_its_exit_code(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        seen.app.end_for_signal(signal.SIGTERM)
        await seen.pilot.pause()
        assert run.calls == ["start", "stop: signal SIGTERM"]
        assert seen.app.return_code == 143
        assert not seen.app.is_running


@pytest.mark.asyncio
async def test_no_run_is_left_behind_whatever_ends_the_app(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        seen.app.exit()
        await seen.pilot.pause()
    assert run.calls == ["start", "stop: the dashboard was closed"]


@pytest.mark.asyncio
async def test_wrong_input_leaves_at_once_for_the_shell_to_say() -> None:
    run = ScriptedRun()
    run.load(1)
    run.end("failed", "There is no model at ./nowhere.", exit_code=2)
    async with watched_briefly(app_for(run)) as app:
        assert app.return_code == 2


@pytest.mark.asyncio
async def test_a_failure_later_stays_to_be_read() -> None:
    run = trained(300)
    run.end("failed", "Ran out of memory at step 300.", 1, "Try a shorter max_seq_length.")
    async with watched(app_for(run)) as seen:
        await seen.look()
        assert "✗ failed" in seen.text()
        assert "Ran out of memory at step 300. Try a shorter max_seq_length." in seen.text()
        assert "q leaves" in seen.text()
        await seen.press("q")
        assert seen.app.return_code == 1


@pytest.mark.asyncio
async def test_the_end_is_told_and_stays() -> None:
    run = trained(600, 600)
    async with watched(app_for(run)) as seen:
        run.finish()
        await seen.look()
        assert "✓ completed" in seen.text()
        assert "600 of 600   best ★" in seen.text()
        assert seen.app.is_running


@pytest.mark.asyncio
async def test_a_run_that_dies_without_a_word_is_called_interrupted(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        run.is_alive = lambda: False
        await seen.look()
        assert "✗ interrupted" in seen.text()
        assert seen.footer == ["report", "quit", "help"]


@pytest.mark.asyncio
async def test_a_long_history_does_not_hold_up_the_keys(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        run.log.extend(run.log[-1:] * 50_000)
        before = seen.dashboard.run_watch.view.version
        seen.app.tick()
        assert seen.dashboard.run_watch.view.version - before == 20_000


def test_the_script_is_a_run() -> None:
    run: RunControls = trained(3)
    assert any(isinstance(event, Started) for event in run.events)
    assert not any(isinstance(event, Ended) for event in run.events)
