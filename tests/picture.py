"""Draws the README's picture: the real dashboard, watching a scripted run.

uv run python -m tests.picture
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from tests.tui.conftest import app_for, watched
from tests.tui.scripted import ScriptedRun

PICTURE = Path(__file__).parent / "pictures" / "dashboard.svg"
SIZE = (110, 32)
"""Columns and rows; wide enough for every pane."""
TRAINED = 9_450
STEP_SECONDS = 19.0
"""47 TFLOP, a step of four rows of 1,280 tokens, at the 2.5 TFLOP/s expected of an M2's GPU."""


async def draw() -> str:
    """Return the dashboard of a run that is well on its way, as SVG."""
    run = ScriptedRun(step_seconds=STEP_SECONDS)
    run.begin()
    run.advance(TRAINED)
    run.sample()
    run.answer()
    async with watched(app_for(run), SIZE) as seen:
        await seen.look()
        return seen.app.export_screenshot(title="lora-tui run maximum")


def main() -> int:
    """Write the picture."""
    # Clock times are drawn in it, and colours.
    os.environ["TZ"] = "UTC"
    os.environ.pop("NO_COLOR", None)
    time.tzset()
    PICTURE.write_text(asyncio.run(draw()), encoding="utf-8")
    print(PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
