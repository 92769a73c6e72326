"""Pictures of the screens; after a change, look at them and run with ``--snapshot-update``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.tui.conftest import app_for, until_begun
from tests.tui.scripted import ScriptedRun, trained
from tui.app import LoraTuiApp

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.pilot import Pilot

SMALL, WIDE = (80, 24), (120, 40)
Snapshot = Any  # The plugin's fixture has no type of its own.


def drawn(*keys: str) -> Callable[[Pilot[None]], Any]:
    """Wait until the run is drawn, then press keys."""

    async def settle(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, LoraTuiApp)
        app.animation_level = "none"
        if app.run_watch is not None:
            await until_begun(app)
            app.tick()
        await pilot.pause()
        await pilot.press(*keys)
        await pilot.pause(0.3)

    return settle


def test_loading(snap_compare: Snapshot) -> None:
    run = ScriptedRun()
    run.load(2)
    assert snap_compare(app_for(run), terminal_size=SMALL, run_before=drawn())


@pytest.mark.parametrize("size", [SMALL, WIDE])
def test_training(snap_compare: Snapshot, size: tuple[int, int]) -> None:
    run = trained(9450)
    run.sample()
    run.answer()
    assert snap_compare(app_for(run), terminal_size=size, run_before=drawn())


def test_asked_in_the_light(snap_compare: Snapshot) -> None:
    run = trained(1234)
    run.shrink()
    run.break_step()
    app = app_for(run)
    app.theme = "lora-light"
    assert snap_compare(app, terminal_size=SMALL, run_before=drawn("l", "x", "space"))


def test_paused_without_colours(snap_compare: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    run = trained(1234)
    run.pause()
    run.answer()
    assert snap_compare(app_for(run), terminal_size=SMALL, run_before=drawn("tab"))


def test_failed(snap_compare: Snapshot) -> None:
    run = trained(600)
    run.end("failed", "Ran out of memory at step 600.", 1, "Try a shorter max_seq_length.")
    assert snap_compare(app_for(run), terminal_size=SMALL, run_before=drawn())


def test_help(snap_compare: Snapshot) -> None:
    run = trained(1234)
    assert snap_compare(app_for(run), terminal_size=WIDE, run_before=drawn("question_mark"))


def test_leaving(snap_compare: Snapshot) -> None:
    assert snap_compare(app_for(trained(1234)), terminal_size=SMALL, run_before=drawn("q"))
