"""A tiny model and its data, made once, and a workshop that trains it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx
import pytest

from tests.engine.workshop import Workshop
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
