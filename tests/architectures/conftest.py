"""What all tests of architectures share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture(autouse=True)
def uncompiled() -> Generator[None]:
    """mlx-lm compiles its activations; on a CPU that would call the system's C++ compiler."""
    mx.disable_compile()
    yield
    mx.enable_compile()
