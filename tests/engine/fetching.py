"""Downloads from the hub of a test, and what it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine import events as ev
from engine.download import Fetched, Surroundings, download
from engine.hub_cache import Repo
from tests.hub_server import LARGE_BYTES, Fault, HubServer

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


MODEL, DATA = "maker/tiny-model", "maker/tiny-chats"
WEIGHTS = "model.safetensors"


def finish(steps: Generator[ev.Event, None, Any]) -> tuple[list[ev.Progress], Any]:
    """Let a download go to its end."""
    said: list[ev.Progress] = []
    while True:
        try:
            event = next(steps)
        except StopIteration as end:
            return said, end.value
        if isinstance(event, ev.Progress):
            said.append(event)


def get_model(around: Surroundings, revision: str | None = None) -> Path:
    """Download the model and return its folder."""
    repo = Repo("model", MODEL, revision)
    _, (fetched,) = finish(download([repo], around))
    assert isinstance(fetched, Fetched)
    folder = Repo("model", MODEL, fetched.commit).find_whole()
    assert folder is not None
    return folder


def weights_of(hub: HubServer) -> bytes:
    """The model's weights, which the hub keeps as a large file."""
    content = list(hub.repos[f"models/{MODEL}"].values())[-1][WEIGHTS]
    assert len(content) > LARGE_BYTES
    return content


def cut(after: int = 10_000, **more: Any) -> Fault:
    return Fault("/cdn/", cut_after=after, **more)
