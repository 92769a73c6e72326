"""A run in another process, in the dashboard: shown, steered, and left as it is."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest

from engine.control import ControlServer
from engine.journal import Journal
from engine.lock import RunLock
from engine.runs import RunDirectory
from tests.tui.conftest import watched
from tests.tui.scripted import ScriptedRun
from tui.app import LoraTuiApp
from tui.attached import AttachedRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engine import events as ev
    from tests.tui.conftest import Watched

PATIENCE = 20.0
LOOK_SECONDS = 0.02


class Elsewhere:
    """What another process would be: a run with its journal, its lock, and its socket served."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.directory = RunDirectory(folder)
        self.script = ScriptedRun(200)
        self._lock = RunLock(self.directory.lock_file)
        self._lock.acquire()
        self._journal = Journal(self.directory.journal_file)
        self._written = 0
        self._server: ControlServer | None = None
        self._thread: threading.Thread | None = None

    def begin(self, steps: int) -> None:
        """Train so far, and be reachable."""
        self.script.start()
        self.script.begin()
        self.script.advance(steps, evaluate_every=20, save_every=20)
        self.tell()
        self.listen()

    def listen(self) -> None:
        """Serve the socket."""
        run = self.directory
        self._server = ControlServer(run.control_socket, run.journal_file, self)
        self._thread = threading.Thread(target=self._server.serve, daemon=True)
        self._thread.start()

    def tell(self) -> None:
        """Write down what happened."""
        for event in self.script.log[self._written :]:
            self._journal.append(event)
        self._written = len(self.script.log)

    def hang_up(self) -> None:
        """Let go of the socket."""
        if self._server is not None and self._thread is not None:
            self._server.close()
            self._thread.join(PATIENCE)
            self._server = None

    def leave(self) -> None:
        """Be gone, having said the last word or not."""
        self.hang_up()
        self._journal.close()
        self._lock.release()

    @property
    def asked(self) -> list[str]:
        """What was asked over the socket."""
        return self.script.calls[1:]

    def pause(self) -> None:
        self.script.pause()

    def resume(self) -> None:
        self.script.resume()

    def checkpoint(self) -> None:
        self.script.checkpoint()

    def evaluate(self) -> None:
        self.script.evaluate()

    def sample(self) -> None:
        self.script.sample()

    def set_policy(self, policy: ev.Policy) -> None:
        self.script.set_policy(policy)

    def stop(self) -> None:
        self.script.stop()

    def unwritten(self) -> list[ev.Event]:
        return []


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
