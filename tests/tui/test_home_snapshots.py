"""Pictures of home, the form and checkpoints; look at them before ``--snapshot-update``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from textual.widgets import Input

from tests.tui.conftest import until_begun
from tests.tui.scripted import START, trained
from tests.tui.world import FIRST, World
from tui.app import LoraTuiApp
from tui.new_run import NewRunScreen

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.pilot import Pilot

SMALL, WIDE = (80, 24), (120, 40)
Snapshot = Any  # The plugin's fixture has no type of its own.


def app_at_home(world: World) -> LoraTuiApp:
    return LoraTuiApp(None, world.home, world.doors(), world.bench(), now=lambda: START)


def settled(*keys: str, typed: tuple[str, str] | None = None) -> Callable[[Pilot[None]], Any]:
    """Press keys once home has looked around, type into a field, and wait for what comes."""

    async def settle(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, LoraTuiApp)
        app.animation_level = "none"
        if app.run_watch is not None:
            await until_begun(app)
            app.tick()
        await app.workers.wait_for_complete()
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        screen = app.screen
        if isinstance(screen, NewRunScreen):
            await app.workers.wait_for_complete()
            for field in screen.query(Input):
                field.cursor_blink = False
            if typed is not None:
                field = screen.query_one(f"#{typed[0]}", Input)
                field.focus()
                field.value = typed[1]
                # Not what the timer does: it would be waited for.
                screen._plan_again()  # pyright: ignore[reportPrivateUsage]
                await app.workers.wait_for_complete()
        await pilot.pause(0.3)

    return settle


@pytest.mark.parametrize("size", [SMALL, WIDE])
def test_home(snap_compare: Snapshot, size: tuple[int, int]) -> None:
    assert snap_compare(app_at_home(World()), terminal_size=size, run_before=settled())


def test_first_start(snap_compare: Snapshot) -> None:
    assert snap_compare(app_at_home(World(FIRST)), terminal_size=SMALL, run_before=settled())


def test_home_without_colours(snap_compare: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    keys = settled("tab", "down")
    assert snap_compare(app_at_home(World()), terminal_size=SMALL, run_before=keys)


def test_deleting_a_run_in_the_light(snap_compare: Snapshot) -> None:
    app = app_at_home(World())
    app.theme = "lora-light"
    assert snap_compare(app, terminal_size=SMALL, run_before=settled("down", "delete"))


@pytest.mark.parametrize("size", [SMALL, WIDE])
def test_a_new_run_that_fits(snap_compare: Snapshot, size: tuple[int, int]) -> None:
    assert snap_compare(app_at_home(World()), terminal_size=size, run_before=settled("n"))


def test_a_new_run_that_does_not_fit(snap_compare: Snapshot) -> None:
    keys = settled("n", typed=("micro_batch_size", "4"))
    assert snap_compare(app_at_home(World()), terminal_size=SMALL, run_before=keys)


def test_a_new_run_with_problems(snap_compare: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    keys = settled("n", typed=("model", "./nowhere"))
    assert snap_compare(app_at_home(World()), terminal_size=SMALL, run_before=keys)


@pytest.mark.parametrize("key", ["enter", "v"])
def test_a_checkpoint(snap_compare: Snapshot, key: str) -> None:
    run, world = trained(2600), World()
    run.end("stopped", "asked")
    app = LoraTuiApp(run, bench=world.bench(), now=run.now)
    keys = settled(*["tab"] * 4, "down", key)
    assert snap_compare(app, terminal_size=SMALL, run_before=keys)
