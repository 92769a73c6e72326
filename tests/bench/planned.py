"""Compares the peak that is planned from shapes alone with the one that MLX then counts.

    uv run python -m tests.bench.planned

On a GPU: 36 configurations of 0.5B to 3B shapes, two steps each, as a base Mac would train them
(small command buffers, attention that is not fused in training), in about three minutes. On a CPU
the same with a tiny shape. Median and worst error come last.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.bars import BASE_MAC

if TYPE_CHECKING:
    from collections.abc import Generator

    import mlx.core as mx

    from engine.config import RunConfig
    from engine.events import MemoryPlan
    from engine.optimizer import Updater
    from engine.step import LayerStep

MEDIAN_BAR, WORST_BAR = 0.05, 0.12
RECORDED = Path(__file__).with_name("planned_gpu.json")
"""What was measured on one NVIDIA H200, MLX 0.32.4, in bytes."""


@dataclass(frozen=True)
class Configuration:
    """One thing to plan and to measure."""

    shape: str
    bits: int
    """0 is 16 bits, on a CPU 32."""
    rank: int
    length: int
    micro: int
    parts: int = 1
    """Micro-batches of a step."""
    dropout: float = 0.0
    kind: str = "lora"


HALF, ONE, LLAMA, THREE = "qwen2.5-0.5b", "qwen2.5-1.5b", "llama-3.2-1b", "qwen2.5-3b"
ON_GPU = (
    *(Configuration(HALF, 0, 8, n, m) for n, m in ((256, 1), (256, 8), (1024, 4), (4096, 1))),
    *(Configuration(HALF, 4, 16, n, m) for n, m in ((512, 1), (512, 8), (2048, 2), (4096, 2))),
    *(Configuration(HALF, 8, 64, n, m) for n, m in ((256, 4), (2048, 1))),
    *(Configuration(ONE, 0, 32, n, m, 2) for n, m in ((256, 1), (512, 4), (1024, 1), (1024, 4))),
    *(Configuration(ONE, 0, 32, n, m, 2) for n, m in ((2048, 1), (2048, 2), (4096, 1))),
    *(Configuration(ONE, 4, 8, n, m) for n, m in ((256, 2), (1024, 2), (2048, 4), (4096, 1))),
    *(Configuration(ONE, 8, 16, n, m) for n, m in ((512, 2), (2048, 1))),
    Configuration(ONE, 0, 4, 2048, 1, 4),
    Configuration(ONE, 0, 64, 512, 8),
    Configuration(ONE, 0, 32, 2048, 1, 2, dropout=0.05),
    Configuration(ONE, 0, 16, 1024, 1, 2, kind="dora"),
    *(Configuration(LLAMA, 0, 16, n, m) for n, m in ((512, 2), (2048, 1))),
    Configuration(LLAMA, 4, 32, 1024, 4),
    *(Configuration(THREE, 0, 16, n, m) for n, m in ((256, 1), (1024, 1), (2048, 2))),
    *(Configuration(THREE, 4, 32, n, m) for n, m in ((512, 4), (2048, 1), (4096, 1))),
)
ON_CPU = tuple(
    Configuration("tiny", bits, rank, length, micro, parts)
    for bits, rank in ((0, 4), (0, 64), (4, 8), (8, 8))
    for length, micro, parts in ((64, 1, 4), (128, 4, 1), (256, 2, 2))
)


def main() -> None:
    """Measure every configuration and print a table, or one JSON object a line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=512, help="positions of the tail at once")
    parser.add_argument("--score-mb", type=float, default=64.0, help="attention block")
    parser.add_argument("--seconds", type=float, default=240.0, help="begin no more after this")
    parser.add_argument("--fused", action="store_true", help="attention as CUDA has it")
    parser.add_argument("--only", default="", help="shapes to measure, with commas between")
    options = parser.parse_args()
    if not options.fused:
        # Read when MLX is imported.
        os.environ.update(BASE_MAC)
    from engine.blas import preload_openblas

    preload_openblas()
    import mlx.core as mx

    on_cpu = mx.default_device().type == mx.DeviceType.cpu
    if on_cpu:
        mx.disable_compile()
    if not options.json:
        print("| configuration | planned GB | measured GB | error | beyond what is stored |")
        print("|---|---|---|---|---|")
    began = time.perf_counter()
    errors: list[float] = []
    wanted = [c for c in (ON_CPU if on_cpu else ON_GPU) if c.shape in (options.only or c.shape)]
    for configuration in wanted:
        if time.perf_counter() - began > options.seconds:
            break
        row = measure(configuration, options, on_cpu=on_cpu)
        errors.append(row["error"])
        print(json.dumps(row) if options.json else _line(row), flush=True)
    worst = max(errors, key=abs)
    summary = {
        "configurations": len(errors),
        "left_out": len(wanted) - len(errors),
        "median_error": statistics.median(map(abs, errors)),
        "worst_error": worst,
        "seconds": time.perf_counter() - began,
    }
    print(json.dumps(summary) if options.json else _verdict(summary))


def measure(c: Configuration, options: Any, *, on_cpu: bool) -> dict[str, Any]:
    """Plan a configuration, then train it for some steps and count."""
    run = _settings(c)
    stored, plan = _planned(c, run, options, on_cpu=on_cpu)
    began = time.perf_counter()
    peak = _measured(c, run, options, on_cpu=on_cpu)
    return {
        **asdict(c),
        "planned": plan.peak,
        "measured": peak,
        "error": plan.peak / peak - 1,
        "stored": stored.peak,
        "plan": asdict(plan),
        "seconds": time.perf_counter() - began,
    }


def replay() -> list[float]:
    """Plan what was measured on a GPU before; return planned over measured less 1, of each."""
    options = argparse.Namespace(chunk=512, score_mb=64.0, fused=False)
    errors: list[float] = []
    for row in json.loads(RECORDED.read_text(encoding="utf-8")):
        measured = row.pop("measured")
        c = Configuration(**row)
        _, plan = _planned(c, _settings(c), options, on_cpu=False)
        errors.append(plan.peak / measured - 1)
    return errors


def _settings(c: Configuration) -> RunConfig:
    from engine.config import validate
    from tests.bench.shapes import KEYS

    return validate(
        {
            "num_layers": -1,
            "optimizer": "adamw",
            "learning_rate": 1e-5,
            "lora_parameters": {
                "rank": c.rank,
                "scale": 2.0,
                "dropout": c.dropout,
                "keys": KEYS,
            },
            "fine_tune_type": c.kind,
            "batch_size": c.micro * c.parts,
        }
    )


def _planned(
    c: Configuration, run: RunConfig, options: Any, *, on_cpu: bool
) -> tuple[MemoryPlan, MemoryPlan]:
    """What is stored, and the whole plan, from the shape alone."""
    from engine import estimate
    from engine.known_models import tensors_of_config
    from engine.shapes import shape_of
    from tests.bench.shapes import SHAPES

    values = SHAPES[c.shape]
    packed = {"quantization": {"bits": c.bits, "group_size": 64}} if c.bits else {}
    tensors = tensors_of_config(values | packed)
    assert tensors is not None
    shape = shape_of(tensors, values, "F32" if on_cpu else "F16")
    stored = estimate.stored(shape, run)
    size = estimate.StepSize(
        batch=run.batch_size,
        width=c.length,
        chunk=options.chunk,
        method="layers",
        score_bytes=0 if options.fused and not on_cpu else _score_bytes(options),
    )
    step_shape = estimate.step_shape(shape, run, is_eager=on_cpu)
    return stored, estimate.with_step(stored, step_shape, size, c.micro)


def _score_bytes(options: Any) -> int | None:
    return None if options.fused else int(options.score_mb * 1e6)


def _measured(c: Configuration, run: RunConfig, options: Any, *, on_cpu: bool) -> int:
    """MLX's peak over some steps and updates, less what was there before."""
    import mlx.core as mx

    from engine.layers import StepSettings
    from engine.model import attach
    from engine.optimizer import Updater
    from engine.parts import Parts
    from engine.step import LayerStep
    from tests.bench.shapes import build

    # What is kept for reuse is no part of the peak, but it may run the device full.
    mx.set_cache_limit(512_000_000)
    before = mx.get_active_memory()
    model = build(c.shape, mx.float32 if on_cpu else mx.float16, c.bits)
    attach(model, run)
    mx.eval(model.parameters())
    model.train()
    updater = Updater(model, run, is_compiled=not on_cpu)
    settings = StepSettings(
        tail_chunk=options.chunk,
        compiled=not on_cpu,
        pipelined=not on_cpu,
        score_bytes=_score_bytes(options),
    )
    stepper = LayerStep(Parts(model), settings)
    mx.clear_cache()
    mx.reset_peak_memory()
    with _attention(is_fused=options.fused):
        for step in range(options.steps):
            _train(stepper, updater, c, step)
    peak = mx.get_peak_memory() - before
    del model, updater, stepper
    gc.collect()
    mx.clear_cache()
    return peak


def _train(stepper: LayerStep, updater: Updater, c: Configuration, step: int) -> None:
    import numpy as np

    from engine.step import run_step

    rows = c.micro * c.parts
    rng = np.random.default_rng(step)
    tokens = rng.integers(0, stepper.parts.vocabulary, (rows, c.length + 1)).astype(np.int32)
    trained = np.ones((rows, c.length), np.bool_)
    gradients: dict[str, mx.array] = {}
    run_step(stepper, tokens, trained, gradients, _Steady(c.micro), [c.length], 0, step)
    updater.apply(gradients, trained.size)


@contextlib.contextmanager
def _attention(*, is_fused: bool) -> Generator[None]:
    """Unless it is to be fused, what Metal computes while training."""
    import mlx.core as mx

    from tests.bench.step import unfused_attention

    original = mx.fast.scaled_dot_product_attention
    if not is_fused:
        mx.fast.scaled_dot_product_attention = unfused_attention
    try:
        yield
    finally:
        mx.fast.scaled_dot_product_attention = original


class _Steady:
    """Never stops a step and never changes the micro-batch."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def should_stop(self) -> bool:
        return False

    def micro_batch(self) -> int:
        return self._rows


def _line(row: dict[str, Any]) -> str:
    bits = f"{row['bits']}-bit" if row["bits"] else "whole"
    extra = f", dropout {row['dropout']}" if row["dropout"] else ""
    extra += f", {row['kind']}" if row["kind"] != "lora" else ""
    name = (
        f"{row['shape']} {bits}, rank {row['rank']}, "
        f"{row['parts']} × {row['micro']} × {row['length']}{extra}"
    )
    beyond = [row["planned"] - row["stored"], row["measured"] - row["stored"]]
    cells = (
        name,
        f"{row['planned'] / 1e9:.3f}",
        f"{row['measured'] / 1e9:.3f}",
        f"{100 * row['error']:+.1f} %",
        " / ".join(f"{size / 1e9:.3f}" for size in beyond),
    )
    return f"| {' | '.join(cells)} |"


def _verdict(summary: dict[str, Any]) -> str:
    return (
        f"\n{summary['configurations']} configurations in {summary['seconds']:.0f} s "
        f"({summary['left_out']} left out): median error {100 * summary['median_error']:.1f} % "
        f"(bar {100 * MEDIAN_BAR:.0f} %), worst {100 * summary['worst_error']:+.1f} % "
        f"(bar {100 * WORST_BAR:.0f} %)"
    )


if __name__ == "__main__":
    main()
