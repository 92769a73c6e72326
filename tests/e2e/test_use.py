"""mlx-lm takes what a run leaves: its generator and its fuse read the adapters."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.program import environment
from tests.e2e.conftest import TRAINING_SECONDS, RealRun

if TYPE_CHECKING:
    from pathlib import Path

PROMPT = ("--prompt", "What is the capital of France?", "--max-tokens", "6")


def mlx_lm(home: Path, *words: str) -> str:
    """Run one of mlx-lm's own commands, with the fast BLAS loaded first."""
    code = (
        "from engine.blas import preload_openblas; preload_openblas(); import runpy, sys; "
        "sys.argv = ['mlx_lm', *sys.argv[1:]]; runpy.run_module('mlx_lm', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=environment(home),
        capture_output=True,
        check=False,
        text=True,
        timeout=TRAINING_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(TRAINING_SECONDS)
def test_mlx_lm_generates_with_the_adapters(real_run: RealRun, tmp_path: Path) -> None:
    model = real_run.settings["model"]
    adapters = str(real_run.folder / "adapters")
    out = mlx_lm(tmp_path, "generate", "--model", model, "--adapter-path", adapters, *PROMPT)
    assert "Generation: " in out


@pytest.mark.timeout(TRAINING_SECONDS)
def test_mlx_lm_fuses_the_adapters(real_run: RealRun, tmp_path: Path) -> None:
    model, fused = real_run.settings["model"], tmp_path / "fused"
    adapters = str(real_run.folder / "adapters")
    mlx_lm(
        tmp_path, "fuse", "--model", model, "--adapter-path", adapters, "--save-path", str(fused)
    )
    assert list(fused.glob("model*.safetensors"))
    assert "Generation: " in mlx_lm(tmp_path, "generate", "--model", str(fused), *PROMPT)
