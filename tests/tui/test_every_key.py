"""Every key of the table is pressed where it works, and does what it says there."""

from __future__ import annotations

import asyncio
import re
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from textual.command import CommandPalette
from textual.widgets import Input

from tests.tui.conftest import Watched, app_for, until_begun, watched
from tests.tui.scripted import START, ScriptedRun, trained
from tests.tui.world import FIRST, HOME, World
from tui.app import LoraTuiApp
from tui.bindings import KEYS
from tui.chat import ChatScreen
from tui.checkpoint import CheckpointScreen, CompareScreen
from tui.confirm import Question, WordQuestion
from tui.dashboard import Dashboard
from tui.filter_box import FilterBox
from tui.fuse import FuseScreen
from tui.help import HelpScreen
from tui.home import HomeScreen
from tui.new_run import NewRunScreen
from tui.report import ReportScreen

if TYPE_CHECKING:
    from collections.abc import Callable

    from tui.panes.loss import LossPane

PATIENCE = 10.0
BY_ID = {key.id: key for key in KEYS}


@dataclass(frozen=True)
class Step:
    """A key of the table by its id, what is so afterwards, and the keys that lead on from there."""

    id: str
    is_done: Callable[[Watched], object]
    then: tuple[str, ...] = ()
    before: tuple[str, ...] = ()

    async def take(self, seen: Watched) -> None:
        """Press it, and wait until that is so."""
        await seen.press(*self.before)
        assert not self.is_done(seen), f"{self.id} has nothing to do"
        await seen.press(BY_ID[self.id].keys.partition(",")[0])
        try:
            async with asyncio.timeout(PATIENCE):
                while not self.is_done(seen):
                    await seen.pilot.pause(0.005)
        except TimeoutError:
            pytest.fail(f"{self.id} did not do what it says")
        await seen.press(*self.then)


def on(screen: type) -> Callable[[Watched], bool]:
    return lambda seen: isinstance(seen.app.screen, screen)


def asked(call: str) -> Callable[[Watched], bool]:
    return lambda seen: scripted(seen).calls[-1] == call


def shows(words: str) -> Callable[[Watched], bool]:
    return lambda seen: words in seen.text()


def shows_no(words: str) -> Callable[[Watched], bool]:
    return lambda seen: words not in seen.text()


def scripted(seen: Watched) -> ScriptedRun:
    run = seen.dashboard.run_watch.controls
    assert isinstance(run, ScriptedRun)
    return run


def loss(seen: Watched) -> LossPane:
    return seen.dashboard.loss


def focus(name: str) -> Callable[[Watched], bool]:
    return lambda seen: seen.app.focused is not None and seen.app.focused.id == name


def is_scrolled(seen: Watched) -> bool:
    return re.search(r"\d–\d+ of \d", seen.text()) is not None


def place(seen: Watched) -> int | None:
    return seen.dashboard.run_watch.place


TRAINING = (
    Step("run.pause", asked("pause")),
    Step("run.resume", asked("resume")),
    Step("run.checkpoint", asked("checkpoint")),
    Step("run.evaluate", asked("evaluate")),
    Step("run.sample", asked("sample")),
    Step("run.policy", asked("policy: abort")),
    Step("chart.log", lambda seen: loss(seen).look.log),
    Step("chart.axis", lambda seen: loss(seen).look.axis == "tokens"),
    Step("chart.smoother", lambda seen: loss(seen).look.window == 200),
    Step("chart.rougher", lambda seen: loss(seen).look.window == 50),
    Step("chart.rates", lambda seen: loss(seen).shows_rates),
    Step("chart.closer", lambda seen: loss(seen).zoom.width == 617, then=("z",)),
    Step("chart.earlier", lambda seen: not loss(seen).zoom.follows),
    Step("chart.later", lambda seen: loss(seen).zoom.follows),
    Step("chart.farther", lambda seen: loss(seen).zoom.width > 600),
    Step("chart.whole", lambda seen: loss(seen).zoom.is_whole),
    Step("panes.next", focus("memory")),
    Step("panes.previous", focus("loss")),
    Step("panes.open", lambda seen: seen.dashboard.has_class("-one-pane")),
    Step("back.close", lambda seen: not seen.dashboard.has_class("-one-pane")),
    Step("pane.up", is_scrolled, before=("tab",) * 5),
    Step("pane.down", lambda seen: not is_scrolled(seen)),
    Step("pane.page_up", is_scrolled),
    Step("pane.page_down", lambda seen: not is_scrolled(seen)),
    Step("panes.filter", on(FilterBox), then=("escape",)),
    Step("app.help", on(HelpScreen), then=("escape",)),
    Step("app.palette", on(CommandPalette), then=("escape",)),
    Step("app.quit", on(Question), then=("escape",)),
    Step("app.interrupt", on(Question), then=("escape",)),
    Step("run.detach", on(Question), then=("escape",)),
    Step("run.abort", on(Question), then=("a",)),
)
OVER = (
    Step("chart.first", lambda seen: place(seen) == 0),
    Step("chart.step_later", lambda seen: place(seen) == 1),
    Step("chart.step_earlier", lambda seen: place(seen) == 0),
    Step("chart.last", lambda seen: place(seen) is None),
    Step("run.report", on(ReportScreen), then=("escape",)),
    Step("run.try", on(ChatScreen), then=("escape",)),
    Step("checkpoint.open", on(CheckpointScreen), ("escape",), ("tab",) * 4),
    Step("checkpoint.compare", on(CompareScreen), then=("escape",)),
    Step("checkpoint.reveal", lambda seen: seen.app.clipboard),
    Step("checkpoint.delete", on(WordQuestion), then=("escape",)),
    Step("checkpoint.fuse", on(FuseScreen), then=("escape",)),
    Step("checkpoint.try", on(ChatScreen), then=("escape",)),
)
FORM = (
    Step("form.next", focus("data"), before=("n",)),
    Step("form.previous", focus("model")),
    Step("form.back", on(HomeScreen)),
)
AT_HOME = (
    Step("home.measure", lambda seen: world_of(seen).measured == 1, before=("tab",)),
    Step("home.new", on(NewRunScreen), ("escape", "shift+tab")),
    Step("home.reveal", lambda seen: seen.app.clipboard == "/runs/a"),
    Step("home.sort", shows("by best loss"), then=("s", "s")),
    Step("home.filter", focus("filter")),
    Step("filter.end", focus("runs")),
    Step("home.delete", on(Question), ("escape",), ("down",)),
)
CHAT = (
    Step("chat.temperature", shows("temperature 0.4")),
    Step("chat.top_p", shows("top-p 0.95")),
    Step("chat.base", shows_no("base Qwen")),
    Step("chat.checkpoint", lambda seen: scripted(seen).talk.calls[-1] == "switch: maximum@500"),
)
TALKING = (Step("chat.stop", lambda seen: scripted(seen).talk.calls[-1] == "stop"),)
TALKED = (
    Step("chat.copy", lambda seen: seen.app.clipboard == "Paris."),
    Step("chat.clear", shows_no("Paris.")),
    Step("chat.leave", on(Dashboard)),
)
ONE_BY_ONE = {
    "app.suspend", "checkpoint.resume", "run.continue", "home.continue", "home.open",
    "form.start", "form.fit",
}  # fmt: skip
"""Keys after which another run is on the screen, or none: they end a test of their own."""

worlds: dict[LoraTuiApp, World] = {}


def world_of(seen: Watched) -> World:
    return worlds[seen.app]


def app_with(world: World, run: ScriptedRun | None = None) -> LoraTuiApp:
    now = run.now if run else lambda: START
    app = LoraTuiApp(run, world.home, world.doors(), world.bench(), now=now)
    worlds[app] = world
    return app


def over() -> ScriptedRun:
    run = trained(1234)
    run.end("stopped", "as asked")
    return run


async def take(seen: Watched, *steps: Step) -> None:
    for step in steps:
        await step.take(seen)


def test_no_key_is_left_out() -> None:
    steps = (*TRAINING, *OVER, *FORM, *AT_HOME, *CHAT, *TALKING, *TALKED)
    assert {step.id for step in steps} | ONE_BY_ONE == set(BY_ID)


async def test_keys_of_a_run_that_trains() -> None:
    run = trained(1234)
    for number in range(60):
        run.warn(f"warning {number}")
    async with watched(app_for(run), (100, 30)) as seen:
        await seen.look()
        await take(seen, *TRAINING)
        assert run.calls[-1] == "stop: asked"


async def test_keys_of_a_run_that_is_over() -> None:
    async with watched(app_with(World(), over())) as seen:
        await seen.look()
        await take(seen, *OVER)


async def test_keys_at_home_and_in_the_form() -> None:
    async with watched(app_with(World(replace(HOME, is_measured=False)))) as seen:
        await seen.app.workers.wait_for_complete()
        await take(seen, *AT_HOME, *FORM)


async def test_keys_of_the_chat() -> None:
    run = over()
    async with watched(app_for(run)) as seen:
        await seen.press("t")
        chat = seen.app.screen
        assert isinstance(chat, ChatScreen)
        chat.look()
        await take(seen, *CHAT)
        chat.look()
        chat.query_one(Input).value = "Where?"
        await seen.press("enter")
        await take(seen, *TALKING)
        run.talk.answer("adapter", "Paris.")
        chat.look()
        await take(seen, *TALKED)


@pytest.mark.parametrize(
    ("key", "keys", "resumed"),
    [("run.continue", (), "/runs/scripted"), ("checkpoint.resume", ("tab",) * 4, "@1000")],
)
async def test_keys_that_begin_another_run(key: str, keys: tuple[str, ...], resumed: str) -> None:
    world = World()
    world.next_run = trained(20)
    async with watched(app_with(world, over())) as seen:
        await seen.look()
        await seen.press(*keys)
        await take(seen, Step(key, lambda _: world.resumed))
        assert world.resumed[0].endswith(resumed)


@pytest.mark.parametrize(
    ("key", "keys"),
    [("home.continue", ("down", "down")), ("home.open", ("down",)), ("form.start", ("n",))],
)
async def test_keys_that_lead_from_home_to_a_run(key: str, keys: tuple[str, ...]) -> None:
    world = World()
    world.next_run = trained(20)
    world.open_run = lambda _: over()
    async with watched(app_with(world)) as seen:
        await seen.app.workers.wait_for_complete()
        await seen.press(*keys)
        await seen.app.workers.wait_for_complete()
        await take(seen, Step(key, on(Dashboard)))
        await until_begun(seen.app)


async def test_a_key_that_makes_a_run_fit() -> None:
    async with watched(app_with(World(FIRST))) as seen:
        await seen.app.workers.wait_for_complete()
        await seen.press("n")
        rows = seen.app.screen.query_one("#micro_batch_size", Input)
        rows.value = "4"
        while "too large" not in seen.text():
            await seen.pilot.pause(0.005)
        await take(seen, Step("form.fit", lambda _: rows.value == "1"))


async def test_a_key_that_suspends(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []
    monkeypatch.setattr("tui.signals.say", lambda _: None)
    monkeypatch.setattr("tui.signals.stop_process_group", lambda: stopped.append(True))
    monkeypatch.setattr(LoraTuiApp, "suspend", lambda _: nullcontext())
    async with watched(app_for(trained(20))) as seen:
        monkeypatch.setattr(LoraTuiApp, "is_headless", False)
        await take(seen, Step("app.suspend", lambda _: stopped))
        monkeypatch.setattr(LoraTuiApp, "is_headless", True)
