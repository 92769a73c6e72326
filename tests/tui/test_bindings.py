"""Every key does what the table says, and shows it at once."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
from textual import events

from tests.tui.conftest import app_for, watched
from tests.tui.scripted import ScriptedRun, trained
from tui.app import LoraTuiApp
from tui.bindings import KEYS
from tui.confirm import Question
from tui.dashboard import Dashboard
from tui.filter_box import FilterBox
from tui.help import HelpScreen, help_text
from tui.panes.log import LogPane

if TYPE_CHECKING:
    from tui.panes.loss import LossPane

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    ("key", "asked", "words"),
    [
        ("space", "pause", "pausing after this step…"),
        ("c", "checkpoint", "saving after this step…"),
        ("e", "evaluate", "evaluating after this step…"),
        ("s", "sample", "sampling after this step…"),
    ],
)
async def test_a_request_shows_before_the_run_answers(
    run: ScriptedRun, key: str, asked: str, words: str
) -> None:
    async with watched(app_for(run)) as seen:
        await seen.press(key)
        assert run.calls == ["start", asked]
        assert words in seen.text()
        run.answer()
        await seen.look()
        assert words not in seen.text()


async def test_space_pauses_and_goes_on(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        assert "pause" in seen.footer
        await seen.press("space")
        assert "resume" in seen.footer
        run.answer()
        await seen.look()
        assert "‖ paused" in seen.text()
        await seen.press("space")
        assert "going on…" in seen.text()
        run.answer()
        await seen.look()
        assert "● training" in seen.text()
        assert run.calls == ["start", "pause", "resume"]


async def test_a_pause_taken_back_in_time_leaves_nothing_to_wait_for(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        await seen.press("space", "space")
        assert run.calls == ["start", "pause", "resume"]
        assert "after this step" not in seen.text()
        assert "pause" in seen.footer


async def test_abort_asks_and_stays(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        await seen.press("a")
        assert isinstance(seen.app.screen, Question)
        await seen.press("escape")
        assert run.calls == ["start"]
        await seen.press("a", "a")
        assert run.calls == ["start", "stop: asked"]
        assert "stopping after this step, saving first…" in seen.text()
        assert "abort" not in seen.footer
        run.answer()
        await seen.look()
        assert "■ stopped" in seen.text()
        assert seen.footer == ["report", "quit", "help"]
        assert seen.app.is_running


async def test_enter_on_the_question_takes_its_first_answer(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        await seen.press("a", "enter")
        assert run.calls == ["start", "stop: asked"]


async def test_quit_asks_saves_and_leaves(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        await seen.press("q", "escape")
        assert run.calls == ["start"]
        await seen.press("q", "s")
        assert run.calls == ["start", "stop: asked"]
        assert seen.app.return_value is None
        assert seen.app.is_running
        run.answer()
        seen.app.tick()
        await seen.pilot.pause()
        assert not seen.app.is_running
        assert seen.app.return_code == 0


async def test_quit_twice_does_not_wait(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        await seen.press("q", "s", "q")
        assert not seen.app.is_running


async def test_quit_while_loading_says_that_nothing_was_trained() -> None:
    run = ScriptedRun()
    run.load(2)
    async with watched(app_for(run)) as seen:
        assert seen.footer == ["abort", "quit", "help"]
        await seen.press("q")
        assert "Nothing was trained yet." in seen.text()


async def test_quit_has_nothing_to_ask_when_the_run_is_over() -> None:
    run = trained(600, 600)
    run.finish()
    async with watched(app_for(run)) as seen:
        assert seen.footer == ["report", "quit", "help"]
        await seen.press("q")
        assert not seen.app.is_running
        assert seen.app.return_code == 0


async def test_ctrl_c_asks_and_the_second_stops_saves_and_leaves(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        await seen.press("ctrl+c")
        assert isinstance(seen.app.screen, Question)
        await seen.press("ctrl+c")
        assert "stop: signal SIGINT" in run.calls
        assert seen.app.return_code == 130
        assert not seen.app.is_running


async def test_chart_keys_change_what_the_curve_shows(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        look = seen.dashboard.loss
        await seen.press("l")
        assert look.look.log
        assert "log · by iterations" in seen.text()
        await seen.press("l", "x")
        assert "by tokens · average of 50" in seen.text()
        await seen.press("x")
        assert "by hours" in seen.text()
        await seen.press("x", "plus")
        assert "by iterations · average of 200" in seen.text()
        await seen.press("minus", "minus", "minus", "minus")
        assert "no average" in seen.text()


async def test_chart_keys_are_not_there_before_there_is_a_curve() -> None:
    run = ScriptedRun()
    run.begin()
    async with watched(app_for(run)) as seen:
        await seen.press("l")
        assert not seen.dashboard.loss.look.log


async def test_tab_goes_round_and_enter_opens_a_pane(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        names: list[str | None] = []
        for _ in range(7):
            assert seen.app.focused is not None
            names.append(seen.app.focused.id)
            await seen.press("tab")
        panes = ["loss", "memory", "machine", "pace", "checkpoints", "log", "samples"]
        assert names == panes
        await seen.press("shift+tab")
        assert seen.app.focused is not None
        assert seen.app.focused.id == "samples"
        await seen.press("enter")
        await seen.look()
        assert seen.app.focused.size == (80, 21)
        assert "▸ samples" in seen.text()
        assert "memory" not in seen.text()
        assert "back" in seen.footer
        await seen.press("escape")
        assert "memory" in seen.text()
        assert "back" not in seen.footer


async def test_a_long_log_scrolls_and_comes_back_to_its_end(run: ScriptedRun) -> None:
    for number in range(60):
        run.warn(f"warning number {number}")
    async with watched(app_for(run)) as seen:
        await seen.press(*["tab"] * 5, "enter")
        await seen.look()
        assert "warning number 59" in seen.text()
        await seen.press("pageup", "up")
        assert "warning number 59" not in seen.text()
        assert "–" in seen.text()
        await seen.press("pagedown", "down")
        assert "warning number 59" in seen.text()


async def test_help_shows_every_key_and_closes(run: ScriptedRun) -> None:
    async with watched(app_for(run), size=(100, 50)) as seen:
        await seen.press("question_mark")
        assert isinstance(seen.app.screen, HelpScreen)
        for key in KEYS:
            if key.help:
                assert key.help in help_text(200).plain
        await seen.press("escape")
        assert isinstance(seen.app.screen, Dashboard)


async def test_palette_offers_what_would_do_something(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        commands = {c.title: c for c in seen.app.get_system_commands(seen.app.screen)}
        assert "Pause (space)" in commands
        assert "Resume (space)" not in commands
        await commands["Pause (space)"].callback()
        assert run.calls == ["start", "pause"]
        await seen.press("ctrl+p")
        assert seen.app.screen.__class__.__name__ == "CommandPalette"


async def test_a_key_can_be_moved_by_its_id(run: ScriptedRun) -> None:
    app = app_for(run)
    app.set_keymap({"run.checkpoint": "w"})
    async with watched(app) as seen:
        await seen.press("c")
        assert run.calls == ["start"]
        await seen.press("w")
        assert run.calls == ["start", "checkpoint"]


async def test_y_goes_through_what_the_guard_may_do(run: ScriptedRun) -> None:
    async with watched(app_for(run), (120, 40)) as seen:
        for policy in ("abort", "watch", "protect"):
            await seen.press("y")
            assert run.calls[-1] == f"policy: {policy}"
            await seen.look()
            assert f"green · {policy}" in seen.text()


async def test_the_table_gives_each_key_one_stable_id() -> None:
    assert [name for name, count in Counter(key.id for key in KEYS).items() if count > 1] == []
    assert all(key.id.startswith(f"{key.place}.") for key in KEYS)
    assert all(len(key.help) <= 64 for key in KEYS)


@pytest.mark.parametrize("width", [80, 100])
async def test_the_footer_is_never_clipped(run: ScriptedRun, width: int) -> None:
    async with watched(app_for(run), size=(width, 24)) as seen:
        await seen.press("enter")
        last = seen.text().splitlines()[-1]
        for word in (
            "space",
            "checkpoint",
            "evaluate",
            "sample",
            "abort",
            "back",
            "quit",
            "? help",
        ):
            assert word in last


async def test_the_second_view_shows_norm_and_rate(run: ScriptedRun) -> None:
    async with watched(app_for(run), (100, 30)) as seen:
        await seen.press("v")
        for words in ("gradient norm", "learning rate × 1e-4", "norm 0.787", "1.97e-04"):
            assert words in seen.text()
        await seen.press("v")
        assert "gradient norm" not in seen.text()


async def test_keys_look_closer_move_and_come_back(run: ScriptedRun) -> None:
    async with watched(app_for(run), (100, 30)) as seen:
        loss = seen.dashboard.loss
        await seen.press("z", "z")
        assert "zoom 308 · by iterations" in seen.text()
        assert "whole " in seen.text()
        assert loss.zoom.part(1234) == (926, 1233)
        await seen.press("left")
        assert loss.zoom.part(1234) == (849, 1156)
        await seen.press("right")
        assert loss.zoom.follows
        await seen.press("Z")
        assert loss.zoom.width == 616
        await seen.press("0")
        assert loss.zoom.is_whole
        assert "zoom" not in seen.text()


def turned(wheel: type[events.MouseEvent], pane: LossPane) -> events.MouseEvent:
    """The wheel over a place of the curve."""
    return wheel(pane, 20, 4, 0, 0, 0, shift=False, meta=False, ctrl=False)


async def test_the_mouse_looks_closer_and_drags(run: ScriptedRun) -> None:
    async with watched(app_for(run), (100, 30)) as seen:
        loss = seen.dashboard.loss
        region = loss.region
        middle = (region.x + 20, region.y + 4)
        loss.post_message(turned(events.MouseScrollUp, loss))
        await seen.pilot.pause()
        assert loss.zoom.width == 617
        assert not loss.zoom.follows
        before = loss.zoom.last
        await seen.pilot.mouse_down(offset=middle)
        await seen.pilot.hover(offset=(middle[0] - 5, middle[1]))
        await seen.pilot.mouse_up(offset=(middle[0] - 5, middle[1]))
        assert loss.zoom.last > before
        loss.post_message(turned(events.MouseScrollDown, loss))
        await seen.pilot.pause()
        assert loss.zoom.is_whole


async def test_the_log_is_filtered_while_one_types(run: ScriptedRun) -> None:
    run.warn("the disk is nearly full")
    async with watched(app_for(run), (120, 40)) as seen:
        log = seen.dashboard.query_one("#log", LogPane)
        await seen.look()
        await seen.press("slash", *"disk")
        assert isinstance(seen.app.screen, FilterBox)
        assert log.words == "disk"
        await seen.press("enter")
        assert isinstance(seen.app.screen, Dashboard)
        assert "nearly full" in seen.text()
        assert re.search(r"1 of \d+ about disk", seen.text())
        assert "Saved at" not in seen.text()
        await seen.press("slash", "escape")
        assert log.words == ""
        assert "about disk" not in seen.text()


async def test_ctrl_z_does_nothing_without_a_terminal(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        await seen.press("ctrl+z")
        assert seen.app.is_running
        assert run.calls == ["start"]


async def test_ctrl_z_says_that_training_stands_still(
    run: ScriptedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("tui.signals.say", said.append)
    monkeypatch.setattr("tui.signals.stop_process_group", lambda: None)
    monkeypatch.setattr(LoraTuiApp, "is_headless", False)
    monkeypatch.setattr(LoraTuiApp, "suspend", lambda _: nullcontext())
    app = app_for(run)
    async with watched(app) as seen:
        app.action_suspend_run()
        await seen.pilot.pause()
        assert said == ["lora-tui is suspended, and training with it. fg goes on."]


OTHER_SCREENS = {"home", "filter", "form", "chat"}
EXERCISED_ELSEWHERE = {"back.close", "home.open", "home.continue", "run.continue"}


async def test_every_key_in_the_table_has_an_action(run: ScriptedRun) -> None:

    async with watched(app_for(run), (120, 40)) as seen:
        for key in KEYS:
            if key.place in OTHER_SCREENS or key.id in EXERCISED_ELSEWHERE:
                continue
            name = key.action.partition("(")[0].removeprefix("app.")
            owners = (seen.app, seen.dashboard, seen.dashboard.loss, *seen.dashboard.query("Pane"))
            assert any(hasattr(owner, f"action_{name}") for owner in owners), key.id
