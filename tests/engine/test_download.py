"""Downloads from a hub on this machine that cuts, crawls and refuses."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, cast

import httpx2
import huggingface_hub
import pytest

from engine import events as ev
from engine.config import validate
from engine.download import Fetched, Surroundings, download
from engine.errors import DataError, DownloadError, InputError, ModelError
from engine.fetch import fetch
from engine.hub_cache import Repo
from engine.model_files import find_model
from tests.engine.fetching import MODEL, WEIGHTS, cut, finish, get_model, weights_of
from tests.hub_server import Fault, HubServer

if TYPE_CHECKING:
    from pathlib import Path


def test_all_that_a_model_needs_and_nothing_else(
    hub: HubServer, around: Surroundings, tmp_path: Path
) -> None:
    other = {"pytorch_model.bin": b"x" * 50_000, "README.md": b"# A", "onnx/config.json": b"{}"}
    files = next(iter(hub.repos[f"models/{MODEL}"].values()))
    commit = hub.put("model", MODEL, files | other)
    said, (fetched,) = finish(download([Repo("model", MODEL)], around))
    folder = tmp_path / "cache" / "models--maker--tiny-model" / "snapshots" / commit
    assert fetched == Fetched(Repo("model", MODEL), commit)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == files
    assert (folder / WEIGHTS).is_symlink()
    assert (folder.parent.parent / "refs" / "main").read_text() == commit
    size = sum(map(len, files.values()))
    assert (said[-1].message, said[-1].done, said[-1].total) == (
        "downloading tiny-model", size, size,
    )  # fmt: skip
    assert find_model(validate({"model": MODEL, "num_layers": -1})).path == folder
    assert not list(folder.parent.parent.glob("blobs/*.incomplete"))
    # The hub's own programs find it too.
    cache = str(tmp_path / "cache")
    library = cast("Any", huggingface_hub)
    assert library.snapshot_download(MODEL, cache_dir=cache, local_files_only=True) == str(folder)
    assert library.scan_cache_dir(cache).warnings == []


def test_what_is_here_is_not_asked_for_again(hub: HubServer, around: Surroundings) -> None:
    folder = get_model(around)
    hub.asked.clear()
    assert get_model(around) == folder
    assert hub.files_asked() == []
    hub.asked.clear()
    # A commit can be nothing else than what is here.
    assert get_model(around, folder.name) == folder
    assert hub.asked == []


def test_a_cut_line_goes_on_where_it_was(
    hub: HubServer, around: Surroundings, waits: list[float]
) -> None:
    hub.faults += [cut(), cut(5000)]
    folder = get_model(around)
    assert hub.ranges_of(WEIGHTS) == [None, "bytes=10000-", "bytes=15000-"]
    assert (folder / WEIGHTS).read_bytes() == weights_of(hub)
    assert waits == [1.0, 1.0]


def test_a_line_that_brings_nothing_is_taken_anew(
    hub: HubServer, around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.download.TIMEOUT", httpx2.Timeout(0.2))
    hub.faults.append(cut(gate=threading.Event()))
    assert (get_model(around) / WEIGHTS).read_bytes() == weights_of(hub)
    assert hub.ranges_of(WEIGHTS) == [None, "bytes=10000-"]


def test_a_line_that_breaks_for_good_keeps_what_came(
    hub: HubServer, around: Surroundings, waits: list[float]
) -> None:
    hub.faults += [cut(), Fault("/cdn/", times=100, cut_after=0)]
    with pytest.raises(DownloadError, match=r"broke off at 10\.0 kB of .*: the connection"):
        get_model(around)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]
    hub.faults.clear()
    hub.asked.clear()
    folder = get_model(around)
    assert hub.ranges_of(WEIGHTS) == ["bytes=10000-"]
    assert hub.files_asked().count("config.json") == 0
    assert (folder / WEIGHTS).read_bytes() == weights_of(hub)


def test_stopped_in_the_middle_of_a_file_and_taken_up_again(
    hub: HubServer, around: Surroundings
) -> None:
    hub.faults.append(cut(8192, gate=threading.Event()))
    steps = download([Repo("model", MODEL)], around)
    words = (event for event in steps if isinstance(event, ev.Progress))
    # The line brings nothing any more, and yet there is word of it.
    stalled = next(event for event in words if event.done > 8192)
    assert next(words).done == stalled.done
    steps.close()
    hub.asked.clear()
    said, _ = finish(download([Repo("model", MODEL)], around))
    assert hub.ranges_of(WEIGHTS) == ["bytes=8192-"]
    assert said[-1].done == said[-1].total


def test_two_at_once_download_a_file_once(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.hub_client.FIRST_WAIT_SECONDS", 0.02)
    around, gate = Surroundings(), threading.Event()
    hub.faults.append(cut(8192, gate=gate))
    first = download([Repo("model", MODEL)], around)
    next(e for e in first if isinstance(e, ev.Progress) and e.done > 8192)
    second = download([Repo("model", MODEL)], around)
    waiting = next(e for e in second if isinstance(e, ev.Progress) and e.trouble)
    assert waiting.trouble.startswith("another process is downloading it")
    gate.set()
    finish(first)
    said, _ = finish(second)
    assert hub.ranges_of(WEIGHTS) == [None, "bytes=8192-"]
    assert not said or said[-1].done == said[-1].total


def test_a_hub_that_cannot_go_on_begins_anew(hub: HubServer, around: Surroundings) -> None:
    hub.faults += [cut(), Fault("/cdn/", ignores_range=True)]
    said, _ = finish(download([Repo("model", MODEL)], around))
    assert hub.ranges_of(WEIGHTS) == [None, "bytes=10000-"]
    assert said[-1].done == said[-1].total


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hub_with_trouble_is_asked_again(
    hub: HubServer, around: Surroundings, waits: list[float], status: int
) -> None:
    hub.faults += [Fault("/revision/", status=status), Fault("/cdn/", status=status)]
    assert (get_model(around) / WEIGHTS).read_bytes() == weights_of(hub)
    assert waits == [1.0, 1.0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda c: c[:-1] + b"!", "what came is not what the hub lists"),
        (lambda c: c + b"more", "more came than the .* bytes that the hub lists"),
    ],
)
def test_what_came_damaged_is_thrown_away(
    hub: HubServer, around: Surroundings, answer: Any, words: str
) -> None:
    hub.faults.append(Fault("/cdn/", times=100, answer=answer))
    with pytest.raises(DownloadError, match=words):
        get_model(around)
    assert hub.ranges_of(WEIGHTS) == [None, None]
    assert Repo("model", MODEL).find_whole() is None
    hub.faults[0].times = 1
    assert (get_model(around) / WEIGHTS).read_bytes() == weights_of(hub)


def test_a_file_of_the_cache_that_is_not_whole_is_fetched_again(
    hub: HubServer, around: Surroundings
) -> None:
    folder = get_model(around)
    with (folder / WEIGHTS).open("ab") as blob:
        blob.truncate(100)
    assert Repo("model", MODEL).find_whole() is None
    assert (get_model(around) / WEIGHTS).read_bytes() == weights_of(hub)


def test_the_line_says_how_fast_it_is(hub: HubServer) -> None:
    ticking = iter(range(1000))
    around = Surroundings(clock=lambda: float(next(ticking)))
    passing = threading.Semaphore(0)

    def gate(at: int) -> None:
        if at:
            passing.acquire()

    hub.chunk_gate = gate
    said: list[ev.Progress] = []
    for event in download([Repo("model", MODEL)], around):
        assert isinstance(event, ev.Progress)
        said.append(event)
        passing.release(3)
    paced = [e for e in said if e.per_second]
    assert paced
    for event in paced:
        assert event.per_second is not None
        assert event.seconds_left == (event.total - event.done) / event.per_second
    assert [e.done for e in said] == sorted(e.done for e in said)


def test_offline(hub: HubServer, around: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"is not on this machine.* offline"):
        get_model(around)
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    folder = get_model(around)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.asked.clear()
    assert get_model(around) == folder
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match="is not whole on this machine"):
        get_model(around)
    assert hub.asked == []


@pytest.mark.usefixtures("hub")
def test_a_hub_that_is_down_is_done_without(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = get_model(around)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    _, (fetched,) = finish(download([Repo("model", MODEL)], around))
    assert fetched.commit == folder.name
    assert fetched.note == (
        f"the hub cannot be reached: {MODEL} is used as it was downloaded before "
        f"({folder.name[:8]})"
    )
    with pytest.raises(ModelError, match=r"other/model is not on this .*cannot be reached"):
        finish(download([Repo("model", "other/model")], around))
    with pytest.raises(DataError, match="other/data is not on this machine") as caught:
        finish(fetch(validate({"model": MODEL, "data": "other/data"}), around))
    assert "--data" in caught.value.hint


@pytest.mark.parametrize(
    ("status", "code", "where", "message", "hint"),
    [
        (401, "GatedRepo", "config.json", "asks for its licence to be accepted", "Accept it at "),
        (403, "GatedRepo", "config.json", "asks for its licence to be accepted", "hf auth login"),
        (401, "RepoNotFound", "/revision/", "has no model maker/tiny-model", "hf auth login"),
        (404, "", "/revision/", "has no model maker/tiny-model", "Check the name"),
        (404, "RevisionNotFound", "/revision/", "has no revision main", "setting revision"),
        (403, "", "/revision/", r"refused maker/tiny-model: .*\(HTTP 403\)", "hf auth login"),
    ],
)
def test_what_is_not_for_this_person(
    hub: HubServer, around: Surroundings, status: int, code: str, where: str, message: str,
    hint: str,
) -> None:  # fmt: skip
    hub.faults.append(Fault(where, times=9, status=status, code=code))
    with pytest.raises(ModelError, match=message) as caught:
        get_model(around)
    assert hint in caught.value.hint


def test_a_token_stays_with_the_hub(
    hub: HubServer, around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get_model(around)
    there = {a.authorization for a in hub.asked if not a.path.startswith("/cdn/")}
    elsewhere = {a.authorization for a in hub.asked if a.path.startswith("/cdn/")}
    assert (there, elsewhere) == ({"Bearer hf_secret"}, {None})
    hub.faults.append(Fault("/revision/", status=403, code="GatedRepo"))
    with pytest.raises(ModelError) as caught:
        finish(download([Repo("model", "maker/other")], around))
    assert "with the account that you are logged in with" in caught.value.hint


def test_weights_in_other_formats_are_not_downloaded(hub: HubServer, around: Surroundings) -> None:
    hub.put("model", "maker/old", {"config.json": b"{}", "pytorch_model.bin": b"x" * 50_000})
    with pytest.raises(ModelError, match=r"no weights .*, only pytorch_model\.bin"):
        finish(download([Repo("model", "maker/old")], around))
    assert hub.files_asked() == []


def test_names_that_lead_out_of_the_cache(hub: HubServer, around: Surroundings) -> None:
    hub.put("model", "maker/evil", {WEIGHTS: b"x", "../../../config.json": b"{}"})
    with pytest.raises(ModelError, match="a file with the name"):
        finish(download([Repo("model", "maker/evil")], around))


def test_too_little_space(hub: HubServer, around: Surroundings, tmp_path: Path) -> None:
    small = Surroundings(free_bytes=lambda _: 9_000_000, wait=around.wait)
    with pytest.raises(InputError) as caught:
        finish(download([Repo("model", MODEL)], small))
    assert caught.value.message == (
        f"Downloading tiny-model needs 16.1 MB, but only 9.0 MB are free in {tmp_path / 'cache'}."
    )
    assert "Free 7.1 MB there" in caught.value.hint
    assert hub.files_asked() == []
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("hub")
def test_a_model_that_another_program_downloaded(
    monkeypatch: pytest.MonkeyPatch, around: Surroundings
) -> None:
    folder = get_model(around)
    (own,) = (folder.parent.parent / "lora-tui").iterdir()
    own.unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert get_model(around) == folder
    index = {"weight_map": {"a": WEIGHTS, "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="is not whole on this machine"):
        get_model(around)
