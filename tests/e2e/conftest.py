"""A real model, short real chats, and a few runs that several tests look at."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.cli.program import run
from tests.e2e.scene import Scene, Trained, make_exchanges
from tests.smollm2.fixture import smollm2

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["smollm2"]

AT_ONCE = 2
"""Processes of one thread each: there are two cores at least."""
RUNS: dict[str, dict[str, object]] = {
    "adamw": {
        "optimizer": "adamw",
        "optimizer_config": {"adamw": {"weight_decay": 0.05, "betas": [0.9, 0.98]}},
        "learning_rate": 2e-4,
        "iters": 30,
        "num_layers": 4,
        "mask_prompt": True,
        "max_grad_norm": 1.0,
    },
    "adam": {
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "lr_schedule": {"name": "cosine_decay", "warmup": 5, "arguments": [1e-4, 20]},
        "iters": 20,
    },
}


@pytest.fixture(scope="session")
def scene(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The model and short chats, and a folder for all that is made of them."""
    folder = tmp_path_factory.mktemp("e2e")
    return Scene(folder, smollm2, make_exchanges(folder / "exchanges"))


@pytest.fixture(scope="session")
def trained(scene: Scene) -> dict[str, Trained]:
    """Every run of ``RUNS``, and ``whole-graph``, beside what mlx-lm's own parts come to."""
    configs = {
        name: scene.config(name, data=str(scene.exchanges), batch_size=2, **settings)
        for name, settings in RUNS.items()
    }
    home = scene.folder / "home"
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ours = {
            name: pool.submit(
                run, "run", str(config), "--json", "--run-dir", str(home / name), home=home
            )
            for name, config in configs.items()
        }
        whole = pool.submit(
            run, "run", str(configs["adamw"]), "--json", "--set", "step=whole-graph", home=home
        )
        theirs = {
            name: pool.submit(run, str(config), home=home, module="tests.e2e.stock")
            for name, config in configs.items()
        }
    found = {
        name: Trained(home / name, ours[name].result(), json.loads(theirs[name].result().out))
        for name in RUNS
    }
    return found | {"whole-graph": Trained(home, whole.result(), found["adamw"].stock)}
