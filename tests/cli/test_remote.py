"""Runs in other processes: handed over, asked, steered and stopped from the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from engine import events as ev
from engine.journal import Journal
from tests.cli.program import PATIENCE, run, spawn, until
from tests.tui.elsewhere import Elsewhere
from tests.tui.scripted import ScriptedRun, started
from tui.cli_remote import one_line, standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Tiny
    from tests.cli.program import Outcome

ENDLESS = {"iters": 1_000_000, "val_batches": 0, "save_every": 1_000_000}
# Updates lie between the iterations at which it is handed over.
SHORT = {"iters": 400, "steps_per_eval": 400, "save_every": 400, "grad_accumulation_steps": 7}


def adapters(path: Path) -> bytes:
    return (path / "adapters" / "adapters.safetensors").read_bytes()


def facts(name: str, home: Path) -> dict[str, Any]:
    return json.loads(run("status", name, "--json", home=home).out)


def wait_until_over(name: str, home: Path) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if not (now := facts(name, home))["is_alive"]:
            return now
        time.sleep(0.2)
    raise AssertionError(f"{name} does not end")


def test_a_run_in_the_background_is_steered_from_outside(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny.config("endless", **ENDLESS)
    begun = run("run", config, "--detach", home=tmp_path)
    assert begun.code == 0, begun.err
    (path,) = (tmp_path / "runs").iterdir()
    assert f"lora-tui attach {path.name}" in begun.err
    assert facts(path.name, tmp_path)["status"] == "training"
    paused = run("pause", home=tmp_path)
    assert (paused.code, paused.out[:9]) == (0, "Paused at"), paused.err
    assert run("status", home=tmp_path).out.startswith("paused · ")
    assert "is paused already" in run("pause", path.name, home=tmp_path).out
    assert run("resume", home=tmp_path).out.startswith("Resumed at")
    assert run("checkpoint", home=tmp_path).out.startswith("Saved at")
    stopped = run("stop", home=tmp_path)
    assert stopped.out.startswith("Stopped at"), stopped.err
    assert f"lora-tui run --resume {path.name}" in stopped.out
    assert wait_until_over(path.name, tmp_path)["status"] == "stopped"
    again = run("pause", home=tmp_path)
    assert again.code == 1
    assert "is stopped: nothing trains" in again.err


def test_a_run_handed_over_ends_as_an_undisturbed_one(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny.config("short", **SHORT)
    whole = run("run", config, "--plain", "--run-dir", str(tmp_path / "whole"), home=tmp_path)
    assert whole.code == 0, whole.err
    process = spawn("run", config, "--json", "--run-dir", str(tmp_path / "cut"), home=tmp_path)
    assert process.stdout is not None
    for _ in until(process.stdout, '"iteration": 9,'):
        pass
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    over = run("run", "--resume", str(tmp_path / "cut"), "--detach", home=tmp_path)
    assert over.code == 0, over.err
    assert wait_until_over(str(tmp_path / "cut"), tmp_path)["status"] == "completed"
    assert adapters(tmp_path / "cut") == adapters(tmp_path / "whole")


def test_what_fails_before_it_trains_is_said_by_who_started_it(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny.config("greedy", memory_budget_bytes=100_000_000, num_layers=5)
    refused = run("run", config, "--detach", home=tmp_path)
    assert refused.code != 0
    assert "layers" in refused.err


@pytest.mark.parametrize(("on_hangup", "goes_on"), [("continue", True), ("stop", False)])
def test_a_closed_terminal_is_what_the_settings_say(
    tiny: Tiny, tmp_path: Path, on_hangup: str, *, goes_on: bool
) -> None:
    config = tiny.config(on_hangup, **ENDLESS, on_hangup=on_hangup)
    process = spawn("run", config, "--json", home=tmp_path)
    assert process.stdout is not None
    for _ in until(process.stdout, '"event": "step"'):
        pass
    process.send_signal(signal.SIGHUP)
    if goes_on:
        for _, _line in zip(range(50), process.stdout, strict=False):
            pass
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + (signal.SIGTERM if goes_on else signal.SIGHUP)


@pytest.fixture
def going_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    """A run that a process trains, 63 of 100 iterations far."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    run = Elsewhere(home / "runs" / "night", ScriptedRun(100))
    run.begin(63)
    yield run
    run.leave()
    monkeypatch.undo()
    time.tzset()


def test_status_is_a_line_for_a_phone(going_on: Elsewhere) -> None:
    facts = standing(going_on.directory)
    line = one_line(facts, going_on.script.time)
    assert re.fullmatch(r"63 % · val \d\.\d\d · green · done \d\d:\d\d", line), line
    going_on.script.pause()
    going_on.script.answer()
    going_on.tell()
    assert one_line(standing(going_on.directory), going_on.script.time).startswith("paused · 63 %")
    going_on.leave()
    line = one_line(standing(going_on.directory), going_on.script.time)
    assert re.fullmatch(r"interrupted · 63 % · val \d\.\d\d · saved at 60", line), line


def test_a_run_that_goes_on_from_its_end_is_loading(
    going_on: Elsewhere, call: Callable[..., Outcome]
) -> None:
    going_on.script.end("stopped", "asked")
    going_on.tell()
    assert call("status").out.startswith("loading · 63 %")
    refused = call("pause")
    assert refused.code == 1
    assert "night is loading: it can pause once it trains." in refused.err
    assert going_on.asked == []


def test_status_is_watched_while_the_run_goes_on(
    going_on: Elsewhere, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.cli_remote.time.sleep", lambda _: going_on.leave())
    first, second = call("status", "--watch", "--format", "{status} {iteration}").out.splitlines()
    assert (first, second) == ("training 63", "interrupted 63")


def test_status_imports_nothing_heavy() -> None:
    heavy = ("mlx", "mlx_lm", "textual", "rich.console", "numpy", "psutil", "pydantic", "plotext")
    code = (
        "import sys, tui.cli, tui.cli_remote; "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def journal(home: Path, *events: ev.Event) -> Path:
    folder = home / "runs" / "past"
    folder.mkdir(parents=True)
    written = Journal(folder / "events.jsonl")
    for event in events:
        written.append(event)
    written.close()
    return folder


def test_status_says_which_runs_are_over(home: Path, call: Callable[..., Outcome]) -> None:
    begun = started(time.time(), "past", 100)
    measured = ev.Evaluated(
        time=time.time(), iteration=0, val_loss=1.294, best=True, seconds=1.0, tokens=10
    )
    journal(home, begun, measured)
    assert call("status").out == "interrupted · 0 % · val 1.29\n"
    assert call("status", "--format", "{status}:{percent}").out == "interrupted:0\n"
    assert call("status", "--format", "{nothing}").code == 2
    assert call("stop").code == 1
    ended = ev.Ended(time=time.time(), status="completed", iteration=100, reason="done")
    log = Journal(home / "runs" / "past" / "events.jsonl")
    log.append(ended)
    log.close()
    assert call("status").out.startswith("completed · val 1.29")
    assert os.environ["LORA_TUI_HOME"] == str(home)
