"""The app begins, follows, and ends in good order."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from engine.errors import ConfigError
from engine.events import Ended, Started
from tests.tui.conftest import app_for, until_begun, watched, watched_briefly
from tests.tui.scripted import ScriptedRun, trained
from tui.app import LoraTuiApp
from tui.controls import Doors, HomeData, PresetLine, RunControls, RunLine
from tui.dashboard import Dashboard
from tui.home import HomeScreen

HOME = HomeData(
    presets=(
        PresetLine("demo", "a tiny model on a tiny task: one minute, no network"),
        PresetLine("maximum", "Qwen2.5 1.5B on guanaco, for an 8 GB Mac, overnight"),
        PresetLine("quick", "the same with rank 8 and 1,000 iterations: one hour"),
    ),
    runs=(
        RunLine("2026-09-21-maximum", "/runs/a", "training", 9450, 15_000, 1.291),
        RunLine("2026-09-20-demo", "/runs/b", "completed", 300, 300, 0.412),
        RunLine("2026-09-18-maximum", "/runs/c", "interrupted", 4510, 15_000, 1.402, 4500),
        RunLine("2026-09-17-quick", "/runs/d", "failed", 12, 1000),
    ),
    machine="Apple M2 · 8.6 GB memory · 91 GB disk free",
)


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
        assert seen.footer == ["quit", "help"]


@pytest.mark.asyncio
async def test_a_long_history_does_not_hold_up_the_keys(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        run.log.extend(run.log[-1:] * 50_000)
        before = seen.dashboard.run_watch.view.version
        seen.app.tick()
        assert seen.dashboard.run_watch.view.version - before == 20_000


@pytest.mark.asyncio
async def test_home_starts_a_preset() -> None:
    run = trained(20)
    chosen: list[str] = []

    def start(name: str) -> RunControls:
        chosen.append(name)
        return run

    app = LoraTuiApp(None, HOME, Doors(start, unexpected, unexpected), now=run.now)
    async with watched(app) as seen:
        await seen.press("down", "enter")
        assert chosen == ["maximum"]
        await until_begun(app)
        assert isinstance(app.screen, Dashboard)
        assert run.calls == ["start"]


@pytest.mark.asyncio
async def test_home_opens_a_run_and_takes_back() -> None:
    run = trained(20)
    run.end("stopped", "asked")
    chosen: list[str] = []

    def open_run(path: str) -> RunControls:
        chosen.append(path)
        return run

    app = LoraTuiApp(None, HOME, Doors(unexpected, open_run, unexpected), now=run.now)
    async with watched(app) as seen:
        await seen.press("down", "down", "down", "down", "enter")
        assert chosen == ["/runs/b"]
        await until_begun(app)
        await seen.look()
        assert "■ stopped" in seen.text()
        assert seen.footer == ["go on", "back", "quit", "help"]
        await seen.press("escape")
        assert isinstance(app.screen, HomeScreen)
        assert app.run_watch is None


@pytest.mark.asyncio
async def test_r_goes_on_with_a_run_at_home_and_in_its_dashboard() -> None:
    past, again = trained(20), trained(20)
    past.end("stopped", "asked")
    chosen: list[str] = []

    def go_on(path: str) -> RunControls:
        chosen.append(path)
        return again

    app = LoraTuiApp(None, HOME, Doors(unexpected, lambda _: past, go_on), now=past.now)
    async with watched(app) as seen:
        await seen.press("r")
        assert chosen == []
        await seen.press("down", "down", "down", "down", "down", "enter")
        await until_begun(app)
        await seen.press("r")
        assert chosen == [past.path]
        await until_begun(app)
        assert again.calls == ["start"]
        app.go_home()
        await seen.press("r")
        assert chosen == [past.path, "/runs/c"]


@pytest.mark.asyncio
async def test_home_says_why_a_preset_cannot_start() -> None:
    def start(name: str) -> RunControls:
        raise ConfigError([f"unknown preset '{name}'"])

    app = LoraTuiApp(None, HOME, Doors(start, unexpected, unexpected))
    async with watched(app) as seen:
        await seen.press("enter")
        assert "unknown preset 'demo'" in seen.text()
        await seen.press("q")
        assert not app.is_running


@pytest.mark.asyncio
async def test_home_shows_wrong_input_that_only_loading_finds() -> None:
    run = ScriptedRun()
    run.load(1)
    run.end("failed", "There is no model at ./nowhere.", exit_code=2)
    app = LoraTuiApp(None, HOME, Doors(lambda _: run, unexpected, unexpected), now=run.now)
    async with watched(app) as seen:
        await seen.press("enter")
        await seen.pilot.pause(0.2)
        assert isinstance(app.screen, HomeScreen)
        assert "There is no model at ./nowhere." in seen.text()


@pytest.mark.asyncio
async def test_the_first_start_explains_itself() -> None:
    app = LoraTuiApp(None, HomeData(HOME.presets, (), HOME.machine))
    async with watched(app) as seen:
        assert "New here?" in seen.text()
        assert "Runs on this machine" not in seen.text()
    app = LoraTuiApp(None, HOME)
    async with watched(app) as seen:
        assert "New here?" not in seen.text()


def unexpected(_: str) -> RunControls:
    """Stand in for a door that must stay shut."""
    raise AssertionError


def test_the_script_is_a_run() -> None:
    run: RunControls = trained(3)
    assert any(isinstance(event, Started) for event in run.events)
    assert not any(isinstance(event, Ended) for event in run.events)
