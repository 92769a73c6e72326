"""A run in a real browser: opened, watched, paused, left; the run goes on."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import pytest

from engine.runs import RunDirectory
from tests.browser import NEEDS_BROWSER, PROGRAM, browser
from tests.cli.conftest import Tiny
from tests.cli.program import finish, run, spawn
from tests.tiny import make_tiny_data, make_tiny_model
from tui.cli_remote import standing

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.browser import Tab

pytestmark = pytest.mark.skipif(not PROGRAM, reason=NEEDS_BROWSER)
PATIENCE = 60
END_SECONDS = 10
LOOK_SECONDS = 0.1
# It ends by itself where a test that fails leaves it.
ENDLESS = {"iters": 50_000, "val_batches": 0, "save_every": 1_000_000}


@pytest.fixture
def home(tmp_path: Path) -> Generator[Path]:
    """A home with a run in the background."""
    folder = tmp_path / "made"
    folder.mkdir()
    tiny = Tiny(folder, make_tiny_model(folder / "model"), make_tiny_data(folder / "data"))
    home = tmp_path / "home"
    begun = run("run", tiny.config("web", **ENDLESS), "--detach", home=home)
    assert begun.code == 0, begun.err
    yield home
    run("stop", home=home)


class Page:
    """A run that is served."""

    def __init__(self, process: psutil.Process, address: str) -> None:
        self._process = process
        self.address = address

    @property
    def tabs(self) -> list[psutil.Process]:
        """The process of each tab."""
        return self._process.children()


@contextmanager
def served(home: Path, *options: str) -> Generator[Page]:
    server = spawn("serve", "--port", "0", *options, home=home)
    assert server.stdout is not None
    page = Page(psutil.Process(server.pid), server.stdout.readline().strip())
    try:
        yield page
        tabs = page.tabs
        server.send_signal(signal.SIGINT)
        outcome = finish(server)
        assert (outcome.code, outcome.out) == (0, ""), outcome.err
        assert "No longer served" in outcome.err
        assert "Traceback" not in outcome.err
        assert psutil.wait_procs(tabs, END_SECONDS)[1] == []
    finally:
        server.kill()


def facts(home: Path) -> dict[str, Any]:
    (path,) = (home / "runs").iterdir()
    return standing(RunDirectory(path))


async def loss(tab: Tab, than: float | None = None) -> float:
    """Read the loss from the page, once it is another."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        shown = re.search(r"train (\d+\.\d+)", await tab.text())
        if shown and (now := float(shown[1])) != than:
            return now
        await asyncio.sleep(LOOK_SECONDS)
    raise AssertionError(f"no loss other than {than} within {PATIENCE} s")


@pytest.mark.timeout(3 * PATIENCE)
@pytest.mark.asyncio
async def test_a_run_is_watched_and_paused_in_a_browser_and_goes_on(
    home: Path, tmp_path: Path
) -> None:
    async with browser(tmp_path) as tab:
        with served(home, "--steer") as page:
            await tab.open(page.address)
            await tab.wait_for("● training", PATIENCE)
            assert await loss(tab, than=await loss(tab)) > 0
            assert await tab.evaluate("document.fonts.check('16px \"Roboto Mono\"')")
            # Nothing comes from elsewhere.
            asked = {urlsplit(address).netloc for address in tab.requested}
            assert asked == {urlsplit(page.address).netloc}
            await tab.press(" ")
            await tab.wait_for("‖ paused", PATIENCE)
            assert facts(home)["status"] == "paused"
            shows = page.tabs
            assert len(shows) == 1
            await tab.close()
            # Its process ends with it; the run does not.
            assert psutil.wait_procs(shows, END_SECONDS)[1] == []
            reached = facts(home)
            assert (reached["is_alive"], reached["status"]) == (True, "paused")
        assert run("resume", home=home).out.startswith("Resumed at")
        assert facts(home)["iteration"] >= reached["iteration"]
        with served(home, "--host", "127.0.0.1") as page:
            await tab.open(page.address)
            await tab.wait_for("Read-only", PATIENCE)
            await tab.wait_for("● training", PATIENCE)
            await tab.press("c")
            await tab.press(" ")
            before = await loss(tab)
            await loss(tab, than=before)
            assert facts(home)["status"] == "training"
            assert facts(home)["saved_iteration"] == reached["saved_iteration"]
        # The page says that it is no longer served.
        assert await tab.evaluate("document.body.classList.contains('-closed')")
    assert facts(home)["is_alive"]
