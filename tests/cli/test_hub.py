"""Whether the hub answers is known soon, and nothing is downloaded that nobody wants."""

from __future__ import annotations

import http.server
import io
import os
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine import hub
from tests.cli.program import NOWHERE
from tui import cli_run

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.cli.conftest import Tiny
    from tests.cli.program import Outcome


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    # Set, so that what the code under test sets is undone.
    monkeypatch.setenv("HF_HUB_OFFLINE", "")


@contextmanager
def answering() -> Generator[str]:
    """A hub that answers whatever is asked with an error."""
    with http.server.HTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        thread.join()


class Quiet(http.server.BaseHTTPRequestHandler):
    """Knows no method, and says nothing about it."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@contextmanager
def swallowing() -> Generator[str]:
    """A network that takes everything and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_any_answer_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering() as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert hub.is_reachable()
    assert not os.environ["HF_HUB_OFFLINE"]


def test_a_network_that_swallows_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "ANSWER_SECONDS", 0.2)
    with swallowing() as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        began = time.monotonic()
        assert not hub.is_reachable()
    assert time.monotonic() - began < 5
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    assert not hub.is_reachable()


def test_offline_as_asked_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with answering() as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert not hub.is_reachable()
        monkeypatch.setenv("HF_HUB_OFFLINE", "")
        assert hub.is_reachable()


def test_the_cache_is_where_the_hub_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert hub.cache_folder() == Path("~/.cache/huggingface/hub").expanduser()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert hub.cache_folder() == tmp_path / "x" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "h"))
    assert hub.cache_folder() == tmp_path / "h" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "c"))
    assert hub.cache_folder() == tmp_path / "c"
    assert not hub.is_cached("someone/some-model")
    snapshot = tmp_path / "c" / "models--someone--some-model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").touch()
    assert hub.is_cached("someone/some-model")


def test_a_person_is_asked_before_a_download(
    call: Callable[..., Outcome],
    tiny: Tiny,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cli_run, "has_person", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    with answering() as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        outcome = call("run", tiny.config("ask"), "--model", "someone/some-model", "--json")
    assert (outcome.code, outcome.out) == (0, "")
    assert f"Download it from the Hugging Face hub to {tmp_path / 'cache'}?" in outcome.err
    assert "Nothing was done." in outcome.err
    assert not home.exists()
