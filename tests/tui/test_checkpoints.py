"""Checkpoints have a cursor, a page, and what can be done with them depends on the run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from textual.screen import ModalScreen

from tests.tui.conftest import Watched, until_begun, watched
from tests.tui.scripted import MB, START, ScriptedRun, trained
from tests.tui.world import World
from tui.app import LoraTuiApp
from tui.chat import ChatScreen
from tui.checkpoint import CheckpointScreen, CompareScreen, Seen, about, beside
from tui.confirm import Question, WordQuestion
from tui.dashboard import Dashboard
from tui.fuse import FuseScreen
from tui.home import HomeScreen
from tui.panes.checkpoints import CheckpointsPane

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from textual.screen import Screen

SIZES = [(80, 24), (100, 30), (120, 40), (200, 60)]


def ended(steps: int = 2600) -> ScriptedRun:
    run = trained(steps)
    run.end("stopped", "asked")
    return run


def watching(
    world: World, run: ScriptedRun, size: tuple[int, int] = (80, 24)
) -> AbstractAsyncContextManager[Watched]:
    return watched(LoraTuiApp(run, bench=world.bench(), now=run.now), size)


def pane(seen: Watched) -> CheckpointsPane:
    return seen.dashboard.checkpoints


async def settled(seen: Watched, screen: type[Screen[Any]] | None = None) -> None:
    """Wait for what goes on in the background, and for the screen that it leads to."""
    while screen is not None and not isinstance(seen.app.screen, screen):
        await seen.pilot.pause()
    for _ in range(3):
        await seen.pilot.pause()


def notices(seen: Watched) -> list[str]:
    return [notice.message for notice in seen.app._notifications]  # pyright: ignore[reportPrivateUsage]


@pytest.mark.asyncio
async def test_the_cursor_moves_and_follows_the_newest_from_the_top() -> None:
    run, world = trained(2600), World()
    async with watching(world, run) as seen:
        pane(seen).focus()
        await seen.look()
        current = pane(seen).current
        assert current is not None
        assert current.iteration == 2500
        run.checkpoint()
        run.answer()
        await seen.look()
        assert pane(seen).current.iteration == 2600  # pyright: ignore[reportOptionalMemberAccess]
        await seen.press("down", "down")
        for _ in range(2):
            run.advance(500)
            await seen.look()
            assert pane(seen).current.iteration == 2000  # pyright: ignore[reportOptionalMemberAccess]
        await seen.press("pagedown", "pagedown")
        assert pane(seen).current.iteration == 500  # pyright: ignore[reportOptionalMemberAccess]
        assert " 500" in seen.text()
        await seen.press("up")
        assert pane(seen).current.iteration == 1000  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.asyncio
async def test_keys_say_what_was_asked() -> None:
    run, world = ended(), World()
    async with watching(world, run) as seen:
        pane(seen).focus()
        pane(seen).offers = frozenset({"resume", "delete", "try", "fuse"})
        await seen.look()
        seen.app._desk = None  # pyright: ignore[reportPrivateUsage]
        keys = {"enter": "open", "r": "resume", "t": "try", "f": "fuse", "v": "compare",
                "o": "reveal", "delete": "delete"}  # fmt: skip
        for key, act in keys.items():
            await seen.press("down", key)
            asked = [m for m in seen.messages if isinstance(m, CheckpointsPane.Asked)]
            assert asked[-1].act == act
            assert asked[-1].saved is pane(seen).current


@pytest.mark.asyncio
async def test_while_it_trains_a_checkpoint_is_only_looked_at() -> None:
    run, world = trained(2600), World()
    async with watching(world, run) as seen:
        pane(seen).focus()
        await seen.look()
        await seen.press("delete")
        assert not isinstance(seen.app.screen, ModalScreen)
        await seen.press("enter")
        await settled(seen, CheckpointScreen)
        assert isinstance(seen.app.screen, CheckpointScreen)
        assert "delete it: once this run is over" in seen.text()
        await seen.press("delete")
        assert isinstance(seen.app.screen, CheckpointScreen)
        assert "new run from here" not in seen.text()


@pytest.mark.asyncio
async def test_from_home_one_can_go_on_from_a_checkpoint() -> None:
    run, world = ended(), World()
    world.open_run = lambda _: run
    world.next_run = trained(20)
    app = LoraTuiApp(None, world.home, world.doors(), world.bench(), now=run.now)
    async with watched(app) as seen:
        await seen.app.workers.wait_for_complete()
        await seen.press("enter")
        await until_begun(app)
        pane(seen).focus()
        await seen.look()
        await seen.press("down", "enter")
        await settled(seen, CheckpointScreen)
        assert "lora-tui run --resume scripted@2000" in seen.text()
        await seen.press("r")
        while not world.resumed:
            await seen.pilot.pause()
        assert world.resumed == ["/runs/scripted@2000"]
        assert isinstance(app.screen, Dashboard)
        app.go_home()
        assert isinstance(app.screen, HomeScreen)


@pytest.mark.asyncio
async def test_a_checkpoint_with_nothing_left_to_train_says_so() -> None:
    run, world = trained(600, 600), World()
    run.finish()
    world.open_run = lambda _: run
    app = LoraTuiApp(None, world.home, world.doors(), world.bench(), now=run.now)
    async with watched(app) as seen:
        await seen.app.workers.wait_for_complete()
        await seen.press("enter")
        await until_begun(app)
        pane(seen).focus()
        await seen.look()
        await seen.press("r")
        await settled(seen)
        while not notices(seen):
            await seen.pilot.pause()
        assert notices(seen) == ["a new run from here: all 600 iterations are done"]
        assert world.resumed == []


@pytest.mark.asyncio
async def test_deleting_asks_and_wants_a_word_for_the_newest_and_the_best() -> None:
    run, world = ended(), World()
    async with watching(world, run) as seen:
        pane(seen).focus()
        await seen.look()
        best = seen.dashboard.run_watch.view.best
        assert best is not None
        await seen.press("delete")
        await settled(seen, WordQuestion)
        assert isinstance(seen.app.screen, WordQuestion)
        assert "2,500 is the newest" in seen.text()
        await seen.press(*"yes", "enter")
        assert isinstance(seen.app.screen, WordQuestion)
        await seen.press("escape", "down", "delete")
        await settled(seen, Question)
        assert isinstance(seen.app.screen, Question)
        await seen.press("escape")
        assert world.records.deleted == []
        await seen.press("delete")
        await settled(seen, Question)
        await seen.press("d")
        await settled(seen, Dashboard)
        while not notices(seen):
            await seen.pilot.pause()
        assert world.records.deleted == [("/runs/scripted", 2000)]
        assert [c.iteration for c in seen.dashboard.run_watch.view.checkpoints] == [
            500, 1000, 1500, 2500,
        ]  # fmt: skip
        assert "Deleted the checkpoint at 2,000." in notices(seen)
        assert pane(seen).current.iteration == 1500  # pyright: ignore[reportOptionalMemberAccess]
        await seen.press("up", "delete")
        await settled(seen, WordQuestion)
        await seen.press(*"delete", "enter")
        await settled(seen, Dashboard)
        await settled(seen)
        while len(world.records.deleted) < 2:
            await seen.pilot.pause()
        assert world.records.deleted[-1] == ("/runs/scripted", 2500)


@pytest.mark.asyncio
async def test_a_checkpoint_that_cannot_be_deleted_stays() -> None:
    run, world = ended(), World()
    world.records.is_busy = True
    async with watching(world, run) as seen:
        pane(seen).focus()
        await seen.look()
        await seen.press("down", "delete")
        await settled(seen, Question)
        await seen.press("d")
        await settled(seen, Dashboard)
        while not notices(seen):
            await seen.pilot.pause()
        assert "being trained by process 7" in notices(seen)[0]
        assert len(seen.dashboard.run_watch.view.checkpoints) == 5


@pytest.mark.asyncio
async def test_two_checkpoints_side_by_side() -> None:
    run, world = ended(), World()
    async with watching(world, run) as seen:
        pane(seen).focus()
        await seen.look()
        await seen.press("down", "down", "v")
        await settled(seen, CompareScreen)
        assert isinstance(seen.app.screen, CompareScreen)
        first = seen.text()
        assert "checkpoint 1,500 beside another" in first
        assert "is better by" in first
        await seen.press("right")
        assert seen.text() != first
        await seen.press("left")
        assert seen.text() == first
        await seen.press("escape", "o")
        assert seen.app.clipboard.endswith("scripted/adapters/0001500_adapters.safetensors")


@pytest.mark.asyncio
async def test_one_talks_with_the_checkpoint_under_the_cursor() -> None:
    run, world = ended(), World()
    async with watching(world, run) as seen:
        pane(seen).focus()
        await seen.press("down")
        await seen.look()
        assert "try it" in seen.footer
        await seen.press("t")
        await settled(seen, ChatScreen)
        assert [call for call in run.calls if call.startswith("talk")] == ["talk: 2000"]


FUSING = """
import signal, sys, time
print("reading the base", file=sys.stderr, flush=True)
print("/runs/scripted/fused-2500")
sys.stdout.flush()
{then}
"""


def fusing(then: str) -> Callable[[str, int], Screen[Any]]:
    command = (sys.executable, "-c", FUSING.format(then=then))
    return lambda path, iteration: FuseScreen(path, iteration, command)


async def said(seen: Watched, words: str) -> None:
    """Wait until the box says something."""
    while words not in seen.text():
        await seen.pilot.pause(0.02)


@pytest.mark.asyncio
async def test_fusing_says_what_goes_on_and_how_it_ended() -> None:
    run, world = ended(), World()
    app = LoraTuiApp(run, bench=world.bench(fusing("")), now=run.now)
    async with watched(app) as seen:
        pane(seen).focus()
        await seen.press("f")
        await settled(seen, FuseScreen)
        await said(seen, "esc closes")
        assert "reading the base" in seen.text()
        assert "/runs/scripted/fused-2500" in seen.text()
        await seen.press("escape")
        assert isinstance(app.screen, Dashboard)


@pytest.mark.asyncio
async def test_leaving_stops_the_fusing() -> None:
    run, world = ended(), World()
    app = LoraTuiApp(run, bench=world.bench(fusing("time.sleep(600)")), now=run.now)
    async with watched(app) as seen:
        pane(seen).focus()
        await seen.press("f")
        await settled(seen, FuseScreen)
        await said(seen, "fused-2500")
        screen: Any = app.screen
        await seen.press("escape")
        while app.screen is screen:
            await seen.pilot.pause(0.02)
        assert screen._process.returncode is not None


@pytest.mark.asyncio
async def test_a_click_moves_the_cursor_and_a_second_opens() -> None:
    run, world = ended(), World()
    async with watching(world, run) as seen:
        await seen.look()
        await seen.pilot.click("#checkpoints", offset=(6, 3))
        assert pane(seen).current.iteration == 1500  # pyright: ignore[reportOptionalMemberAccess]
        await seen.pilot.click("#checkpoints", offset=(6, 3), times=2)
        await settled(seen, CheckpointScreen)
        assert isinstance(seen.app.screen, CheckpointScreen)


@pytest.mark.asyncio
async def test_pages_fit_every_size() -> None:
    run, world = ended(), World()
    async with watching(world, run) as seen:
        pane(seen).focus()
        await seen.look()
        await seen.press("down")
        for key, page in (("enter", CheckpointScreen), ("v", CompareScreen)):
            await seen.press(key)
            await settled(seen, page)
            for size in SIZES:
                await seen.pilot.resize_terminal(*size)
                await seen.pilot.pause()
                assert "esc closes" in seen.text()
                assert "2,000" in seen.text()
            await seen.press("escape")


def seen_at(iteration: int, *, is_damaged: bool = False) -> Seen:
    run = trained(1000)
    saved = next(e for e in run.log if e.kind == "checkpoint" and e.iteration == iteration)  # pyright: ignore[reportAttributeAccessIssue]
    facts = None if is_damaged else World().records.checkpoint("/runs/a", iteration)
    path = f"/runs/a/adapters/{iteration:07}_adapters.safetensors"
    return Seen(saved, facts, iteration == 1000, path, f"lora-tui run --resume a@{iteration}")  # pyright: ignore[reportArgumentType]


def test_a_damaged_checkpoint_is_told() -> None:
    assert "its files cannot be read" in about(seen_at(500, is_damaged=True), START).plain
    text = beside(seen_at(500, is_damaged=True), seen_at(1000), START).plain
    assert "Settings cannot be read" in text
    assert f"{148 * MB / 1e6:.0f} MB" in text


def test_the_better_one_is_named() -> None:
    text = beside(seen_at(500), seen_at(1000), START).plain
    assert "1,000 is better by" in text
    assert "≠" in text
