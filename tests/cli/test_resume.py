"""Going on with a run from the command line: the same run, a fork, or a clear refusal."""

from __future__ import annotations

import json
import shutil
import signal
from typing import TYPE_CHECKING, Any

import pytest

from engine.lock import RunLock
from tests.cli.program import finish, run, spawn, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Tiny
    from tests.cli.program import Outcome

SETTINGS = {"iters": 60, "steps_per_eval": 20, "save_every": 10}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def whole(tiny: Tiny, home: Path) -> Path:
    """A run that nobody disturbed."""
    config = tiny.config("whole", **SETTINGS)
    outcome = run("run", config, "--plain", "--run-dir", str(home / "whole"), home=home)
    assert outcome.code == 0, outcome.err
    return home / "whole"


@pytest.fixture(scope="module")
def killed(tiny: Tiny, home: Path) -> Path:
    """A run whose process died after its first checkpoint."""
    config = tiny.config("killed", **SETTINGS)
    process = spawn("run", config, "--json", home=home)
    assert process.stdout is not None
    for _ in until(process.stdout, '"event": "checkpoint"'):
        pass
    process.send_signal(signal.SIGKILL)
    finish(process)
    (path,) = (home / "runs").iterdir()
    return path


def adapters(path: Path) -> bytes:
    return (path / "adapters" / "adapters.safetensors").read_bytes()


def listed(home: Path, name: str) -> dict[str, Any]:
    found = json.loads(run("runs", "--json", home=home).out)
    return next(one for one in found if one["name"] == name)


def started(outcome: Outcome) -> dict[str, Any]:
    return next(event for event in outcome.events if event["event"] == "started")


def test_a_killed_run_is_listed_and_goes_on_without_a_name(
    whole: Path, killed: Path, home: Path
) -> None:
    before = listed(home, killed.name)
    assert before["status"] == "interrupted"
    assert before["saved_iteration"] >= 10
    line = next(s for s in run("runs", home=home).out.splitlines() if s.startswith(killed.name))
    assert f"saved at {before['saved_iteration']}" in line
    outcome = run("run", "--resume", "--json", home=home)
    assert outcome.code == 0, outcome.err
    assert started(outcome)["iteration"] == before["saved_iteration"]
    assert adapters(killed) == adapters(whole)
    assert listed(home, killed.name)["status"] == "completed"


def test_what_is_done_is_not_done_again(whole: Path, home: Path) -> None:
    outcome = run("run", "--resume", str(whole), "--plain", home=home)
    assert outcome.code == 2
    assert "60 of 60 iterations are done" in outcome.err
    assert "--set iters=120" in outcome.err


def test_a_run_killed_before_it_said_that_it_was_complete_ends(
    whole: Path, home: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    journal = copy / "events.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if '{"event": "ended"' not in line]
    assert len(kept) == len(lines) - 1
    journal.write_text("".join(kept), encoding="utf-8")
    outcome = run("run", "--resume", str(copy), "--json", home=home)
    assert outcome.code == 0, outcome.err
    assert started(outcome)["iteration"] == 60
    assert [event for event in outcome.events if event["event"] == "step"] == []
    assert outcome.events[-1]["status"] == "completed"
    assert adapters(copy) == adapters(whole)


def test_a_damaged_end_is_trained_again(whole: Path, home: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    (copy / "adapters" / "0000060_adapters.safetensors").unlink()
    (copy / "adapters" / "adapters.safetensors").unlink()
    outcome = run("run", "--resume", str(copy), "--json", home=home)
    assert outcome.code == 0, outcome.err
    assert started(outcome)["iteration"] == 50
    assert adapters(copy) == adapters(whole)


def test_settings_of_another_run_are_refused(whole: Path, home: Path) -> None:
    changes = ("--set", "iters=90", "--set", "learning_rate=0.5")
    outcome = run("run", "--resume", str(whole), *changes, "--plain", home=home)
    assert outcome.code == 2
    assert "learning_rate: " in outcome.err
    assert "resume_adapter_file" in outcome.err


def test_a_run_that_somebody_trains_is_refused(whole: Path, home: Path) -> None:
    lock = RunLock(whole / "run.lock")
    lock.acquire()
    outcome = run("run", "--resume", str(whole), "--set", "iters=70", "--plain", home=home)
    lock.release()
    assert outcome.code == 1
    assert "whole is being trained by process" in outcome.err


def test_a_fork_begins_at_its_checkpoint(whole: Path, home: Path) -> None:
    fork = home / "fork"
    words = ("--resume", f"{whole}@50", "--json", "--run-dir", str(fork))
    outcome = run("run", *words, home=home)
    assert outcome.code == 0, outcome.err
    assert (started(outcome)["iteration"], started(outcome)["parent"]) == (50, "whole@50")
    assert adapters(fork) == adapters(whole)
    missing = run("run", "--resume", f"{whole}@7", "--plain", home=home)
    assert missing.code == 2
    assert "no checkpoint at 7" in missing.err
