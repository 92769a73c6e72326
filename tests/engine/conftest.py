"""A tiny model and its data, made once, and a workshop that trains it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx
import pytest

from engine.download import Surroundings
from tests.engine.fetching import MODEL
from tests.engine.workshop import Workshop
from tests.hub_server import HubServer, hub_server
from tests.tiny import make_tiny_data, make_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A workshop whose runs stay until the last test of the engine."""
    folder = tmp_path_factory.mktemp("engine")
    return Workshop(folder, make_tiny_model(folder / "model"), make_tiny_data(folder / "data"))


@pytest.fixture
def workshop(tiny: Workshop, tmp_path: Path) -> Workshop:
    """The same model and data, with an empty folder for this test's runs."""
    return Workshop(tmp_path, tiny.model, tiny.data)


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """mlx-lm compiles its activations; on a CPU that would call the system's C++ compiler."""
    mx.disable_compile()
    yield
    mx.enable_compile()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A hub that holds a model, and an empty cache."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("engine.download.TICK_SECONDS", 0.02)
    with hub_server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        server.put("model", MODEL, make_tiny_model(tmp_path / "model"))
        yield server


@pytest.fixture
def waits() -> list[float]:
    """The seconds that downloads waited, without waiting."""
    return []


@pytest.fixture
def around(waits: list[float]) -> Surroundings:
    async def wait(seconds: float) -> None:
        waits.append(seconds)

    return Surroundings(wait=wait)
