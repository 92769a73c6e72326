"""Pictures of home, the form and checkpoints; look at them before ``--snapshot-update``."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from textual.widgets import Input

from tests.tui.drawing import Snapshot, assert_looks, assert_sizes, pressing
from tests.tui.scripted import START, trained
from tests.tui.world import FIRST, HOME, World
from tui.app import LoraTuiApp
from tui.checkpoint import CheckpointScreen, CompareScreen
from tui.confirm import Question, WordQuestion
from tui.fuse import FuseScreen
from tui.home import HomeScreen
from tui.new_run import NewRunScreen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from textual.screen import Screen

    from tests.tui.conftest import Watched
    from tui.controls import HomeData

PLANNING = "working it out…"
FIRST_LOOK = replace(HOME, runs=None)


def at_home(home: HomeData = HOME) -> Callable[[], LoraTuiApp]:
    world = World(home)
    doors = world.doors()
    if home.runs is None:
        # Before anybody has looked.
        doors = replace(doors, look=None)
    return lambda: LoraTuiApp(None, world.home, doors, world.bench(), now=lambda: START)


def leading_to(screen: type[Screen[Any]], *keys: str) -> Callable[[Watched], Awaitable[None]]:
    """Press keys and wait for the screen to which they lead."""

    async def act(seen: Watched) -> None:
        await pressing(*keys)(seen)
        while not isinstance(seen.app.screen, screen):
            await seen.pilot.pause()

    return act


def filling_in(key: str = "", value: str = "") -> Callable[[Watched], Awaitable[None]]:
    """Open the form, type into one of its fields, and wait for the plan."""

    async def act(seen: Watched) -> None:
        await seen.press("n")
        screen = seen.app.screen
        assert isinstance(screen, NewRunScreen)
        await seen.app.workers.wait_for_complete()
        if key:
            field = screen.query_one(f"#{key}", Input)
            field.focus()
            field.value = value
            for is_planning in (True, False):
                while (PLANNING in seen.text()) != is_planning:
                    await seen.pilot.pause(0.02)

    return act


async def refused(seen: Watched) -> None:
    screen = seen.app.screen
    assert isinstance(screen, HomeScreen)
    screen.show_problem("c is being trained by process 7. Stop that one first.")


SCREENS = {
    "home": (HOME, pressing()),
    "first_start": (FIRST, pressing()),
    "deleting_a_run": (HOME, leading_to(Question, "down", "delete")),
    "a_run_with_problems": (HOME, filling_in("model", "./nowhere")),
}
"""Drawn in every look."""
STATES = {
    "first_look": (FIRST_LOOK, pressing()),
    "presets": (HOME, pressing("tab", "down")),
    "filtered": (HOME, pressing("slash", *"maximum")),
    "refused": (HOME, refused),
    "a_preset_that_does_not_fit": (HOME, leading_to(Question, "tab", "down", "enter")),
    "a_run_that_fits": (HOME, filling_in()),
    "a_run_that_does_not_fit": (HOME, filling_in("micro_batch_size", "4")),
}
"""Screens of which another picture has the other looks; drawn at both sizes."""


@pytest.mark.parametrize("screen", SCREENS)
async def test_screen(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, screen: str) -> None:
    home, act = SCREENS[screen]
    await assert_looks(snapshot, monkeypatch, at_home(home), act)


@pytest.mark.parametrize("state", STATES)
async def test_state(snapshot: Snapshot, state: str) -> None:
    home, act = STATES[state]
    await assert_sizes(snapshot, at_home(home), act)


FUSING = "print('Reading the base model…\\nWriting 1.2 of 3.1 GB'); import time; time.sleep(600)"


def over() -> LoraTuiApp:
    def fuse(run: str, iteration: int) -> FuseScreen:
        return FuseScreen(run, iteration, (sys.executable, "-uc", FUSING))

    run, world = trained(2600), World()
    run.end("stopped", "as asked")
    return LoraTuiApp(run, world.home, world.doors(), world.bench(fuse), now=run.now)


TO_CHECKPOINTS = ["tab"] * 4


async def test_a_checkpoint(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    act = leading_to(CheckpointScreen, *TO_CHECKPOINTS, "down", "enter")
    await assert_looks(snapshot, monkeypatch, over, act)


async def fuse(seen: Watched) -> None:
    await leading_to(FuseScreen, *TO_CHECKPOINTS, "f")(seen)
    while "3.1 GB" not in seen.text():
        await seen.pilot.pause(0.02)


CHECKPOINTS = {
    "comparing": leading_to(CompareScreen, *TO_CHECKPOINTS, "down", "v"),
    "deleting_one": leading_to(Question, *TO_CHECKPOINTS, "down", "down", "delete"),
    "deleting_the_newest": leading_to(WordQuestion, *TO_CHECKPOINTS, "delete"),
    "fusing": fuse,
}


@pytest.mark.parametrize("act", CHECKPOINTS)
async def test_what_is_done_with_a_checkpoint(snapshot: Snapshot, act: str) -> None:
    await assert_sizes(snapshot, over, CHECKPOINTS[act])
