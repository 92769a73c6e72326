"""Home lists, starts, opens, filters and deletes, with keys and with the mouse."""

from __future__ import annotations

import gc
import math
import warnings
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from textual.widgets import Static

from engine.errors import ConfigError
from tests.tui.conftest import Watched, until_begun, watched
from tests.tui.scripted import START, ScriptedRun, trained
from tests.tui.world import DAY, FIRST, HOME, PRESETS, RUNS, World
from tui.app import LoraTuiApp
from tui.confirm import Question
from tui.dashboard import Dashboard
from tui.home import HomeScreen
from tui.home_rows import chosen, preset_row, run_details, run_row
from tui.spark import spark
from tui.words import day

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tui.controls import HomeData, RunControls

SIZES = [(80, 24), (100, 30), (120, 40), (200, 60)]


@asynccontextmanager
async def at_home(world: World, size: tuple[int, int] = (80, 24)) -> AsyncGenerator[Watched]:
    """Show home until it has looked around."""
    app = LoraTuiApp(None, world.home, world.doors(), world.bench(), now=lambda: START)
    async with watched(app, size) as seen:
        await settled(seen)
        yield seen


async def settled(seen: Watched) -> None:
    """Wait for what goes on in the background."""
    await seen.app.workers.wait_for_complete()
    await seen.pilot.pause()


def notices(seen: Watched) -> list[str]:
    """What was said in the corner of the screen."""
    return [notice.message for notice in seen.app._notifications]  # pyright: ignore[reportPrivateUsage]


def details(seen: Watched) -> str:
    return str(seen.app.screen.query_one("#details", Static).content)


@pytest.mark.asyncio
async def test_home_starts_a_preset() -> None:
    run, world = trained(20), World()
    names: list[str] = []

    def start(name: str) -> RunControls:
        names.append(name)
        return run

    world.start_preset = start
    async with at_home(world) as seen:
        await seen.press("tab", "enter")
        await until_begun(seen.app)
        assert names == ["demo"]
        assert isinstance(seen.app.screen, Dashboard)
        assert run.calls == ["start"]


@pytest.mark.asyncio
async def test_a_preset_that_does_not_fit_asks_first() -> None:
    world = World()
    names: list[str] = []

    def start(name: str) -> RunControls:
        names.append(name)
        return trained(20)

    world.start_preset = start
    async with at_home(world) as seen:
        await seen.press("tab", "down", "enter")
        assert isinstance(seen.app.screen, Question)
        assert "too large by 499 MB" in seen.text()
        await seen.press("escape")
        assert names == []
        await seen.press("enter", "s")
        await until_begun(seen.app)
        assert names == ["longer"]


@pytest.mark.asyncio
async def test_home_opens_a_run_comes_back_and_looks_again() -> None:
    run, world = trained(20), World()
    run.end("stopped", "asked")
    paths: list[str] = []

    def open_run(path: str) -> RunControls:
        paths.append(path)
        return run

    world.open_run = open_run
    async with at_home(world) as seen:
        looks = world.looks
        await seen.press("down", "enter")
        assert paths == ["/runs/b"]
        await until_begun(seen.app)
        await seen.look()
        assert seen.footer == ["go on", "report", "back", "quit", "help"]
        fresh = replace(RUNS[1], name="fresh", path=run.path, iteration=77)
        world.home = replace(HOME, runs=(*RUNS, fresh))
        await seen.press("escape")
        await settled(seen)
        assert isinstance(seen.app.screen, HomeScreen)
        assert seen.app.run_watch is None
        assert world.looks > looks
        assert "runs on this machine · 5" in seen.text()
        assert "at 77 of 125" in details(seen)


@pytest.mark.asyncio
async def test_r_goes_on_with_a_run_at_home_and_in_its_dashboard() -> None:
    past, world = trained(20), World()
    past.end("stopped", "asked")
    world.next_run = trained(20)
    world.open_run = lambda _: past
    async with at_home(world) as seen:
        await seen.press("r")
        assert world.resumed == []
        await seen.press("down", "down", "enter")
        await until_begun(seen.app)
        await seen.press("r")
        assert world.resumed == [past.path]
        await until_begun(seen.app)
        seen.app.go_home()
        await seen.press("r")
        assert world.resumed == [past.path, "/runs/c"]


@pytest.mark.asyncio
async def test_home_says_why_a_preset_cannot_start_until_the_next_try() -> None:
    world = World(FIRST)
    tries: list[str] = []

    def start(name: str) -> RunControls:
        tries.append(name)
        if len(tries) == 1:
            raise ConfigError([f"unknown preset '{name}'"])
        return trained(5)

    world.start_preset = start
    async with at_home(world) as seen:
        await seen.press("enter")
        assert "unknown preset 'demo'" in seen.text()
        await seen.press("enter")
        seen.app.go_home()
        await seen.pilot.pause()
        assert "unknown preset" not in seen.text()
        await seen.press("q")
        assert not seen.app.is_running


@pytest.mark.asyncio
async def test_home_shows_wrong_input_that_only_loading_finds() -> None:
    run, world = ScriptedRun(), World(FIRST)
    run.load(1)
    run.end("failed", "There is no model at ./nowhere.", exit_code=2)
    world.start_preset = lambda _: run
    async with at_home(world) as seen:
        await seen.press("enter")
        await seen.pilot.pause()
        seen.app.tick()
        await seen.pilot.pause()
        assert isinstance(seen.app.screen, HomeScreen)
        assert "There is no model at ./nowhere." in seen.text()


@pytest.mark.asyncio
async def test_the_first_start_explains_itself() -> None:
    async with at_home(World(FIRST)) as seen:
        assert "New here? Press enter on demo" in seen.text()
        assert "runs on this machine" not in seen.text()
        assert seen.footer == ["open", "new run", "quit", "help"]
        assert "Learn a tea shop's answers" in details(seen)


@pytest.mark.asyncio
async def test_before_anybody_looked_nothing_is_claimed() -> None:
    world = World(replace(HOME, runs=None))
    app = LoraTuiApp(None, world.home, now=lambda: START)
    async with watched(app) as seen:
        assert "looking for runs…" in seen.text()
        assert "New here?" not in seen.text()
        assert "m measures" not in seen.text()


@pytest.mark.asyncio
async def test_the_filter_narrows_and_escape_ends_it() -> None:
    world = World()
    world.open_run = lambda _: trained(3)
    async with at_home(world) as seen:
        await seen.press("slash", *"inter")
        assert "runs on this machine · 1 of 4" in seen.text()
        await seen.press("enter", "escape")
        assert "runs on this machine · 4" in seen.text()
        await seen.press("slash", *"nonsense")
        assert "no run has these words" in seen.text()
        await seen.press("escape", "q")
        assert not seen.app.is_running


@pytest.mark.asyncio
async def test_s_sorts_and_the_cursor_stays_on_its_run() -> None:
    async with at_home(World()) as seen:
        await seen.press("down")
        assert "125 of 125" in details(seen)
        for order, first in (("by best loss", "demo"), ("by name", "a-name"), ("newest", "maxi")):
            await seen.press("s")
            assert order in seen.text()
            assert "125 of 125" in details(seen)
            top = next(row for row in seen.text().splitlines() if row.startswith(" │ "))
            assert first in top


@pytest.mark.asyncio
async def test_a_run_is_deleted_only_when_somebody_is_sure() -> None:
    world = World()
    async with at_home(world) as seen:
        assert "delete" not in seen.footer
        await seen.press("delete")
        assert isinstance(seen.app.screen, HomeScreen)
        await seen.press("down")
        assert "delete" in seen.footer
        await seen.press("delete")
        await seen.pilot.pause()
        assert "delete this run?" in seen.text()
        assert "1.25 GB" in seen.text()
        await seen.press("escape")
        assert world.records.deleted == []
        await seen.press("delete")
        await seen.pilot.pause()
        world.home = replace(HOME, runs=(RUNS[0], *RUNS[2:]))
        await seen.press("d")
        await settled(seen)
        assert world.records.deleted == ["/runs/b"]
        assert notices(seen) == ["Deleted demo: 1.25 GB came back."]
        assert "runs on this machine · 3" in seen.text()


@pytest.mark.asyncio
async def test_a_run_that_cannot_be_deleted_says_why() -> None:
    world = World()
    world.records.is_busy = True
    async with at_home(world) as seen:
        await seen.press("down", "delete")
        await seen.pilot.pause()
        await seen.press("d")
        await settled(seen)
        assert "✗ c is being trained by process 7." in seen.text()


@pytest.mark.asyncio
async def test_o_says_where_a_run_is_and_copies_that() -> None:
    async with at_home(World()) as seen:
        await seen.press("o")
        await seen.pilot.pause()
        assert seen.app.clipboard == "/runs/a"
        assert notices(seen) == ["/runs/a"]


@pytest.mark.asyncio
async def test_m_measures_once_and_shows_the_times() -> None:
    world = World(replace(HOME, is_measured=False))
    async with at_home(world) as seen:
        await seen.press("tab")
        assert "measure" in seen.footer
        await seen.press("m")
        while not any(isinstance(m, HomeScreen.Measured) for m in seen.messages):
            await seen.pilot.pause()
        await settled(seen)
        assert world.measured == 1
        assert "measure" not in seen.footer


@pytest.mark.asyncio
async def test_one_click_moves_the_cursor_and_two_open() -> None:
    world = World()
    paths: list[str] = []

    def open_run(path: str) -> RunControls:
        paths.append(path)
        return trained(3)

    world.open_run = open_run
    async with at_home(world) as seen:
        await seen.pilot.click("#runs", offset=(10, 3))
        assert "4,510 of 15,000" in details(seen)
        assert paths == []
        await seen.pilot.click("#runs", offset=(10, 3), times=2)
        assert paths == ["/runs/c"]


@pytest.mark.asyncio
@pytest.mark.parametrize("home", [HOME, FIRST, replace(HOME, is_measured=False)])
async def test_nothing_at_home_is_cut(home: HomeData) -> None:
    async with at_home(World(home)) as seen:
        for size in SIZES:
            await seen.pilot.resize_terminal(*size)
            for keys in (("shift+tab",), ("tab", "end")):
                await seen.press(*keys)
                rows = seen.text().splitlines()
                assert {len(row) for row in rows} == {size[0]}
                # Only the name that is too long for its column.
                assert [row for row in rows if "…" in row and "a-name-that" not in row] == []
                assert "q quit ? help" in rows[-1]


def test_rows_fit_their_width_and_lose_no_column() -> None:
    for width in (60, 74, 92, 124, 146):
        for run in RUNS:
            row = run_row(run, width, START).plain
            assert len(row) <= max(width, 73)
            assert run.status in row
        for preset in PRESETS:
            assert len(preset_row(preset, width).plain) <= width
            assert preset.short_verdict in preset_row(preset, width).plain
    assert "9,450 / 15,000" in run_row(RUNS[0], 92, START).plain
    assert "Qwen2.5-1.5B-Instruct" in run_row(RUNS[0], 124, START).plain


def test_details_say_what_is_safe() -> None:
    assert "saved at 4,500, 10 to repeat" in run_details(RUNS[2]).plain
    assert "nothing saved" in run_details(RUNS[3]).plain
    assert "in another process" in run_details(RUNS[0]).plain


def test_words_are_looked_for_everywhere() -> None:
    assert [run.path for run in chosen(RUNS, "qwen interrupted", "newest")] == ["/runs/c"]
    assert [run.path for run in chosen(RUNS, "NOTES", "newest")] == ["/runs/d"]
    assert [run.path for run in chosen(RUNS, "", "best loss")][-1] == "/runs/d"


def test_a_spark_shows_the_fall_and_its_gaps() -> None:
    assert spark([3.0, 2.0, 1.0], 8) == "█▅▁" or spark([3.0, 2.0, 1.0], 8) == "█▄▁"
    assert spark([1.0, math.nan, 2.0], 3) == "▁·█"
    assert spark([], 8) == ""
    assert spark([math.nan, math.inf], 8) == "··"
    assert spark([2.0, 2.0], 8) == "▁▁"
    assert spark(range(100), 8) == "▁▂▃▄▅▆▇█"
    assert len(spark([math.nan, *range(31)], 24)) == 24


def test_days_are_told_as_people_do() -> None:
    assert day(START - 60, START) == "today 14:12"
    assert day(START - 86_400, START) == "Sun 14:13"
    assert day(START - 8 * DAY, START) == "13 Sep"
    assert day(START - 400 * DAY, START) == "17 Aug 2025"
    assert max(len(day(START - n * 40_000, START)) for n in range(1000)) <= 11


@pytest.mark.asyncio
async def test_a_look_that_another_replaces_before_it_begins_is_not_missed() -> None:
    async with at_home(World()) as seen:
        assert isinstance(seen.app.screen, HomeScreen)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            for _ in range(3):
                seen.app.screen.look_again()
            while len(seen.app.workers):
                await seen.pilot.pause()
            gc.collect()
        assert [str(each.message) for each in warned] == []
