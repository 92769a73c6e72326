"""Where runs are, what they are called, and how each stands."""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine import events as ev
from engine import runs
from engine.errors import ConfigError
from engine.journal import Journal
from engine.lock import RunLock
from tests.engine.samples import filled

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = 1_700_000_000.0
"""22:13:20 on 14 November 2023, UTC."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORA_TUI_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def make_run(name: str, events: Sequence[ev.Event] = (), written: float = NOW) -> runs.RunDirectory:
    """Make a run whose journal was written last at a time."""
    run = runs.RunDirectory(runs.runs_folder() / name)
    run.path.mkdir(parents=True)
    journal = Journal(run.journal_file)
    for event in events:
        journal.append(event)
    journal.close()
    os.utime(run.journal_file, (written, written))
    return run


@pytest.mark.parametrize(
    ("platform", "settings", "expected"),
    [
        ("linux", {"LORA_TUI_HOME": "/somewhere", "XDG_DATA_HOME": "/data"}, "/somewhere"),
        ("linux", {"LORA_TUI_HOME": "~/runs"}, "/home/ann/runs"),
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/lora-tui"),
        ("linux", {}, "/home/ann/.local/share/lora-tui"),
        ("darwin", {}, "/home/ann/Library/Application Support/lora-tui"),
        ("darwin", {"LORA_TUI_HOME": "/somewhere"}, "/somewhere"),
    ],
)
def test_home(
    platform: str, settings: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs.sys, "platform", platform)
    monkeypatch.setenv("HOME", "/home/ann")
    for name in ("LORA_TUI_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert runs.home() == Path(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("demo", "demo"),
        ("Qwen/Qwen2.5-1.5B", "qwen-qwen2.5-1.5b"),
        ("my run: día 2!", "my-run-d-a-2"),
        ("../../etc", "etc"),
        (".hidden", "hidden"),
        ("$(rm -rf)", "rm-rf"),
        ("…", "run"),
        ("", "run"),
        ("x" * 200, "x" * 60),
    ],
)
def test_names_are_safe_in_any_path(name: str, expected: str) -> None:
    assert runs.slug(name) == expected


@pytest.mark.usefixtures("home")
def test_a_new_run_is_called_by_date_time_and_name() -> None:
    path = runs.new_run_path("My Run", NOW)
    assert path == runs.runs_folder() / "20231114-221320-my-run"
    assert not path.exists()
    path.mkdir(parents=True)
    second = runs.new_run_path("My Run", NOW)
    second.mkdir()
    third = runs.new_run_path("My Run", NOW)
    assert [second.name, third.name] == [f"{path.name}-2", f"{path.name}-3"]


def test_making_a_directory_object_writes_nothing(home: Path) -> None:
    run = runs.RunDirectory(home / "runs" / "one")
    assert run.name == "one"
    assert [p.name for p in (run.config_file, run.journal_file, run.log_file, run.adapters)] == [
        "config.yaml",
        "events.jsonl",
        "log.txt",
        "adapters",
    ]
    assert not home.exists()


@pytest.mark.usefixtures("home")
def test_runs_are_listed_from_the_newest() -> None:
    assert runs.list_runs() == []
    for name, age in (("old", 300), ("newest", 0), ("middle", 100)):
        make_run(name, [filled(ev.Warned)], NOW - age)
    (runs.runs_folder() / "no journal").mkdir()
    (runs.runs_folder() / "a file").touch()
    assert [run.directory.name for run in runs.list_runs()] == ["newest", "middle", "old"]
    assert [run.directory.name for run in runs.list_runs(most=2)] == ["newest", "middle"]


@pytest.mark.usefixtures("home")
def test_a_run_is_found_by_name_by_path_and_as_the_newest(tmp_path: Path) -> None:
    first, second = make_run("first", written=NOW - 5), make_run("second")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "events.jsonl").touch()
    assert runs.find_run("first") == first
    assert runs.find_run(str(first.path)) == first
    assert runs.find_run(str(elsewhere)) == runs.RunDirectory(elsewhere)
    assert runs.find_run(None) == second


@pytest.mark.usefixtures("home")
def test_a_run_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="no runs yet") as error:
        runs.find_run(None)
    assert "lora-tui demo" in error.value.hint
    make_run("20231114-221320-demo")
    with pytest.raises(ConfigError, match=r"no run '20231114-demo'\. Did you mean '20231114-2"):
        runs.find_run("20231114-demo")


def test_where_a_run_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for path in (tmp_path / "new", tmp_path / "deep" / "down" / "new", tmp_path / "empty"):
        runs.check_writable(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_where_a_run_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").touch()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    for name, words in {
        "taken": "exists already",
        "file": "exists already",
        "file/new": "cannot be written under",
        "file/deep/new": "cannot be written under",
    }.items():
        with pytest.raises(ConfigError, match=words):
            runs.check_writable(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="cannot be written under"):
        runs.check_writable(tmp_path / "locked" / "new")


def started(at: float) -> ev.Started:
    return replace(filled(ev.Started), time=at, iterations=50, iteration=0)


def step(at: float, iteration: int) -> ev.Step:
    return replace(filled(ev.Step), time=at, iteration=iteration)


def evaluated(at: float, val_loss: float, *, best: bool) -> ev.Evaluated:
    return ev.Evaluated(time=at, iteration=1, val_loss=val_loss, best=best, seconds=1.0, tokens=1)


def host(at: float) -> ev.Host:
    return ev.Host(time=at, pressure="green")


@pytest.mark.usefixtures("home")
def test_a_run_that_trains_in_this_moment() -> None:
    now = time.time()
    run = make_run("run", [started(now - 90), step(now - 60, 1), step(now - 50, 7), host(now)])
    lock = RunLock(run.lock_file)
    lock.acquire()
    summary = runs.summarise(run)
    lock.release()
    assert (summary.status, summary.iteration, summary.iterations) == ("training", 7, 50)
    assert (summary.val_loss, summary.time) == (None, now)
    assert runs.summarise(run).status == "interrupted"


@pytest.mark.usefixtures("home")
def test_a_run_that_died_while_it_was_resumed_stands_where_it_was_resumed() -> None:
    again = replace(started(5.0), iteration=4)
    run = make_run("run", [started(1.0), step(2.0, 4), step(3.0, 7), again])
    assert runs.summarise(run).iteration == 4


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("status", ["completed", "stopped", "aborted", "failed"])
def test_a_run_that_is_over_stays_so(status: ev.EndStatus) -> None:
    ended = ev.Ended(time=NOW, status=status, iteration=50, reason="so")
    summary = runs.summarise(make_run("run", [started(NOW), step(NOW, 50), ended]))
    assert (summary.status, summary.iteration, summary.time) == (status, 50, NOW)


@pytest.mark.usefixtures("home")
def test_the_best_validation_loss_is_shown() -> None:
    losses = [(2.0, True), (1.5, True), (1.7, False)]
    events = [evaluated(NOW, loss, best=best) for loss, best in losses]
    assert runs.summarise(make_run("best", [started(NOW), *events])).val_loss == 1.5
    only = evaluated(NOW, float("nan"), best=False)
    shown = runs.summarise(make_run("none", [started(NOW), only])).val_loss
    assert shown is not None
    assert math.isnan(shown)
