"""Keeps the machine out of the tests: its time zone, its colours, its plotting library's speed."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import plotext  # noqa: F401  # pyright: ignore  # loaded early, so that no test waits for it
import pytest

from tests.tui.scripted import ScriptedRun
from tui.app import LoraTuiApp
from tui.dashboard import Dashboard

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from textual.message import Message
    from textual.pilot import Pilot


@pytest.fixture(autouse=True)
def _same_everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Watched:
    """An app that runs without a screen, with what a test wants to know of it."""

    def __init__(self, app: LoraTuiApp, pilot: Pilot[None], messages: list[Message]) -> None:
        self.app = app
        self.pilot = pilot
        self.messages = messages

    @property
    def dashboard(self) -> Dashboard:
        """The dashboard, whatever lies over it."""
        return next(s for s in self.app.screen_stack if isinstance(s, Dashboard))

    @property
    def footer(self) -> list[str]:
        """What the footer offers now."""
        bindings = self.app.screen.active_bindings.values()
        return [active.binding.description for active in bindings if active.binding.show]

    async def press(self, *keys: str) -> None:
        """Press keys and let the app answer."""
        await self.pilot.press(*keys)

    async def look(self) -> None:
        """Let the app look at the run, and draw everything."""
        self.app.tick()
        if any(isinstance(screen, Dashboard) for screen in self.app.screen_stack):
            self.dashboard.draw()
        await self.pilot.pause()

    def text(self) -> str:
        """Give the screen as plain text."""
        width = self.app.size.width
        strips = self.app.screen._compositor.render_strips()  # pyright: ignore[reportPrivateUsage]
        return "\n".join(strip.text.ljust(width) for strip in strips)


@asynccontextmanager
async def watched(app: LoraTuiApp, size: tuple[int, int] = (80, 24)) -> AsyncGenerator[Watched]:
    """Run an app without a screen until its run has begun."""
    messages: list[Message] = []
    async with app.run_test(size=size, message_hook=messages.append, notifications=True) as pilot:
        seen = Watched(app, pilot, messages)
        if app.run_watch is not None:
            await until_begun(app)
        await pilot.pause()
        yield seen


async def until_begun(app: LoraTuiApp) -> None:
    """Wait until the app has started its run and can draw curves."""
    while True:
        boards = [screen for screen in app.screen_stack if isinstance(screen, Dashboard)]
        if boards and boards[0].run_watch.is_started and boards[0].loss.can_plot:
            return
        await asyncio.sleep(0.005)


@pytest.fixture
def run() -> ScriptedRun:
    """A run that has trained 1,234 of 15,000 iterations."""
    scripted = ScriptedRun()
    scripted.begin()
    scripted.advance(1234)
    return scripted


def app_for(run: ScriptedRun) -> LoraTuiApp:
    """An app that watches a scripted run by the script's clock."""
    return LoraTuiApp(run, now=run.now)


@asynccontextmanager
async def watched_briefly(app: LoraTuiApp) -> AsyncGenerator[LoraTuiApp]:
    """Run an app that leaves by itself."""
    async with app.run_test() as pilot:
        for _ in range(200):
            if not app.is_running:
                break
            await asyncio.sleep(0.01)
        await pilot.pause()
        yield app
