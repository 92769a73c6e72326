"""Keeps the developer's machine out of the tests, and the tests off the developer's machine."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from engine.blas import preload_openblas

if TYPE_CHECKING:
    from collections.abc import Iterator

# The fast BLAS wins only if it is in the process before MLX, which any test module may import.
preload_openblas()

# Read once, when the libraries are imported or the clock is first asked.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TZ": "UTC"}
time.tzset()

OUTSIDE = (
    "CLICOLOR_FORCE", "COLORTERM", "COLUMNS", "FORCE_COLOR", "HF_HOME", "HF_HUB_CACHE", "LINES",
    "NO_COLOR", "TEXTUAL_THEME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
)  # fmt: skip
"""Settings of the developer's shell that change what the program does or shows."""
TRAINER_SECONDS = 2.0
"""How long a run that a test stopped may take to end."""


@pytest.fixture(autouse=True)
def machine(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """An empty home and a plain shell; afterwards no run may be left behind."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LORA_TUI_HOME", str(home / "lora-tui"))
    for name in OUTSIDE:
        monkeypatch.delenv(name, raising=False)
    yield
    trainers = [thread for thread in threading.enumerate() if thread.name == "trainer"]
    for thread in trainers:
        thread.join(TRAINER_SECONDS)
    assert not any(thread.is_alive() for thread in trainers), "a run goes on after its test"
