"""The terminal's title, progress and bell follow the run, and nothing of them is left."""

from __future__ import annotations

import dataclasses

import pytest

from engine.events import Host, Paused
from tests.tui.conftest import app_for, watched
from tests.tui.scripted import ScriptedRun, trained
from tui.beacon import CLEAR, NO_PROGRESS, Beacon, shows_progress
from tui.watch import RunWatch

XTERM = {"TERM": "xterm-256color"}


def watch_of(run: ScriptedRun) -> RunWatch:
    watch = RunWatch(run, run.now)
    watch.start()
    watch.poll()
    return watch


def lit(run: ScriptedRun, *, bell: bool = True) -> tuple[Beacon, RunWatch, list[str]]:
    written: list[str] = []
    return Beacon(written.append, bell=bell, environment=XTERM), watch_of(run), written


def test_the_title_says_how_far_and_when() -> None:
    beacon, watch, written = lit(trained(9450))
    beacon.show(watch)
    assert written == ["\x1b[22;0t\x1b]0;63 % · 23:02 · maximum\x07\x1b]9;4;1;63\x07"]
    beacon.show(watch)
    assert len(written) == 1


def test_a_pause_and_loading_have_signs_of_their_own() -> None:
    run = ScriptedRun()
    beacon, watch, written = lit(run)
    beacon.show(watch)
    assert "loading · lora-tui" in written[-1]
    assert "\x1b]9;4;3\x07" in written[-1]
    run.begin()
    run.advance(7500)
    run.pause()
    run.answer()
    watch.poll()
    beacon.show(watch)
    assert "50 % · paused · maximum" in written[-1]
    assert "\x1b]9;4;4;50\x07" in written[-1]


@pytest.mark.parametrize(
    ("status", "progress"), [("stopped", NO_PROGRESS), ("failed", "\x1b]9;4;2;4\x07")]
)
def test_an_end_rings_once(status: str, progress: str) -> None:
    run = trained(600)
    beacon, watch, written = lit(run)
    beacon.show(watch)
    run.end(status, "a reason")  # pyright: ignore[reportArgumentType]
    watch.poll()
    beacon.show(watch)
    beacon.show(watch)
    assert progress in written[-1]
    assert sum(text.count(f"\x07\x1b]9;maximum: {status} at 600\x07") for text in written) == 1


def test_yellow_rings_once_and_the_guards_pause_too() -> None:
    run = trained(100)
    beacon, watch, written = lit(run)
    for _ in range(3):
        run.shrink()
        watch.poll()
        beacon.show(watch)
    run.log.append(Paused(time=run.time, iteration=100, by="guard"))
    watch.poll()
    beacon.show(watch)
    told = "".join(written)
    assert told.count("memory pressure is yellow") == 1
    assert told.count("paused by the guard at 100") == 1


def test_the_bell_can_be_turned_off() -> None:
    run = trained(600, 600)
    beacon, watch, written = lit(run, bell=False)
    beacon.show(watch)
    run.finish()
    watch.poll()
    beacon.show(watch)
    assert "\x1b]9;maximum" not in "".join(written)


def test_what_happened_long_ago_is_no_news() -> None:
    run = trained(600, 600)
    run.finish()
    beacon, watch, written = lit(run)
    beacon.show(watch)
    assert "]9;maximum" not in "".join(written)
    run = trained(100)
    run.log.append(Host(time=run.time - 600, pressure="red"))
    beacon, watch, written = lit(run)
    beacon.show(watch)
    assert "]9;maximum" not in "".join(written)


def test_clearing_leaves_nothing_and_a_name_cannot_disturb() -> None:
    run = trained(10)
    run.log[:] = [
        dataclasses.replace(event, name="a\x1b]0;b\x07c") if event.kind == "started" else event
        for event in run.log
    ]  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    beacon, watch, written = lit(run)
    beacon.show(watch)
    assert written[0].count("\x1b]0;") == 1
    beacon.clear()
    assert written[-1] == CLEAR
    beacon.clear()
    assert written[-1] == CLEAR
    assert len(written) == 2


def test_terminals_that_would_misread_it_are_spared() -> None:
    old = {"TERM": "xterm", "TERM_PROGRAM": "iTerm.app", "TERM_PROGRAM_VERSION": "3.5.2"}
    assert not shows_progress(old)
    assert shows_progress(old | {"TERM_PROGRAM_VERSION": "3.6.6"})
    assert shows_progress(XTERM)
    written: list[str] = []
    Beacon(written.append, environment={"TERM": "linux"}).show(watch_of(trained(10)))
    assert written == []


async def test_the_dashboard_lights_it_and_puts_it_out(
    run: ScriptedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    written: list[str] = []
    app = app_for(run)
    monkeypatch.setattr("textual.drivers.headless_driver.HeadlessDriver.write", _keep(written))
    async with watched(app) as seen:
        await seen.look()
        assert any("8 % · " in text for text in written)
        app.app_suspend_signal.publish(app)
        await seen.pilot.pause()
        assert written[-1] == CLEAR
        await seen.look()
        assert "8 % · " in written[-1]
    assert written[-1] == CLEAR


def _keep(written: list[str]) -> object:
    return lambda _driver, text: written.append(text)
