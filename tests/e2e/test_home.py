"""In a real terminal, from an empty home to a demo, back, and to a fork of it; by keys alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.window import Window
from tests.tmux import HAS_TMUX, NEEDS_TMUX

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not HAS_TMUX, reason=NEEDS_TMUX)
PATIENCE = 100


def journal(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.timeout(5 * PATIENCE)
def test_from_the_first_start_to_a_fork(tmp_path: Path) -> None:
    with Window(home=tmp_path, log=tmp_path / "stty", size=(100, 30)) as window:
        window.wait_for("New here?", PATIENCE)
        window.wait_for("✓ fits", PATIENCE)
        # A short run of one's own: the demo with fewer iterations.
        window.press("n")
        window.wait_for("ctrl+s starts it", PATIENCE)
        window.press("Down", "Down", "End", "BSpace", "BSpace", "BSpace")
        window.wait_for("✗ give a number", PATIENCE)
        window.press("3", "0")
        window.wait_for("30 iterations", PATIENCE)
        window.press("C-s")
        window.wait_for("✓ completed", PATIENCE)
        window.press("Escape")
        window.wait_for("runs on this machine · 1", PATIENCE)
        window.wait_for("at 30 of 30", PATIENCE)
        window.press("Enter")
        window.wait_for("2 saved", PATIENCE)
        # The checkpoints pane, and in it the older one.
        window.press("Tab", "Tab", "Tab", "Tab", "Down", "Enter")
        window.wait_for("checkpoint 25", PATIENCE)
        window.press("r")
        # The one it goes on from stays with the older run.
        window.wait_for("1 saved", PATIENCE)
        window.wait_for("✓ completed", PATIENCE)
        window.press("Escape")
        window.wait_for("runs on this machine · 2", PATIENCE)
        window.press("q")
        assert "Traceback" not in window.wait_for("exit code 0", PATIENCE)
        window.assert_clean()
    older, fork = sorted((tmp_path / "runs").iterdir())
    started = next(e for e in journal(fork) if e["event"] == "started")
    assert (started["parent"], started["iteration"]) == (f"{older.name}@25", 25)
    assert [e["iteration"] for e in journal(fork) if e["event"] == "step"] == [26, 27, 28, 29, 30]
