"""How every run stands is told from a bounded part of its journal."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import TYPE_CHECKING

import pytest

import engine.lock
from engine import catalog, checkpoint
from engine import events as ev
from engine.catalog import RunCatalog, read_record
from engine.deleting import delete_checkpoint, delete_run, folder_bytes
from engine.errors import CheckpointError, RunBusyError, RunError
from engine.journal import Journal, read_journal
from engine.lock import RunLock
from engine.runs import RunDirectory, runs_folder, short_name
from engine.view import RunView
from tests.tui.scripted import ScriptedRun

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setenv("LORA_TUI_HOME", str(tmp_path))


def make(name: str, events: Sequence[ev.Event], written: int = 1000) -> RunDirectory:
    run = RunDirectory(runs_folder() / name)
    run.adapters.mkdir(parents=True)
    run.config_file.write_text("model: Qwen/small\ndata: 'rows here'\niters: 15000\n")
    append(run, events, written)
    return run


def append(run: RunDirectory, events: Sequence[ev.Event], written: int) -> None:
    journal = Journal(run.journal_file)
    for event in events:
        journal.append(event)
    journal.close()
    os.utime(run.journal_file, (written, written))


def script(steps: int, iterations: int = 15_000) -> ScriptedRun:
    scripted = ScriptedRun(iterations)
    scripted.begin()
    scripted.advance(steps)
    return scripted


def hosts(count: int) -> list[ev.Event]:
    sample = ev.Host(time=1.0, pressure="green")
    return [dataclasses.replace(sample, time=float(n)) for n in range(count)]


def test_a_short_journal_says_it_all() -> None:
    scripted = script(200, 200)
    scripted.finish()
    record = read_record(make("20260921-221503-maximum", scripted.log))
    assert (record.name, record.status) == ("maximum", "completed")
    assert (record.iteration, record.iterations) == (200, 200)
    assert (record.model, record.data) == ("Qwen/small", "rows here")
    assert record.time == scripted.time
    assert len(record.losses) == catalog.POINTS
    assert record.losses[0] > record.losses[-1]


def test_a_long_journal_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = script(3000)
    run = make("long", scripted.log)
    assert run.journal_file.stat().st_size > 4 * catalog.WHOLE_BYTES
    read = 0
    lines = catalog._piece  # pyright: ignore[reportPrivateUsage]

    def counted(file: object, begin: int, end: int) -> list[bytes]:
        nonlocal read
        read += end - begin
        return lines(file, begin, end)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(catalog, "_piece", counted)
    record = read_record(run)
    assert read <= catalog.WHOLE_BYTES
    assert (record.status, record.iteration, record.iterations) == ("training", 3000, 15_000)
    assert sum(map(math.isfinite, record.losses)) > 20
    assert record.losses[0] > record.losses[-1]


def test_the_best_loss_of_a_long_journal_is_known_to_its_checkpoints() -> None:
    scripted = script(3000)
    run = make("long", scripted.log)
    facts = {"position": {"best_val_loss": 0.25}}
    snapshot = checkpoint.Snapshot(2900, {}, {}, facts=facts)
    checkpoint.write(run.adapters, snapshot)
    record = read_record(run)
    assert (record.val_loss, record.saved_iteration) == (0.25, 2900)


def test_why_a_run_stands_still_is_found_behind_hours_of_samples() -> None:
    scripted = script(3000)
    scripted.pause()
    scripted.answer()
    run = make("paused", [*scripted.log, *hosts(2000)])
    assert read_record(run).status == "paused"


def test_what_a_resume_undid_is_not_drawn() -> None:
    scripted = script(100, 100)
    again = dataclasses.replace(
        next(e for e in scripted.log if isinstance(e, ev.Started)), iteration=50
    )
    record = read_record(make("again", [*scripted.log, again]))
    assert (record.iteration, record.status) == (50, "training")


def test_a_run_without_a_step_has_no_curve() -> None:
    scripted = ScriptedRun()
    scripted.load(2)
    record = read_record(make("loading", scripted.log))
    assert (record.status, record.iteration, record.losses) == ("loading", 0, ())
    assert record.iterations == 15_000


def test_only_what_changed_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = script(20)
    run = make("20260921-221503-one", scripted.log, 1000)
    make("20260922-221503-two", script(10).log, 2000)
    runs = RunCatalog()
    reads: list[str] = []
    read = catalog.read_record
    monkeypatch.setattr(catalog, "read_record", lambda r: (reads.append(r.name), read(r))[1])
    assert [r.name for r in runs.look()] == ["two", "one"]
    assert {r.status for r in runs.look()} == {"interrupted"}
    assert len(reads) == 2
    scripted.advance(1)
    append(run, scripted.log[-1:], 3000)
    assert [(r.name, r.iteration) for r in runs.look()] == [("one", 21), ("two", 10)]
    assert reads[2:] == ["20260921-221503-one"]
    assert [r.name for r in runs.look(1)] == ["one"]


def test_who_trains_is_asked_every_time() -> None:
    run = make("live", script(20).log)
    runs = RunCatalog()
    lock = RunLock(run.lock_file)
    lock.acquire()
    assert runs.look()[0].status == "training"
    lock.release()
    assert runs.look()[0].status == "interrupted"


def test_a_run_that_vanishes_while_it_is_listed_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make("gone", script(5).log)

    def gone(_: RunDirectory) -> catalog.RunRecord:
        raise FileNotFoundError

    monkeypatch.setattr(catalog, "read_record", gone)
    assert RunCatalog().look() == []


def test_the_short_name_has_no_date() -> None:
    assert short_name("20260921-221503-maximum") == "maximum"
    assert short_name("mine") == "mine"
    assert short_name("20260921-221503-") == "20260921-221503-"


def test_a_run_is_deleted_whole_and_its_bytes_are_told() -> None:
    run = make("old", script(5).log)
    os.link(run.config_file, run.path / "again")
    expected = sum(f.stat().st_size for f in (run.config_file, run.journal_file))
    assert folder_bytes(run.path) == expected
    assert delete_run(run) == expected
    assert list(runs_folder().iterdir()) == []


def test_nothing_of_a_run_in_training_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.lock, "_TRY_SECONDS", 0.0)
    run = make("live", script(5).log)
    checkpoint.write(run.adapters, checkpoint.Snapshot(5, {}, {}))
    lock = RunLock(run.lock_file)
    lock.acquire()
    with pytest.raises(RunBusyError):
        delete_run(run)
    with pytest.raises(RunBusyError):
        delete_checkpoint(run, 5)
    lock.release()
    assert checkpoint.iterations(run.adapters) == [5]


def test_only_runs_are_deleted(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run's folder"):
        delete_run(RunDirectory(tmp_path))
    link = runs_folder() / "link"
    link.parent.mkdir()
    link.symlink_to(make("real", script(1).log).path)
    with pytest.raises(RunError, match="no run's folder"):
        delete_run(RunDirectory(link))


def test_a_deleted_checkpoint_is_gone_for_every_reader() -> None:
    scripted = script(1000)
    run = make("run", scripted.log)
    for iteration in (500, 1000):
        checkpoint.write(run.adapters, checkpoint.Snapshot(iteration, {}, {}))
    delete_checkpoint(run, 500, now=5.0)
    assert checkpoint.iterations(run.adapters) == [1000]
    view = RunView()
    view.apply_all(read_journal(run.journal_file))
    assert [saved.iteration for saved in view.checkpoints] == [1000]
    assert view.log[-1].text == "Deleted the checkpoint at 500"
    assert read_record(run).time == scripted.time
    with pytest.raises(CheckpointError, match="no checkpoint at 500"):
        delete_checkpoint(run, 500)
