"""A real terminal with a real model in training: it answers, at once, and is left as it was."""

from __future__ import annotations

import json
import re
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.window import Window
from tests.tmux import HAS_TMUX, NEEDS_TMUX

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.scene import Scene

pytestmark = pytest.mark.skipif(not HAS_TMUX, reason=NEEDS_TMUX)
PATIENCE = 60
"""Seconds within which anything happens, also on a machine that is busy otherwise."""
# Whatever happens here, no run is left behind by a closed window.
# Answers before the first step would only take time.
ENDLESS = {"iters": 1_000_000, "batch_size": 2, "on_hangup": "stop", "sample_rows": 0}


def events(folder: Path) -> list[dict[str, Any]]:
    """Read a run's journal."""
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def saved(folder: Path, *reasons: str) -> Path:
    """Return the newest adapters of a run, saved for one of these reasons."""
    [*_, newest] = [event for event in events(folder) if event["event"] == "checkpoint"]
    assert newest["reason"] in reasons
    return folder / "adapters" / f"{newest['iteration']:07d}_adapters.safetensors"


@pytest.mark.timeout(3 * PATIENCE)
def test_a_run_is_steered_from_its_dashboard(scene: Scene, tmp_path: Path) -> None:
    config = scene.config("steered", data=str(scene.exchanges), **ENDLESS)
    arguments = ("run", str(config), "--run-dir", str(tmp_path / "run"))
    with Window(*arguments, home=tmp_path, log=tmp_path / "stty") as window:
        window.wait_for("tok/s", PATIENCE)
        window.press("c")
        window.wait_for("1 saved", PATIENCE)
        assert saved(tmp_path / "run", "requested").is_file()
        for size in ((80, 24), (120, 40)):
            window.resize(*size)
            window.press("Space")
            window.wait_for("‖ paused", PATIENCE)
            assert "resume" in window.screen
            window.press("Space")
            window.wait_for("● training", PATIENCE)
            window.press("?")
            window.wait_for("esc closes", PATIENCE)
            window.press("?")
            # What the help had covered.
            window.wait_for(" average", PATIENCE)
        window.press("a")
        window.wait_for("stop this run?", PATIENCE)
        window.press("a")
        window.wait_for("■ stopped", PATIENCE)
        assert saved(tmp_path / "run", "stop", "pause").is_file()
        window.press("q")
        words = window.wait_for("exit code 0", PATIENCE)
        assert re.search(r"Saved at \d+\.", words)
        assert f"Adapters: {tmp_path / 'run' / 'adapters'}" in words.replace("\n", "")
        window.assert_clean()


def leave_by_key(window: Window) -> None:
    window.press("q")
    window.wait_for("leave while it trains?", PATIENCE)
    window.press("s")


WAYS = {"q": 0, "SIGTERM": 143, "SIGHUP": 129, "SIGINT": 130}


@pytest.mark.timeout(3 * PATIENCE)
def test_every_way_out_saves_and_leaves_the_terminal_clean(scene: Scene, tmp_path: Path) -> None:
    config = scene.config("left", data=str(scene.exchanges), **ENDLESS)
    with ExitStack() as stack:
        windows: dict[str, Window] = {}
        # Side by side, as most of the time is their loading.
        for way in WAYS:
            arguments = ("run", str(config), "--run-dir", str(tmp_path / way))
            window = Window(*arguments, home=tmp_path, log=tmp_path / f"{way}.txt")
            windows[way] = stack.enter_context(window)
        for way, window in windows.items():
            window.wait_for("tok/s", PATIENCE)
            if way == "q":
                leave_by_key(window)
            else:
                window.signal(signal.Signals[way])
        for way, code in WAYS.items():
            words = windows[way].wait_for("exit code", PATIENCE)
            assert f"exit code {code}" in words, way
            assert "Saved at" in words
            assert "Traceback" not in words
            assert saved(tmp_path / way, "stop" if way == "q" else "signal").is_file()
            windows[way].assert_clean()


@pytest.mark.timeout(3 * PATIENCE)
def test_a_window_that_is_closed_ends_a_run_that_is_meant_to(scene: Scene, tmp_path: Path) -> None:
    config = scene.config("closed", data=str(scene.exchanges), **ENDLESS)
    arguments = ("run", str(config), "--run-dir", str(tmp_path / "run"))
    with Window(*arguments, home=tmp_path, log=tmp_path / "stty") as window:
        window.wait_for("tok/s", PATIENCE)
        program = window.program
    program.wait(PATIENCE)
    assert saved(tmp_path / "run", "signal").is_file()
    assert events(tmp_path / "run")[-1]["reason"] == "signal SIGHUP"
