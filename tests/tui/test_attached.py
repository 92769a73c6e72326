"""A run in another process, in the dashboard: shown, steered, and left as it is."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from engine.errors import RunError
from engine.view import RunView
from tests.tui.conftest import until_begun, watched
from tests.tui.elsewhere import PATIENCE, Elsewhere
from tests.tui.world import World
from tui.app import LoraTuiApp
from tui.attached import FIRST_STEPS, AttachedRun, WatchedRun
from tui.cli_records import LookedAtRecords
from tui.controls import Bench
from tui.dashboard import Dashboard
from tui.fuse import FuseScreen
from tui.home import HomeScreen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.tui.conftest import Watched

LOOK_SECONDS = 0.02


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    made = Elsewhere(tmp_path / "night")
    yield made
    made.leave()


def attached_to(elsewhere: Elsewhere) -> LoraTuiApp:
    return LoraTuiApp(AttachedRun(elsewhere.directory), now=elsewhere.script.now)


async def until(seen: Watched, is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, seen.text()
        await asyncio.sleep(LOOK_SECONDS)
        await seen.look()


async def until_shown(seen: Watched, *words: str) -> None:
    await until(seen, lambda: all(word in seen.text() for word in words))


@pytest.mark.asyncio
async def test_every_key_reaches_the_run_and_its_answer_comes_back(elsewhere: Elsewhere) -> None:
    elsewhere.begin(50)
    async with watched(attached_to(elsewhere), size=(120, 40)) as seen:
        await until_shown(seen, "● training", "50 / 200")
        for key, asked in (
            ("c", "checkpoint"),
            ("e", "evaluate"),
            ("s", "sample"),
            ("space", "pause"),
        ):
            await seen.press(key)
            await until(seen, lambda asked=asked: elsewhere.asked[-1:] == [asked])
        assert "pausing after this step…" in seen.text()
        elsewhere.script.answer()
        elsewhere.tell()
        await until_shown(seen, "‖ paused", "Saved at 50", "The capital of France is Paris.")
        await seen.press("y")
        await until(seen, lambda: elsewhere.asked[-1] == "policy: abort")
        elsewhere.tell()
        await seen.press("space")
        await until(seen, lambda: elsewhere.asked[-1] == "resume")
        elsewhere.script.answer()
        elsewhere.script.advance(5)
        elsewhere.tell()
        await until_shown(seen, "● training", "55 / 200", "abort")
        await seen.press("a", "a")
        await until(seen, lambda: elsewhere.asked[-1] == "stop: asked")
        elsewhere.script.answer()
        elsewhere.tell()
        elsewhere.leave()
        await until_shown(seen, "■ stopped")


@pytest.mark.asyncio
async def test_home_leads_to_a_run_elsewhere_and_back(elsewhere: Elsewhere) -> None:
    elsewhere.begin(10)
    world = World()
    world.open_run = lambda _: AttachedRun(elsewhere.directory)
    app = LoraTuiApp(None, world.home, world.doors(), world.bench(), now=elsewhere.script.now)
    async with watched(app, size=(120, 40)) as seen:
        await app.workers.wait_for_complete()
        await seen.press("enter")
        await until_begun(app)
        await until_shown(seen, "● training", "10 / 200")
        await seen.press("escape")
        assert isinstance(app.screen, HomeScreen)
        assert app.run_watch is None
        await seen.press("q")
        assert not app.is_running
    assert elsewhere.asked == []


@pytest.mark.asyncio
async def test_leaving_leaves_it_running(elsewhere: Elsewhere) -> None:
    elsewhere.begin(10)
    async with watched(attached_to(elsewhere)) as seen:
        # It is on its own already.
        await seen.press("d")
        assert len(seen.app.screen_stack) == 1
        await seen.press("q")
        assert not seen.app.is_running
        assert seen.app.return_code == 0
    assert elsewhere.asked == []


@pytest.mark.asyncio
async def test_a_run_that_dies_is_told_in_words(elsewhere: Elsewhere) -> None:
    elsewhere.begin(30)
    async with watched(attached_to(elsewhere), size=(120, 40)) as seen:
        await until_shown(seen, "● training")
        elsewhere.leave()
        await until_shown(seen, "interrupted")
        # Nothing is left to steer.
        await seen.press("space", "c", "a")
        assert len(seen.app.screen_stack) == 1
        await seen.press("q")
        assert not seen.app.is_running
    assert elsewhere.asked == []


@pytest.mark.asyncio
async def test_a_run_that_completes_is_told_with_its_last_words(elsewhere: Elsewhere) -> None:
    elsewhere.begin(180)
    async with watched(attached_to(elsewhere), size=(120, 40)) as seen:
        await until_shown(seen, "● training")
        elsewhere.script.advance(20)
        elsewhere.script.finish()
        elsewhere.tell()
        elsewhere.leave()
        await until_shown(seen, "✓ completed", "200 / 200")


@pytest.mark.asyncio
async def test_without_a_socket_it_is_watched_and_what_was_asked_waits(
    elsewhere: Elsewhere,
) -> None:
    elsewhere.begin(30)
    elsewhere.hang_up()
    async with watched(attached_to(elsewhere)) as seen:
        await until_shown(seen, "30 / 200")
        await seen.press("c")
        elsewhere.script.advance(1)
        elsewhere.tell()
        await until_shown(seen, "31 / 200")
        assert elsewhere.asked == []
        elsewhere.listen()
        await until(seen, lambda: elsewhere.asked == ["checkpoint"])


@pytest.mark.asyncio
async def test_a_long_run_is_there_at_once_and_in_full_soon_after(elsewhere: Elsewhere) -> None:
    steps = FIRST_STEPS + 4_000
    elsewhere.script.iterations = steps + 1_000
    elsewhere.begin(steps)
    run = AttachedRun(elsewhere.directory)
    async with watched(LoraTuiApp(run, now=elsewhere.script.now), size=(120, 40)) as seen:
        await until_shown(seen, f"{steps:,} / {steps + 1_000:,}", "average of")
        view = seen.dashboard.run_watch.whole
        assert 1_000 < len(view.steps) <= FIRST_STEPS
        assert len(view.evaluations) == steps // 20 + 1
        # What happens meanwhile is not lost.
        elsewhere.script.advance(3)
        elsewhere.tell()
        await until(seen, lambda: seen.dashboard.run_watch.whole is not view)
        await until_shown(seen, f"{steps + 3:,} / ")
        whole = seen.dashboard.run_watch.whole
    assert list(whole.steps.iteration) == list(range(1, steps + 4))
    told = RunView()
    told.apply_all(elsewhere.script.log)
    assert (whole.steps.loss, whole.steps.time) == (told.steps.loss, told.steps.time)
    assert whole.average_loss == told.average_loss
    assert whole.peak_bytes == told.peak_bytes
    assert list(whole.log) == list(told.log)


def test_what_cannot_be_read_any_more_leaves_the_first_look(elsewhere: Elsewhere) -> None:
    elsewhere.begin(FIRST_STEPS + 500)
    elsewhere.hang_up()
    run = AttachedRun(elsewhere.directory)
    run.read()
    shown = list(run.events)
    elsewhere.directory.journal_file.rename(elsewhere.directory.path / "away")
    elsewhere.directory.journal_file.mkdir()
    assert not run.read_on(10.0)
    assert (list(run.events), run.edition) == (shown, 0)


def test_who_may_only_look_is_refused_whatever_steers(elsewhere: Elsewhere) -> None:
    elsewhere.begin(10)
    run = WatchedRun(elsewhere.directory)
    run.read()
    for steer in (
        run.pause,
        run.resume,
        run.checkpoint,
        run.evaluate,
        run.sample,
        run.stop,
        lambda: run.set_policy("abort"),
        lambda: run.open_talk(None),
        lambda: LookedAtRecords().delete_checkpoint(run.path, 10),
        lambda: LookedAtRecords().delete_run(run.path),
    ):
        with pytest.raises(RunError, match="Read-only"):
            steer()
    # Neither do what the app does at its end, or to hand a run over, reach it.
    run.stop("signal SIGTERM")
    run.hang_up()
    run.detach()
    run.look()
    assert run.is_alive()
    assert elsewhere.asked == []
    elsewhere.leave()
    run.look()
    assert not run.is_alive()


@pytest.mark.asyncio
async def test_keys_that_steer_say_once_that_this_is_read_only(elsewhere: Elsewhere) -> None:
    elsewhere.begin(50)
    app = LoraTuiApp(
        WatchedRun(elsewhere.directory),
        bench=Bench(LookedAtRecords(), FuseScreen),
        now=elsewhere.script.now,
    )
    async with watched(app, size=(120, 40)) as seen:
        await until_shown(seen, "● training", "50 / 200", "Read-only: this shows the run")
        app.clear_notifications()
        for key in ("space", "c", "e", "s", "y", "a", "d"):
            await seen.press(key)
        assert len(app._notifications) == 1  # pyright: ignore[reportPrivateUsage]
        assert isinstance(app.screen, Dashboard)
        assert seen.dashboard.run_watch.asked == []
        elsewhere.script.advance(5)
        elsewhere.tell()
        await until_shown(seen, "● training", "55 / 200")
        elsewhere.leave()
        await until_shown(seen, "interrupted")
        app.clear_notifications()
        seen.dashboard.checkpoints.focus()
        for key in ("delete", "f", "t", "r"):
            await seen.press(key)
            await app.workers.wait_for_complete()
            assert isinstance(app.screen, Dashboard), key
        assert "read-only" in " ".join(
            note.message
            for note in app._notifications  # pyright: ignore[reportPrivateUsage]
        )
    assert elsewhere.asked == []
