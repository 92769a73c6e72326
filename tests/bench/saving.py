"""Measures what a checkpoint costs the trainer, and how fast a long journal is read back.

    uv run python -m tests.bench.saving

The arrays are those of Qwen2.5-1.5B at rank 32 on all seven modules of all layers: 36.9 M
parameters and AdamW's two moments of each, 443 MB. The trainer multiplies matrices meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from engine import events as ev
from engine.blas import preload_openblas
from engine.config import validate
from engine.journal import Journal, read_history
from engine.view import TRACE_SAMPLES, RunView

PARAMETERS = 36_929_536
LAYERS = 28
EVENTS = 100_000


def main() -> None:
    """Measure both, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--saves", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = _saving(Path(folder), options.saves) | _reading(Path(folder))
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:32s} {value:8.3f}")


def _saving(folder: Path, saves: int) -> dict[str, float]:
    preload_openblas()
    import mlx.core as mx

    from engine.checkpoint import Snapshot
    from engine.saving import write
    from engine.snapshot import tensors_of

    def arrays(names: tuple[str, ...]) -> dict[str, mx.array]:
        shape = (PARAMETERS // LAYERS,)
        return {f"{i}.{n}": mx.random.normal(shape) for i in range(LAYERS) for n in names}

    def work(factor: Any) -> float:
        began = time.perf_counter()
        for _ in range(2):
            mx.eval(factor @ factor)
        return time.perf_counter() - began

    factor = mx.random.normal((2048, 2048))
    adapters, moments = arrays(("lora",)), arrays(("m", "v"))
    mx.eval(adapters, moments, factor)
    config = validate({"keep_last": 2})
    lost: list[float] = []
    handed: list[float] = []
    written: list[float] = []
    with ThreadPoolExecutor(1) as writer:
        for iteration in range(1, saves + 1):
            calm = statistics.median(work(factor) for _ in range(5))
            began = time.perf_counter()
            taken = Snapshot(iteration, tensors_of(adapters), tensors_of(moments))
            future = writer.submit(write, folder, taken, config, 0)
            handed.append(time.perf_counter() - began)
            slow = 0.0
            while not future.done():
                slow += max(0.0, work(factor) - calm)
            lost.append(handed[-1] + slow)
            written.append(future.result().seconds)
    return {
        "checkpoint_megabytes": 3 * PARAMETERS * 4 / 1e6,
        "trainer_held_up_seconds": statistics.median(handed),
        "training_time_lost_seconds": statistics.median(lost),
        "training_time_lost_worst_seconds": max(lost),
        "written_after_seconds": statistics.median(written),
    }


def _reading(folder: Path) -> dict[str, float]:
    journal = Journal(folder / "events.jsonl")
    for iteration in range(1, EVENTS // 2 + 1):
        memory = ev.Memory(1, 2, 3, 4)
        journal.append(
            ev.Step(
                time=float(iteration), iteration=iteration, loss=1.0, learning_rate=1e-4, tokens=9,
                seconds=1.0, tokens_per_second=9.0, iterations_per_second=1.0, trained_tokens=9,
                memory=memory, eta_seconds=1.0,
            )
        )  # fmt: skip
        journal.append(ev.Host(time=float(iteration), pressure="green", swap_used=0))
    journal.close()
    began = time.perf_counter()
    events = read_history(folder / "events.jsonl", TRACE_SAMPLES)
    read = time.perf_counter() - began
    view = RunView()
    view.apply_all(events)
    return {"journal_read_seconds": read, "journal_folded_seconds": time.perf_counter() - began}


if __name__ == "__main__":
    main()
