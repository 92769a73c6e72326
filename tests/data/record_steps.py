"""Trains SmolLM2 on the chats beside this file for a while, and records what every step took.

    OPENBLAS_NUM_THREADS=1 uv run python -m tests.data.record_steps

What the process computed is counted, not the clock: other programs on the machine are not in it.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from engine import events as ev
from engine.blas import preload_openblas
from engine.config import validate
from engine.runs import RunDirectory
from tests.smollm2.fixture import model_folder

HERE = Path(__file__).parent
SETTINGS = {
    "data": str(HERE / "chat"),
    "batch_size": 2,
    "iters": 160,
    "max_seq_length": 128,
    "num_layers": -1,
    "optimizer": "adamw",
    "learning_rate": 1e-4,
    "lora_parameters": {"rank": 8, "scale": 4.0, "dropout": 0.0},
    "steps_per_eval": 40,
    "val_batches": 3,
    "save_every": 50,
    "memory_budget_bytes": 4_000_000_000,
}


def main() -> None:
    """Train, and write the recording."""
    preload_openblas()
    from engine.mailbox import Mailbox
    from engine.train import train

    config = validate(SETTINGS | {"model": str(model_folder())})
    found: dict[str, list[tuple[int, float]]] = {"steps": [], "evaluations": [], "checkpoints": []}
    with tempfile.TemporaryDirectory() as folder:
        before = time.process_time()
        for event in train(config, RunDirectory(Path(folder) / "run"), Mailbox()):
            now = time.process_time()
            seconds, before = round(now - before, 4), now
            match event:
                case ev.Step():
                    found["steps"].append((event.width, seconds))
                case ev.Evaluated():
                    found["evaluations"].append((event.iteration, seconds))
                case ev.CheckpointSaved():
                    found["checkpoints"].append((event.iteration, seconds))
                case _:
                    pass
    plan = {key: SETTINGS[key] for key in ("batch_size", "steps_per_eval", "save_every")}
    (HERE / "step_times.json").write_text(json.dumps(plan | found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
