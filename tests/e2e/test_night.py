"""A run that nobody watches: its terminal closed under it, or handed over, and found again."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import Tiny
from tests.cli.program import finish, run, spawn
from tests.e2e.window import Window
from tests.tiny import make_tiny_data, make_tiny_model
from tests.tmux import HAS_TMUX, NEEDS_TMUX

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import psutil

pytestmark = pytest.mark.skipif(not HAS_TMUX, reason=NEEDS_TMUX)
PATIENCE = 100
LOOK_SECONDS = 0.1
WATCHED_SECONDS = 3.0
MOST_CPU = 0.05
"""Share of a core that a run standing still may take here, on a machine that is busy otherwise; a
loop that spins takes all of one. The bar of 1 % is measured by ``tests/bench/control.py``."""
# They end by themselves where a test that fails leaves them.
ENDLESS = {"iters": 50_000, "val_batches": 0, "save_every": 1_000_000}
# Updates lie between the iterations at which it is handed over.
SHORT = {"iters": 300, "steps_per_eval": 300, "save_every": 300, "grad_accumulation_steps": 7}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("night")
    return Tiny(folder, make_tiny_model(folder / "model"), make_tiny_data(folder / "data"))


def facts(name: str, home: Path) -> dict[str, Any]:
    return json.loads(run("status", name, "--json", home=home).out)


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, f"{what} within {PATIENCE} s"
        time.sleep(LOOK_SECONDS)


def processor_share(process: psutil.Process) -> float:
    """Measure how much of a core a process takes, its own threads all together."""
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(WATCHED_SECONDS)
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / (time.monotonic() - began)


@pytest.mark.timeout(3 * PATIENCE)
def test_a_closed_terminal_leaves_the_run_going_on_and_it_is_found_again(
    tiny: Tiny, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "night"
    with Window(
        *("run", tiny.config("closed", **ENDLESS), "--run-dir", str(folder)),
        home=tmp_path,
        log=tmp_path / "stty",
    ) as window:
        window.wait_for("tok/s", PATIENCE)
        program = window.program
    try:
        reached = facts("night", tmp_path)["iteration"]
        wait_until(lambda: facts("night", tmp_path)["iteration"] > reached, "more iterations")
        assert run("pause", "night", home=tmp_path).code == 0
        assert processor_share(program) < MOST_CPU
        with Window("attach", home=tmp_path, log=tmp_path / "again") as window:
            window.wait_for("‖ paused", PATIENCE)
            window.press("Space")
            window.wait_for("● training", PATIENCE)
            window.press("q")
            assert "night goes on" in window.wait_for("exit code 0", PATIENCE)
            window.assert_clean()
        # It is the process that began it.
        assert program.is_running()
        stopped = run("stop", "night", home=tmp_path)
        assert stopped.out.startswith("Stopped at"), stopped.err
        program.wait(PATIENCE)
    finally:
        if program.is_running():
            program.kill()
    assert facts("night", tmp_path)["status"] == "stopped"
    log = (folder / "log.txt").read_text(encoding="utf-8")
    assert "Saved at" in log
    assert "Traceback" not in log


@pytest.mark.timeout(3 * PATIENCE)
def test_a_run_handed_over_by_a_key_ends_as_an_undisturbed_one(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny.config("short", **SHORT)
    whole = spawn("run", config, "--plain", "--run-dir", str(tmp_path / "whole"), home=tmp_path)
    folder = tmp_path / "runs" / "night"
    with Window(
        *("run", config, "--run-dir", str(folder)), home=tmp_path, log=tmp_path / "stty"
    ) as window:
        window.wait_for("tok/s", PATIENCE)
        program = window.program
        try:
            window.press("Space")
            window.wait_for("‖ paused", PATIENCE)
            window.press("d")
            window.wait_for("It costs the step in", PATIENCE)
            window.press("d")
            words = window.wait_for("exit code 0", PATIENCE)
        finally:
            # Otherwise a closed window would leave it going on.
            if program.is_running():
                program.kill()
        assert "lora-tui attach night" in words
        window.assert_clean()
    left_at = next(
        json.loads(line)["iteration"]
        for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        if '"event": "ended"' in line
    )
    assert 0 < left_at < SHORT["iters"]
    wait_until(lambda: not facts("night", tmp_path)["is_alive"], "the run's end")
    assert finish(whole).code == 0
    assert run("status", "night", home=tmp_path).out.startswith("completed · val ")
    handed_over, undisturbed = (
        (path / "adapters" / "adapters.safetensors").read_bytes()
        for path in (folder, tmp_path / "whole")
    )
    assert handed_over == undisturbed
