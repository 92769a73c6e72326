"""Pictures of a run's screens; after a change, look at them and run with ``--snapshot-update``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Input

from tests.tui.conftest import Watched, app_for
from tests.tui.drawing import (
    ANSI,
    SMALL,
    WIDE,
    Snapshot,
    assert_look,
    assert_looks,
    assert_sizes,
    pressing,
)
from tests.tui.scripted import ScriptedRun, trained
from tests.tui.world import World
from tui.app import LoraTuiApp
from tui.chat import ChatScreen
from tui.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable


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


def stopped() -> ScriptedRun:
    run = trained(1234)
    run.stop()
    run.answer()
    return run


def completed() -> ScriptedRun:
    run = trained(2000, 2000)
    run.finish()
    return run


def early() -> ScriptedRun:
    return trained(1234)


@dataclass(frozen=True)
class Scene:
    """What is drawn: the run, and the keys pressed."""

    make: Callable[[], ScriptedRun]
    keys: tuple[str, ...] = ()


SCREENS = {
    "loading": Scene(loading),
    "training": Scene(training),
    "in_trouble": Scene(in_trouble, ("l", "x", "space")),
    "paused": Scene(paused, ("tab",)),
    "failed": Scene(failed),
    "looking_back": Scene(completed, (*["left"] * 20, "z")),
    "memory": Scene(training, ("tab", "enter")),
    "help": Scene(early, ("question_mark",)),
    "leaving": Scene(early, ("q",)),
}
"""Drawn in every look."""
STATES = {
    "rates": Scene(early, ("v",)),
    "closer": Scene(early, ("z", "z", "left")),
    "completed": Scene(completed),
    "filtered": Scene(early, ("slash", *"saved")),
    "loss": Scene(training, ("enter",)),
    "machine": Scene(in_trouble, ("tab", "tab", "enter")),
    "pace": Scene(training, (*["tab"] * 3, "enter")),
    "checkpoints": Scene(training, (*["tab"] * 4, "enter")),
    "log": Scene(training, (*["tab"] * 5, "enter")),
    "samples": Scene(training, (*["tab"] * 6, "enter")),
    "palette": Scene(early, ("ctrl+p",)),
    "aborting": Scene(early, ("a",)),
    "handing_over": Scene(early, ("d",)),
    "leaving_while_loading": Scene(loading, ("q",)),
}
"""Screens of which another picture has the other looks; drawn at both sizes."""


@pytest.mark.parametrize("screen", SCREENS)
async def test_screen(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, screen: str) -> None:
    scene = SCREENS[screen]
    await assert_looks(snapshot, monkeypatch, lambda: app_for(scene.make()), pressing(*scene.keys))


@pytest.mark.parametrize("state", STATES)
async def test_state(snapshot: Snapshot, state: str) -> None:
    scene = STATES[state]
    await assert_sizes(snapshot, lambda: app_for(scene.make()), pressing(*scene.keys))


@pytest.mark.parametrize("size", [SMALL, WIDE], ids=["small", "wide"])
async def test_the_terminals_own_colours(snapshot: Snapshot, size: tuple[int, int]) -> None:
    await assert_look(snapshot, app_for(in_trouble()), pressing("tab"), size, ANSI)


async def test_opened_from_home(snapshot: Snapshot) -> None:
    def app() -> LoraTuiApp:
        run, world = stopped(), World()
        return LoraTuiApp(run, world.home, world.doors(), world.bench(), now=run.now)

    await assert_sizes(snapshot, app, pressing())


async def test_settings_that_are_wrong(snapshot: Snapshot) -> None:
    def app() -> LoraTuiApp:
        run = early()
        settings = read_settings({"theme": "mauve", "keys": {"no": "x", "run.sample": "c"}})
        return LoraTuiApp(run, now=run.now, settings=settings)

    await assert_sizes(snapshot, app, pressing())


async def test_too_small(snapshot: Snapshot) -> None:
    await assert_look(snapshot, app_for(early()), pressing(), (40, 12))


async def talk(seen: Watched) -> None:
    """Ask something of the newest checkpoint and its base, and get one answer and a half."""
    await seen.press("t")
    run, chat = seen.dashboard.run_watch.controls, seen.app.screen
    assert isinstance(run, ScriptedRun)
    assert isinstance(chat, ChatScreen)
    chat.look()
    await seen.pilot.pause()
    chat.query_one(Input).value = "What is the capital of France?"
    await seen.press("enter")
    run.talk.answer("adapter", "The capital of France is Paris, ", "on the Seine.")
    run.talk.answer("base", "The capital of France is a city in", ending=None)
    chat.look()


async def test_chat(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    await assert_looks(snapshot, monkeypatch, lambda: app_for(completed()), talk)


async def test_chat_that_has_not_begun(snapshot: Snapshot) -> None:
    await assert_sizes(snapshot, lambda: app_for(completed()), pressing("t"))
