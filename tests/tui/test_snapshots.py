"""Pictures of the screens; after a change, look at them and run with ``--snapshot-update``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.tui.conftest import app_for, until_begun
from tests.tui.scripted import ScriptedRun, trained
from tui.app import LoraTuiApp
from tui.themes import DEFAULT_THEME

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
        await pilot.pause(0.1)

    return settle


def loading() -> ScriptedRun:
    run = ScriptedRun()
    run.load(2)
    return run


def training() -> ScriptedRun:
    run = trained(9450)
    run.sample()
    run.answer()
    return run


def in_trouble() -> ScriptedRun:
    run = trained(1234)
    run.shrink()
    run.break_step()
    return run


def paused() -> ScriptedRun:
    run = trained(1234)
    run.pause()
    run.answer()
    return run


def failed() -> ScriptedRun:
    run = trained(600)
    run.end("failed", "Ran out of memory at step 600.", 1, "Try a shorter max_seq_length.")
    return run


def completed() -> ScriptedRun:
    run = trained(2000, 2000)
    run.finish()
    return run


def early() -> ScriptedRun:
    return trained(1234)


STATES: dict[str, tuple[Callable[[], ScriptedRun], tuple[str, ...], str]] = {
    "loading": (loading, (), DEFAULT_THEME),
    "training": (training, (), DEFAULT_THEME),
    "asked_in_the_light": (in_trouble, ("l", "x", "space"), "lora-light"),
    "terminals_own_colours": (in_trouble, ("tab",), "ansi-dark"),
    "rates": (early, ("v",), DEFAULT_THEME),
    "closer": (early, ("z", "z", "left"), DEFAULT_THEME),
    "failed": (failed, (), DEFAULT_THEME),
    "completed": (completed, (), DEFAULT_THEME),
    "looking_back": (completed, (*["left"] * 20, "z"), DEFAULT_THEME),
    "filtered": (early, ("slash", *"saved"), DEFAULT_THEME),
    "whole_screen": (training, ("tab", "enter"), DEFAULT_THEME),
    "help": (early, ("question_mark",), DEFAULT_THEME),
    "leaving": (early, ("q",), DEFAULT_THEME),
}
"""What is drawn: the run, the keys pressed, and the theme."""


@pytest.mark.parametrize("size", [SMALL, WIDE], ids=["80x24", "120x40"])
@pytest.mark.parametrize("state", STATES)
def test_state(snap_compare: Snapshot, state: str, size: tuple[int, int]) -> None:
    make, keys, theme = STATES[state]
    app = app_for(make())
    app.theme = theme
    assert snap_compare(app, terminal_size=size, run_before=drawn(*keys))


@pytest.mark.parametrize("size", [SMALL, WIDE], ids=["80x24", "120x40"])
def test_paused_without_colours(
    snap_compare: Snapshot, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(app_for(paused()), terminal_size=size, run_before=drawn("tab"))


def test_too_small(snap_compare: Snapshot) -> None:
    assert snap_compare(app_for(early()), terminal_size=(40, 12), run_before=drawn())
