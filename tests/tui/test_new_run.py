"""The form plans while one types, says what is wrong where it is, and starts the run."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Input, Select

from tests.tui.conftest import Watched, until_begun, watched
from tests.tui.scripted import START, trained
from tests.tui.world import FIRST, FakePlanner, World
from tui.app import LoraTuiApp
from tui.confirm import Question
from tui.dashboard import Dashboard
from tui.draft import SETTINGS
from tui.home import HomeScreen
from tui.new_run import NewRunScreen

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.asyncio
SIZES = [(80, 24), (100, 30), (120, 40), (200, 60)]


@asynccontextmanager
async def on_form(world: World, size: tuple[int, int] = (80, 24)) -> AsyncGenerator[Watched]:
    """Open the form from home, and wait for its plan."""
    app = LoraTuiApp(None, world.home, world.doors(), now=lambda: START)
    async with watched(app, size) as seen:
        await seen.press("n")
        assert isinstance(seen.app.screen, NewRunScreen)
        await planned(seen)
        yield seen


async def planned(seen: Watched, times: int = 1) -> None:
    """Wait until so many plans were shown since the last call."""
    for _ in range(times):
        while not any(isinstance(m, NewRunScreen.Planned) for m in seen.messages):
            await seen.pilot.pause()
        seen.messages.clear()
    await seen.pilot.pause()


def field(seen: Watched, name: str) -> Input:
    return seen.app.screen.query_one(f"#{name}", Input)


async def type_into(seen: Watched, name: str, text: str) -> None:
    """Replace what a field holds, and wait for the plan."""
    field(seen, name).focus()
    field(seen, name).value = text
    await planned(seen)


async def test_typing_plans_anew_once_nobody_types() -> None:
    world = World(FIRST)
    async with on_form(world) as seen:
        assert "✓ fits: 5.13 of 5.60 GB" in seen.text()
        assert "about 4–7 d" in seen.text()
        plans = len(world.planner.looked)
        world.planner.can_answer.clear()
        field(seen, "iters").focus()
        await seen.press("end", "backspace", "backspace", "7")
        assert field(seen, "iters").value == "1507"
        assert "working it out…" in seen.text()
        # The old plan stays until the new one is there.
        assert "✓ fits: 5.13 of 5.60 GB" in seen.text()
        world.planner.can_answer.set()
        await planned(seen)
        assert "1507 iterations" in seen.text()
        assert "working it out" not in seen.text()
        assert world.planner.looked[-1].values["iters"] == "1507"
        assert len(world.planner.looked) <= plans + 2


async def test_a_problem_is_said_at_its_field_and_the_start_goes_there() -> None:
    world = World(FIRST)
    async with on_form(world) as seen:
        await type_into(seen, "batch_size", "many")
        row = next(row for row in seen.text().splitlines() if "│ batch " in row)
        assert "✗ should be a number" in row
        assert "not yet" in seen.text()
        field(seen, "model").focus()
        await seen.press("ctrl+s")
        await seen.app.workers.wait_for_complete()
        await seen.pilot.pause()
        assert isinstance(seen.app.screen, NewRunScreen)
        assert seen.app.focused is field(seen, "batch_size")
        await type_into(seen, "batch_size", "8")
        assert "✗" not in seen.text()


async def test_it_is_made_to_fit_and_started() -> None:
    world = World(FIRST)
    world.next_run = trained(20)
    async with on_form(world) as seen:
        assert "make it fit" not in seen.footer
        await type_into(seen, "micro_batch_size", "4")
        assert "✗ too large by 2.53 GB" in seen.text()
        assert "make it fit" in seen.footer
        await seen.press("ctrl+s")
        await seen.pilot.pause()
        assert isinstance(seen.app.screen, Question)
        await seen.press("escape", "ctrl+f")
        await planned(seen)
        assert field(seen, "micro_batch_size").value == "1"
        assert "make it fit" not in seen.footer
        await seen.press("ctrl+s")
        await until_begun(seen.app)
        assert isinstance(seen.app.screen, Dashboard)
        [draft] = world.drafts
        assert (draft.preset, draft.values["micro_batch_size"]) == ("demo", "1")
        assert draft.more == {"step": "layers"}


async def test_what_does_not_fit_starts_when_somebody_is_sure() -> None:
    world = World(FIRST)
    world.next_run = trained(20)
    async with on_form(world) as seen:
        await type_into(seen, "micro_batch_size", "4")
        await seen.press("ctrl+s")
        await seen.pilot.pause()
        await seen.press("s")
        await until_begun(seen.app)
        assert world.drafts[0].values["micro_batch_size"] == "4"


async def test_starting_at_once_waits_for_the_plan_of_what_was_typed() -> None:
    world = World(FIRST)
    async with on_form(world) as seen:
        field(seen, "batch_size").focus()
        await seen.press("end", "x", "ctrl+s")
        await seen.app.workers.wait_for_complete()
        await seen.pilot.pause()
        assert isinstance(seen.app.screen, NewRunScreen)
        assert world.planner.looked[-1].values["batch_size"] == "4x"


async def test_enter_and_arrows_go_through_the_fields_and_escape_keeps_them() -> None:
    world = World(FIRST)
    async with on_form(world) as seen:
        names: list[str | None] = []
        for key in ("enter", "down", "enter"):
            names.append(seen.app.focused.id if seen.app.focused else None)
            await seen.press(key)
        assert names == ["model", "data", "iters"]
        await seen.press("up", "up")
        assert seen.app.focused is field(seen, "data")
        await type_into(seen, "data", "./mine")
        await seen.press("escape")
        assert isinstance(seen.app.screen, HomeScreen)
        await seen.press("n")
        await planned(seen)
        assert field(seen, "data").value == "./mine"


async def test_another_preset_fills_the_form_again() -> None:
    world = World(FIRST)
    async with on_form(world) as seen:
        await type_into(seen, "data", "./mine")
        seen.app.screen.query_one(Select).value = "maximum"
        await planned(seen)
        assert field(seen, "data").value == "mlabonne/guanaco-llama2-1k"
        assert world.planner.looked[-1].preset == "maximum"


async def test_every_setting_and_the_plan_are_there_at_every_size() -> None:
    async with on_form(World(FIRST)) as seen:
        for size in SIZES:
            await seen.pilot.resize_terminal(*size)
            await seen.pilot.pause()
            text = seen.text()
            assert {len(row) for row in text.splitlines()} == {size[0]}
            assert "…" not in text
            for setting in SETTINGS:
                assert f" {setting.label} " in text
                assert setting.note in text
            for words in ("✓ fits", "memory", "about 4–7 d", "148 MB a checkpoint", "start it"):
                assert words in text


async def test_the_planner_is_never_asked_on_the_thread_that_draws() -> None:
    with pytest.raises(AssertionError):
        FakePlanner().look(FakePlanner().begin("demo"))
