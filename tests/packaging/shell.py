"""Runs programs the way a person's shell would, outside this environment."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
ENVIRONMENT = dict(os.environ)
"""As it was before any test's own home: uv's cache is in the real one."""
for name in ("PYTEST_ADDOPTS", "PYTHONPATH", "VIRTUAL_ENV"):
    ENVIRONMENT.pop(name, None)
# `uv run` says which uv it is.
UV = os.environ.get("UV") or shutil.which("uv") or "uv"


def run(
    *command: str | Path, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> str:
    """Return what a command prints.

    Raises:
        AssertionError: with all it said, when it fails.
    """
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=ENVIRONMENT | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout
