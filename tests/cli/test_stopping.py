"""Signals and readers that go away stop a run, which saves."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.program import finish, run, spawn, until

if TYPE_CHECKING:
    from tests.cli.conftest import Tiny

ENDLESS = {"iters": 1_000_000, "val_batches": 0, "save_every": 1_000_000}


def checkpoint_in(events: list[dict[str, Any]]) -> Path:
    saved = [event for event in events if event["event"] == "checkpoint"]
    assert [event["reason"] for event in saved] == ["signal"]
    return Path(saved[0]["path"])


def test_a_signal_stops_and_saves_whatever_libraries_print(tiny: Tiny, tmp_path: Path) -> None:
    number = signal.SIGTERM
    config = tiny.config("endless", **ENDLESS)
    process = spawn("run", config, "--json", home=tmp_path, module="tests.cli.noisy")
    assert process.stdout is not None
    for line in until(process.stdout, '"event": "step"'):
        assert "event" in json.loads(line)
    process.send_signal(number)
    rest = finish(process)
    assert rest.code == 128 + number
    ended = rest.events[-1]
    assert (ended["status"], ended["reason"]) == ("stopped", f"signal {number.name}")
    assert ended["exit_code"] == 128 + number
    assert checkpoint_in(rest.events).is_file()
    assert f"Saved at {ended['iteration']:,}." in rest.err
    assert "Adapters: " in rest.err
    for how in ("out", "err", "printed", "complained", "warned", "logged"):
        assert f"NOISE early {how}" in rest.err
    (log,) = tmp_path.glob("runs/*/log.txt")
    assert "NOISE early logged" in log.read_text(encoding="utf-8")
    assert "NOISE late warned" in log.read_text(encoding="utf-8")


def test_a_reader_that_goes_away_stops_and_saves(tiny: Tiny, tmp_path: Path) -> None:
    with spawn("run", tiny.config("endless", **ENDLESS), "--json", home=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in until(process.stdout, '"event": "step"'):
            pass
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 128 + signal.SIGPIPE
    assert "nobody reads the output any more" in said
    assert "Traceback" not in said
    (journal,) = tmp_path.glob("runs/*/events.jsonl")
    events = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    assert checkpoint_in(events).is_file()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_second_signal_leaves_at_once(tmp_path: Path, number: signal.Signals) -> None:
    process = spawn("begun", "followed", home=tmp_path, module="tests.cli.stuck")
    assert process.stdout is not None
    assert process.stderr is not None
    for _ in until(process.stdout, "progress"):
        pass
    process.send_signal(number)
    for _ in until(process.stderr, f"asked to stop: signal {number.name}, signal, {128 + number}"):
        pass
    process.send_signal(number)
    assert finish(process).code == 128 + number


def test_one_signal_leaves_while_there_is_nothing_to_save(tmp_path: Path) -> None:
    process = spawn("loading", "followed", home=tmp_path, module="tests.cli.stuck")
    assert process.stdout is not None
    for _ in until(process.stdout, "progress"):
        pass
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("stage", "code", "words"),
    [
        ("begun", 1, "The step in flight did not end in time, so it is lost."),
        ("loading", 0, "Left while loading. Nothing was trained, and nothing was written."),
    ],
)
def test_a_dashboard_that_is_left_does_not_hold_the_shell(
    tmp_path: Path, stage: str, code: int, words: str
) -> None:
    outcome = run(stage, "left", home=tmp_path, module="tests.cli.stuck")
    assert outcome.code == code
    assert words in outcome.out
