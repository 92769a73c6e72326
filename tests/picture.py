"""Draws the README's pictures: the dashboard over a real run, the demo, at two sizes.

uv run python -m tests.picture
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from engine.config import load_config
from engine.runs import RunDirectory, new_run_path
from engine.session import Session
from tests.tui.conftest import Watched, watched
from tui.app import LoraTuiApp
from tui.cli_dashboard import SteeredRun
from tui.terminal import StrayOutput

PICTURES = Path(__file__).parent / "pictures"
SIZES = ((120, 40), (80, 24))
"""Columns and rows: with room for everything, and the least that most terminals have."""
TRAINED = 80
"""Iterations after which the pictures are taken, of the demo's 125."""
LOOK_SECONDS = 0.2
PATIENCE_SECONDS = 600.0


async def draw(run: SteeredRun) -> dict[str, str]:
    """Train until well on the way; return the dashboard as SVG by file name."""
    pictures: dict[str, str] = {}
    app = LoraTuiApp(run)
    async with watched(app, SIZES[0]) as seen:
        await _trained(seen)
        for width, height in SIZES:
            await seen.pilot.resize_terminal(width, height)
            await _between_works(seen)
            title = "lora-tui demo"
            pictures[f"demo-{width}x{height}.svg"] = app.export_screenshot(title=title)
        run.stop()
    return pictures


async def _trained(seen: Watched) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    watch = seen.dashboard.run_watch
    while watch.view.iteration < TRAINED:
        assert time.monotonic() < end, watch.view.activity
        assert not watch.is_over, watch.view.ended
        await asyncio.sleep(LOOK_SECONDS)


async def _between_works(seen: Watched) -> None:
    """Look until it trains, and neither evaluates nor samples."""
    await seen.look()
    while seen.dashboard.run_watch.view.activity:
        await asyncio.sleep(LOOK_SECONDS)
        await seen.look()


def main() -> int:
    """Write the pictures."""
    # Clock times are drawn in them, and colours.
    os.environ["TZ"] = "UTC"
    os.environ.pop("NO_COLOR", None)
    time.tzset()
    with tempfile.TemporaryDirectory() as home:
        os.environ["LORA_TUI_HOME"] = home
        session = Session(load_config("demo", {}), RunDirectory(new_run_path("demo")))
        with StrayOutput() as stray:
            pictures = asyncio.run(draw(SteeredRun(session, stray)))
            session.join()
    for name, picture in pictures.items():
        (PICTURES / name).write_text(picture, encoding="utf-8")
        print(PICTURES / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
