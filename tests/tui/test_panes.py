"""Every pane fits its place at every size, and says what it does not know."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

import pytest
from textual import events
from textual.geometry import Size

from engine.events import Host, Sampled, Step
from engine.view import LogLine
from tests.tui.conftest import app_for, watched
from tests.tui.scripted import GB, MB, START, ScriptedRun, probed, started, trained
from tui.header import header_lines
from tui.paint import plain, width_of
from tui.panes.log import about
from tui.panes.machine import MachinePane
from tui.panes.memory import MemoryPane
from tui.panes.pace import PacePane
from tui.panes.samples import SamplesPane
from tui.trace import draw_trace
from tui.watch import RunWatch

if TYPE_CHECKING:
    from tui.panes.pane import Pane

SIZES = [(80, 24), (100, 30), (120, 40), (200, 60)]
FREE_TEXT_PANES = ("log", "samples")


def watch_of(run: ScriptedRun) -> RunWatch:
    """A run as the panes see it."""
    watch = RunWatch(run, run.now)
    watch.start()
    watch.poll()
    return watch


def rows_of(pane: Pane, run: ScriptedRun, *size: int) -> str:
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
        await seen.press("tab")
        await seen.pilot.resize_terminal(40, 12)
        await seen.pilot.pause()
        assert "too small: 40×12 here, 60×16 needed" in seen.text()
        await seen.pilot.resize_terminal(60, 16)
        await seen.look()
        assert "pace" in seen.text()
        assert seen.app.focused is seen.dashboard.loss


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


def test_memory_tells_every_part_apart_without_colour() -> None:
    text = rows_of(MemoryPane(), trained(50), 48, 20)
    for row in (
        "█ base        3.09 GB",
        "▚ LoRA         150 MB",
        "▞ gradients    150 MB",
        "▟ optimiser    300 MB",
        "all held      3.69 GB  3.71 GB",
        "▓ activations 1.49 GB  1.42 GB",
        "▒ cache             –   210 MB",
        "░ other             –  1.68 GB",
        "peak          5.18 GB  5.13 GB  1 % under",
    ):
        assert row in text
    bar = text.splitlines()[3]
    cells = {sign: bar.count(sign) for sign in "█▚▞▟▓▒░·"}
    assert sum(cells.values()) == 48
    assert cells["█"] == pytest.approx(48 * 3.11 / 8, abs=1)
    assert cells["▓"] == pytest.approx(48 * 1.42 / 8, abs=1)
    # The cache is what a step's activations left: drawn once.
    assert cells["▒"] == 0
    assert cells["░"] == pytest.approx(48 * 1.68 / 8, abs=1)


def test_memory_before_the_first_step_is_drawn_as_planned() -> None:
    run = ScriptedRun()
    run.log.append(started(START, "early", 100))
    text = rows_of(MemoryPane(), run, 40, 20)
    assert "peak          5.18 GB" in text
    assert text.splitlines()[3].count("▓") == pytest.approx(40 * 1.49 / 8, abs=1)


def test_memory_shows_what_was_probed_beside_what_was_planned() -> None:
    run = ScriptedRun()
    run.log.append(started(START, "early", 100))
    run.log.append(probed(START))
    assert "peak          5.18 GB  5.60 GB  8 % over" in rows_of(MemoryPane(), run, 48, 20)


def test_memory_marks_the_recommended_working_set() -> None:
    run = ScriptedRun()
    run.log.append(dataclasses.replace(started(START, "mac", 100), working_set=round(8.9 * GB)))
    run.advance(20)
    text = rows_of(MemoryPane(), run, 40, 20)
    assert "╎ recommended working set" in text
    assert "8.90 GB" in text
    assert text.splitlines()[3][int(40 * 8.0 / 8.9)] == "│"


def test_a_footprint_without_the_devices_memory_says_nothing_of_the_rest() -> None:
    run = trained(20)
    last = next(event for event in reversed(run.log) if isinstance(event, Step))
    small = dataclasses.replace(last.memory, footprint=1 * GB)
    run.log.append(dataclasses.replace(last, memory=small, iteration=last.iteration + 1))
    assert "░ other             –      n/a" in rows_of(MemoryPane(), run, 40, 20)


def test_the_last_hour_is_an_area_that_ends_now() -> None:
    hosts = [
        Host(time=START + at, pressure="green", footprint=4 * GB if at < 1800 else 8 * GB)
        for at in range(0, 3601, 10)
    ]
    rows = [plain(row) for row in draw_trace(hosts, 8 * GB, (40, 5))]
    assert rows[-1] == "footprint, last hour       up to 8.00 GB"
    assert rows[0] == " " * 20 + "⣿" * 20
    assert rows[3] == "⣿" * 40
    assert draw_trace([], 8 * GB, (40, 5)) == ()
    young = [plain(row) for row in draw_trace(hosts[:31], 8 * GB, (40, 5))]
    assert young[-1].startswith("footprint, last 5 min")
    assert young[3] == "⣿" * 40
    older = Host(time=START - 4000, pressure="green", footprint=8 * GB)
    assert next(plain(row) for row in draw_trace([older, *hosts], 8 * GB, (40, 5))) == rows[0]


def test_the_pace_says_what_comes_next_and_the_range_of_the_end() -> None:
    text = rows_of(PacePane(), trained(9_450), 34, 10)
    for words in (
        "9,450 / 15,000",
        "63 %",
        "avg 0.48 it/s",
        "eval in 1 min",
        "save in 1 min",
        "ends   22:48 to 23:15",
        "update 295 of 468",
        "tokens 36.4M of 57.6M",
        "epoch 46.55",
    ):
        assert words in text


def test_the_average_counts_training_only_and_goes_back_with_the_run() -> None:
    run = trained(300)
    watch, pane = watch_of(run), PacePane()
    first = pane.picture(watch, 34, 10)
    run.time += 10_000
    assert pane.picture(watch, 34, 10).lines[4] == first.lines[4]
    run.advance(100)
    watch.poll()
    seconds = sum(watch.view.steps.seconds)
    assert f"{400 / seconds:.2f}" in plain(pane.picture(watch, 34, 10).lines[4])


def test_samples_keep_every_answer_the_newest_first() -> None:
    run = ScriptedRun()
    run.log += [
        Sampled(time=START, iteration=0, prompt="2+3=", text="blue", base=True),
        *(
            Sampled(time=START, iteration=n, prompt="2+3=", text=f"it is {n}")
            for n in (40, 80, 1200)
        ),
    ]
    text = rows_of(SamplesPane(), run, 30, 12)
    order = [text.index(words) for words in ("now   it is 1200", "base  blue", "80    it is 80")]
    assert order == sorted(order)
    assert "40    it is 40" in text


def test_the_log_knows_what_its_entries_are_about() -> None:
    entries = [LogLine(START, "guard", "Guard: shrink"), LogLine(START, "checkpoint", "Saved at 5")]
    assert about("", entries) == entries
    assert about("GUARD", entries) == entries[:1]
    assert about("saved check", entries) == entries[1:]
    assert about("guard saved", entries) == []


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


def test_long_answers_stand_one_below_the_other_from_where_they_part() -> None:
    run = trained(1)
    run.sample()
    run.answer()
    text = rows_of(SamplesPane(), run, 30, 2)
    assert "base  …a city in Europe." in text
    assert "now   …Paris." in text
    text = rows_of(SamplesPane(), run, 60, 2)
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
