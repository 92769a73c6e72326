"""Runs whose model and data come from a hub, and that keep the commits that they began with."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from engine import events as ev
from engine.config import dump, parse_yaml, validate
from engine.data.formats import Features
from engine.data.rows import Reading, read_data
from engine.errors import ConfigError
from engine.fetch import fetch
from engine.hub_cache import Repo
from engine.journal import read_history
from engine.model_files import find_model
from tests.engine.fetching import DATA, MODEL, WEIGHTS, cut, finish
from tests.engine.workshop import PATIENCE, wait_for
from tests.tiny import make_tiny_data

if TYPE_CHECKING:
    from pathlib import Path

    from engine.download import Surroundings
    from tests.engine.workshop import Workshop
    from tests.hub_server import HubServer


def test_a_stop_ends_a_run_that_waits_for_the_line(
    hub: HubServer, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.download.TICK_SECONDS", 0.25)
    hub.faults.append(cut(8192, gate=threading.Event()))
    session = workshop.session(model=MODEL)
    session.start()
    wait_for(session, lambda event: isinstance(event, ev.Progress) and event.done > 8192)
    began = time.monotonic()
    session.stop("asked")
    assert session.join(PATIENCE)
    assert time.monotonic() - began < 3
    ended = session.events[-1]
    assert isinstance(ended, ev.Ended)
    assert (ended.status, ended.exit_code) == ("stopped", 0)
    assert "What was downloaded is kept" in ended.hint
    assert not session.directory.path.exists()
    folder = Repo("model", MODEL).folder
    assert len(list(folder.glob("blobs/*.incomplete"))) == 1
    assert not (folder / "snapshots").exists(), "half a model looks like a whole one"


def test_the_journal_keeps_no_ticks(hub: HubServer, workshop: Workshop) -> None:
    hub.chunk_gate = lambda _: time.sleep(0.002)
    session = workshop.session(model=MODEL, iters=1)
    session.start()
    assert session.join(PATIENCE)
    assert session.exit_code == 0, session.error
    heard = [e for e in session.events if isinstance(e, ev.Progress) and e.stage == "download"]
    kept = read_history(session.directory.journal_file, 1)
    kept = [e for e in kept if isinstance(e, ev.Progress) and e.stage == "download"]
    assert heard[-1].done == heard[-1].total > 0
    assert kept[-1] == heard[-1]
    assert all(e.done in (0, e.total) for e in kept)
    started = next(e for e in session.events if isinstance(e, ev.Started))
    assert started.config["revision"] == next(iter(hub.repos[f"models/{MODEL}"]))


def test_a_run_keeps_its_commits_when_the_hub_moves_on(
    hub: HubServer, around: Surroundings
) -> None:
    first = {"train.jsonl": b'{"text": "one"}\n' * 4, "README.md": b"# Chats"}
    commit = hub.put("dataset", DATA, first)
    _, settled = finish(fetch(validate({"model": MODEL, "data": DATA, "num_layers": -1}), around))
    model = next(iter(hub.repos[f"models/{MODEL}"]))
    assert (settled.revision, settled.data_revision) == (model, commit)
    hub.put("dataset", DATA, first | {"train.jsonl": b'{"text": "two"}\n' * 4})
    hub.put("model", MODEL, {WEIGHTS: b"new", "config.json": b'{"model_type": "new"}'})
    again = validate(parse_yaml(dump(settled)))
    hub.asked.clear()
    assert finish(fetch(again, around))[1] == settled
    assert hub.asked == []
    rows = read_data(DATA, Features(), 1, Reading.of(again))
    assert {row.text for row in rows.train} == {"one"}
    assert find_model(again).path.name == model
    _, fresh = finish(fetch(validate({"model": MODEL, "data": DATA, "num_layers": -1}), around))
    assert fresh.data_revision != commit
    rows = read_data(DATA, Features(), 1, Reading.of(fresh))
    assert {row.text for row in rows.train} == {"two"}


def test_of_a_dataset_only_what_is_read(hub: HubServer, around: Surroundings) -> None:
    card = "configs:\n- config_name: en\n  data_files: en/*.jsonl\n- config_name: de\n"
    files = {
        "README.md": f"---\n{card}  data_files: de/*.jsonl\n---\n".encode(),
        "en/train.jsonl": b'{"text": "hello"}\n' * 5,
        "de/train.jsonl": b'{"text": "hallo"}\n' * 5,
        "raw.zip": b"x" * 50_000,
    }
    commit = hub.put("dataset", DATA, files)
    part = {"path": DATA, "config": {"name": "de"}, "valid_split": "train[-1:]"}
    _, settled = finish(fetch(validate({"model": MODEL, "hf_dataset": part}), around))
    assert sorted(set(hub.files_asked()) & set(files)) == ["README.md", "de/train.jsonl"]
    assert settled.hf_dataset[0].config == {"name": "de", "revision": commit}
    rows = read_data("", Features(), 1, Reading.of(settled))
    assert {row.text for row in rows.train} == {"hallo"}
    assert finish(fetch(settled, around))[1] == settled


def test_a_dataset_in_parquet(hub: HubServer, around: Surroundings, tmp_path: Path) -> None:
    from datasets import Dataset

    rows = [{"text": hashlib.sha256(bytes([i])).hexdigest() * 3} for i in range(256)]
    name = "data/train-00000-of-00001.parquet"
    (tmp_path / "made" / "data").mkdir(parents=True)
    cast("Any", Dataset).from_list(rows).to_parquet(tmp_path / "made" / name)
    hub.put("dataset", DATA, tmp_path / "made")
    hub.faults.append(cut())
    _, settled = finish(fetch(validate({"model": str(tmp_path), "data": DATA}), around))
    assert hub.ranges_of(name) == [None, "bytes=10000-"]
    read = read_data(DATA, Features(), 1, Reading(revision=settled.data_revision)).train
    assert [row.text for row in read] == [row["text"] for row in rows]


def test_a_revision_is_a_name_and_no_path() -> None:
    for good in ("main", "v1.0", "refs/pr/3"):
        assert validate({"revision": good}).revision == good
    for bad in ("../../x", "/etc", "a/../b", ""):
        with pytest.raises(ConfigError, match="revision"):
            validate({"revision": bad})


def test_local_runs_ask_nobody(hub: HubServer, around: Surroundings, tmp_path: Path) -> None:
    model, data = tmp_path / "model", make_tiny_data(tmp_path / "data")
    config = validate({"model": str(model), "data": str(data)})
    assert finish(fetch(config, around)) == ([], config)
    assert hub.asked == []
