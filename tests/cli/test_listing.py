"""Commands that only list: instant, and the same for people and programs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from engine import events as ev
from engine.lock import RunLock
from tests.cli.program import PATIENCE, environment, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.cli.program import Outcome


def step(iteration: int, moment: float) -> ev.Step:
    return ev.Step(
        time=moment,
        iteration=iteration,
        loss=1.0,
        learning_rate=1e-4,
        tokens=10,
        seconds=1.0,
        tokens_per_second=10.0,
        iterations_per_second=1.0,
        trained_tokens=10 * iteration,
        memory=ev.Memory(),
        eta_seconds=None,
    )


def write_run(home: Path, name: str, events: Sequence[ev.Event], iterations: int = 9) -> None:
    """Write the journal of a run that did what the events say."""
    started = ev.Started(
        time=events[0].time,
        name=name,
        run_dir="",
        model="m",
        data="d",
        iterations=iterations,
        updates=iterations,
        epochs=1.0,
        tokens=90,
        train_rows=9,
        valid_rows=1,
        batch_size=1,
        grad_accumulation_steps=1,
        micro_batch=1,
        widths=(8,),
        trainable_parameters=1,
        total_parameters=2,
        step="layers",
        step_reason="",
        device="",
        budget=1,
        plan=ev.MemoryPlan(),
    )
    folder = home / "runs" / name
    folder.mkdir(parents=True)
    text = "".join(f"{ev.to_json(event)}\n" for event in (started, *events))
    (folder / "events.jsonl").write_text(text, encoding="utf-8")


def test_version_and_presets(call: Callable[..., Outcome]) -> None:
    assert call("--version").out == "lora-tui 0.1.0\n"
    assert "demo" in [line.split()[0] for line in call("presets").out.splitlines()]
    listed: list[dict[str, Any]] = json.loads(call("presets", "--json").out)
    assert [set(preset) for preset in listed] == [{"name", "summary", "path", "verdict"}] * len(
        listed
    )


def test_where_creates_nothing(call: Callable[..., Outcome], home: Path) -> None:
    lines = dict(line.split(maxsplit=1) for line in call("where").out.splitlines())
    assert lines["home"] == str(home)
    assert lines["runs"] == str(home / "runs")
    assert lines["tokens"] == str(home / "cache" / "tokens")
    assert not home.exists()


def test_no_runs(call: Callable[..., Outcome]) -> None:
    outcome = call("runs")
    assert (outcome.code, outcome.out) == (0, "")
    assert "lora-tui demo" in outcome.err
    assert json.loads(call("runs", "--json").out) == []


def test_runs_and_how_they_stand(call: Callable[..., Outcome], home: Path) -> None:
    now = time.time()
    evaluated = ev.Evaluated(time=now, iteration=2, val_loss=0.5, best=True, seconds=1.0, tokens=9)
    ended = ev.Ended(time=now, status="stopped", iteration=2, reason="as asked")
    host = ev.Host(time=now, pressure="green")
    write_run(home, "stopped", [step(1, now), step(2, now), evaluated, ended])
    write_run(home, "killed", [step(1, now)])
    write_run(home, "running", [step(1, now), step(2, now), step(3, now), host])
    lock = RunLock(home / "runs" / "running" / "run.lock")
    lock.acquire()
    listed = {run["name"]: run for run in json.loads(call("runs", "--json").out)}
    standing = {name: (run["status"], run["iteration"]) for name, run in listed.items()}
    assert standing == {
        "stopped": ("stopped", 2),
        "killed": ("interrupted", 1),
        "running": ("training", 3),
    }
    lock.release()
    assert listed["stopped"]["val_loss"] == 0.5
    assert listed["killed"]["iterations"] == 9
    assert listed["stopped"]["path"] == str(home / "runs" / "stopped")
    (line,) = (line for line in call("runs").out.splitlines() if line.startswith("stopped"))
    assert "2 / 9" in line
    assert "val 0.500" in line


def test_a_long_journal_is_summed_up_at_once(home: Path, call: Callable[..., Outcome]) -> None:
    write_run(home, "long", [step(i, 1.0) for i in range(1, 15_001)], iterations=15_000)
    began = time.monotonic()
    assert json.loads(call("runs", "--json").out)[0]["iteration"] == 15_000
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(call: Callable[..., Outcome], shell: str) -> None:
    assert "_LORA_TUI_COMPLETE" in call("completion", shell).out


def test_presets_are_completed(tmp_path: Path) -> None:
    words = {"COMP_WORDS": "lora-tui run de", "COMP_CWORD": "2"}
    outcome = run(home=tmp_path, _LORA_TUI_COMPLETE="bash_complete", **words)
    assert "plain,demo" in outcome.out.splitlines()


LIGHT = """
import sys
from tui.cli import main
for arguments in (["--version"], ["completion", "zsh"]):
    main(arguments)
heavy = {"pydantic", "textual", "rich", "yaml", "engine.session", "mlx", "transformers"}
print("HEAVY", sorted(heavy & set(sys.modules)))
"""
BEFORE_PAINT = """
import sys
import tui.app, tui.cli_dashboard, tui.cli_home, tui.cli_run, tui.plain, engine.session
heavy = {"mlx", "mlx_lm", "transformers", "datasets", "huggingface_hub", "plotext"}
print("HEAVY", sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize("script", [LIGHT, BEFORE_PAINT])
def test_nothing_heavy_is_imported(tmp_path: Path, script: str) -> None:
    outcome = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert outcome.stdout.splitlines()[-1] == "HEAVY []"
