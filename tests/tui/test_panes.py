"""Every pane fits its place at every size, and says what it does not know."""

from __future__ import annotations

import dataclasses
import random

import pytest
from textual import events
from textual.geometry import Size

from engine.events import Host, Sampled
from tests.tui.conftest import app_for, watched
from tests.tui.scripted import GB, MB, START, ScriptedRun, started, trained
from tui.header import header_lines
from tui.paint import plain, width_of
from tui.panes.machine import MachinePane
from tui.panes.memory import MemoryPane
from tui.panes.samples import SamplesPane
from tui.watch import RunWatch

SIZES = [(80, 24), (100, 30), (120, 40), (200, 60)]
FREE_TEXT_PANES = ("log", "samples")


def watch_of(run: ScriptedRun) -> RunWatch:
    """A run as the panes see it."""
    watch = RunWatch(run, run.now)
    watch.start()
    watch.poll()
    return watch


def rows_of(pane: MachinePane | MemoryPane | SamplesPane, run: ScriptedRun, *size: int) -> str:
    """What a pane would show, as plain text."""
    picture = pane.picture(watch_of(run), *size)
    around = (plain(picture.top), plain(picture.bottom_left), plain(picture.bottom))
    return "\n".join([*around, *(plain(row) for row in picture.lines)])


@pytest.mark.asyncio
@pytest.mark.parametrize("size", SIZES)
async def test_nothing_is_cut_that_is_not_free_text(size: tuple[int, int]) -> None:
    run = trained(14_990)
    async with watched(app_for(run), size) as seen:
        await seen.look()
        for row in seen.text().splitlines():
            assert len(row) == size[0]
        for pane in seen.dashboard.query("Pane"):
            if pane.id not in FREE_TEXT_PANES:
                region = pane.region
                lines = seen.text().splitlines()[region.y : region.bottom]
                shown = "\n".join(line[region.x : region.right] for line in lines)
                # Requests say "after this step…"; nothing else may end so.
                assert "…" not in shown, shown


@pytest.mark.asyncio
async def test_a_storm_of_sizes_is_survived_and_small_ones_are_named(run: ScriptedRun) -> None:
    draw = random.Random(5)
    async with watched(app_for(run)) as seen:
        for _ in range(200):
            size = Size(draw.randint(1, 220), draw.randint(1, 70))
            seen.app.post_message(events.Resize(size, size))
        await seen.pilot.pause()
        await seen.pilot.resize_terminal(40, 12)
        await seen.pilot.pause()
        assert "too small: 40×12 here, 60×16 needed" in seen.text()
        await seen.pilot.resize_terminal(60, 16)
        await seen.look()
        assert "pace" in seen.text()


def test_memory_says_what_is_to_spare() -> None:
    run = trained(50)
    text = rows_of(MemoryPane(), run, 26, 9)
    assert "budget 8.00 GB" in text
    assert "2.40 GB to spare" in text
    assert "peak          5.18G  5.13G" in text
    assert "footprint         –  5.60G" in text


def test_memory_over_its_budget_is_said_in_words() -> None:
    run = ScriptedRun()
    run.log.append(dataclasses.replace(started(START, "tight", 100), budget=5 * GB))
    run.advance(20)
    assert "✗ 600 MB over" in rows_of(MemoryPane(), run, 26, 9)


def test_a_machine_that_says_little_is_shown_as_unknown() -> None:
    run = ScriptedRun()
    run.log.append(Host(time=START, pressure=None))
    text = rows_of(MachinePane(), run, 23, 10)
    assert text.count("n/a") == 9


def test_the_machine_says_what_the_guard_does_and_did() -> None:
    run = trained(50)
    assert "green · protect" in rows_of(MachinePane(), run, 30, 6)
    run.set_policy("watch")
    run.shrink()
    text = rows_of(MachinePane(), run, 30, 6)
    assert "yellow · watch" in text
    assert "grew      others +1.40 GB" in text
    assert "guard     shrunk watch" in text
    text = rows_of(MachinePane(), run, 30, 10)
    assert "last      shrink at 50" in text
    assert "paging    none" in text


def test_trouble_of_the_machine_has_words() -> None:
    run = ScriptedRun()
    run.log.append(Host(
        time=START, pressure="red", swap_used=3 * GB, swap_growth=800 * MB, thermal="serious",
        on_battery=True, battery_percent=17.0, to_yellow=0.0,
    ))  # fmt: skip
    text = rows_of(MachinePane(), run, 30, 6)
    for words in ("■ red", "+800 MB", "▲ serious", "▲ battery 17 %"):
        assert words in text


def test_short_answers_stand_side_by_side() -> None:
    run = ScriptedRun()
    run.log += [
        Sampled(time=START, iteration=0, prompt="2+3=", text="blue", base=True),
        Sampled(time=START, iteration=40, prompt="2+3=", text="5"),
    ]
    assert "› 2+3=  blue → 5" in rows_of(SamplesPane(), run, 30, 2)


def test_long_answers_stand_one_below_the_other() -> None:
    run = trained(1)
    run.sample()
    run.answer()
    text = rows_of(SamplesPane(), run, 30, 2)
    assert "base  The capital of France is a city in Europe." in text
    assert "now   The capital of France is Paris." in text


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_the_header_fits_and_keeps_the_end_in_sight(width: int) -> None:
    lines = header_lines(watch_of(trained(9000)), width)
    assert [width_of(row) for row in lines] == [width, width]
    assert "● training" in plain(lines[0])
    assert "done at" in plain(lines[1])
    assert "60 %" in plain(lines[1])


def test_the_header_tells_a_pause_apart_and_stops_the_clock() -> None:
    run = trained(9000)
    run.pause()
    run.answer()
    lines = header_lines(watch_of(run), 80)
    assert "‖ paused" in plain(lines[0])
    assert "done at" not in plain(lines[1])
    assert "left" in plain(lines[1])
