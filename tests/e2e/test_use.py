"""mlx-lm takes what a run leaves: its generator and its fuse read the adapters."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.program import PATIENCE, environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.scene import Scene, Trained

# Here are the runs already: see test_parity.py.
pytestmark = pytest.mark.xdist_group("trained")
PROMPT = ("--prompt", "Hi, how are you?", "--max-tokens", "8", "--temp", "0")
WITH_FAST_BLAS = """
import runpy, sys
from engine.blas import preload_openblas
preload_openblas()
sys.argv[0] = "mlx_lm"
runpy.run_module("mlx_lm", run_name="__main__")
"""
"""``python -m mlx_lm``, not on the slow BLAS that MLX links."""


def mlx_lm(home: Path, *words: str) -> str:
    """Run one of mlx-lm's own commands and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", WITH_FAST_BLAS, *words],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answer(home: Path, *words: str) -> str:
    """Return what a model answers the prompt with."""
    return mlx_lm(home, "generate", *words, *PROMPT).split("==========")[1].strip()


@pytest.mark.timeout(4 * PATIENCE)
def test_mlx_lm_generates_with_the_adapters_and_fuses_them(
    scene: Scene, trained: dict[str, Trained], tmp_path: Path
) -> None:
    model, fused = str(scene.model), str(tmp_path / "fused")
    with_adapters = ("--model", model, "--adapter-path", str(trained["adam"].folder / "adapters"))
    said = answer(tmp_path, *with_adapters)
    assert said
    # The adapters are no silent no-op.
    assert said != answer(tmp_path, "--model", model)
    mlx_lm(tmp_path, "fuse", *with_adapters, "--save-path", fused)
    assert answer(tmp_path, "--model", fused) == said
