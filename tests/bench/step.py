"""Measures a training step: ours beside stock ``mlx_lm.tuner.trainer``, in one run.

    uv run python -m tests.bench.step --shape qwen2.5-1.5b --micro 1

Every measurement is a process of its own, one after the other, with random weights.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Any

WHO = ("ours", "stock", "stock-checkpoint")
LONG_FLAGS = {"unfused": "unfused attention, as Metal trains"}


@dataclass(frozen=True)
class Case:
    """One thing to measure."""

    who: str
    shape: str
    batch: int
    length: int
    rank: int
    bits: int
    group_size: int
    dtype: str
    steps: int
    limit: float
    """GB; 0 means none."""
    micro: int
    chunk: int
    unfused: bool
    dora: bool
    score_mb: float
    kept_gb: float
    pipelined: bool
    stop: bool


def main() -> None:
    """Measure the cases asked for, and print them as a table or as JSON lines."""
    arguments = _parser().parse_args()
    if arguments.child:
        measured = _measure(Case(**json.loads(arguments.child)))
        print(json.dumps(measured), flush=True)
        return
    options = vars(arguments)
    options.pop("child")
    as_json, who = options.pop("json"), options.pop("who")
    rows: list[dict[str, Any]] = []
    for name in who.split(","):
        row = _run(Case(who=name, **options))
        rows.append(row)
        print(json.dumps(row) if as_json else _line(row), flush=True)
    ours, stock = (next((r for r in rows if r["who"] == w), {}) for w in ("ours", "stock"))
    if not as_json and ours.get("tokens_per_second") and stock.get("tokens_per_second"):
        print(
            f"ours / stock: {ours['tokens_per_second'] / stock['tokens_per_second']:.2f} × tokens/s"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--who", default=",".join(WHO), help="which to measure")
    parser.add_argument("--shape", default="smollm2-135m")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--bits", type=int, default=0)
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--limit", type=float, default=0.0, help="memory limit in GB")
    parser.add_argument("--micro", type=int, default=0, help="rows at once (ours); 0: the batch")
    parser.add_argument(
        "--chunk", type=int, default=256, help="positions of the tail at once (ours)"
    )
    parser.add_argument(
        "--score-mb", type=float, default=16.0, help="attention block (ours, unfused)"
    )
    parser.add_argument(
        "--kept-gb", type=float, default=0.0, help="outputs kept, not recomputed (ours)"
    )
    parser.add_argument("--unfused", action="store_true", help=LONG_FLAGS["unfused"])
    parser.add_argument("--dora", action="store_true")
    parser.add_argument("--pipelined", type=int, default=1)
    parser.add_argument("--stop", action="store_true", help="also time a stop in mid-step (ours)")
    parser.add_argument("--json", action="store_true")
    return parser


def _run(case: Case) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.step", "--child", json.dumps(asdict(case))],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {**asdict(case), "error": done.stderr.strip()[-600:] or f"exit {done.returncode}"}
    return json.loads(lines[-1])


def _line(row: dict[str, Any]) -> str:
    name = f"{row['who']:17s} {row['shape']} {row['batch']}×{row['length']}"
    if "error" in row:
        return f"{name}  failed: {row['error'].splitlines()[-1]}"
    return (
        f"{name}  peak {row['peak'] / 1e9:6.2f} GB  {row['tokens_per_second']:9,.0f} tok/s"
        f"  compile {row['compile_seconds']:5.1f} s  loss {row['loss']:.4f}"
        + (f"  stop {100 * row['stop_share']:.1f} % of a step" if row.get("stop_share") else "")
    )


def _measure(case: Case) -> dict[str, Any]:
    from engine.blas import preload_openblas

    preload_openblas()
    import mlx.core as mx
    from mlx_lm.tuner.utils import linear_to_lora_layers

    from tests.bench.shapes import KEYS, build

    if mx.default_device().type == mx.DeviceType.cpu:
        mx.disable_compile()
    model = build(case.shape, getattr(mx, case.dtype), case.bits, case.group_size)
    parameters = {"rank": case.rank, "scale": 2.0, "dropout": 0.0, "keys": KEYS}
    linear_to_lora_layers(model, -1, parameters, use_dora=case.dora)
    mx.eval(model.parameters())
    model.train()
    mx.clear_cache()
    base = mx.get_active_memory()
    if case.limit:
        mx.set_memory_limit(int(case.limit * 1e9))
        mx.set_cache_limit(int(case.limit * 1e9) // 16)
    if case.unfused:
        mx.fast.scaled_dot_product_attention = unfused_attention
    mx.reset_peak_memory()
    result = (_ours if case.who == "ours" else _stock)(case, model)
    seconds = result.pop("seconds")
    steady = statistics.median(seconds[2:] or seconds[1:])
    tokens = case.batch * case.length
    return {
        **asdict(case),
        "base": base,
        "peak": mx.get_peak_memory(),
        "tokens_per_second": tokens / steady,
        "step_seconds": steady,
        "compile_seconds": seconds[0] - steady,
        **result,
    }


def _rows(case: Case, count: int) -> Any:
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.integers(0, 49152, (count, case.length + 1)).astype(np.int32)


class _Control:
    """Asks for a stop at a moment of the bench's choosing."""

    def __init__(self, micro: int) -> None:
        self._micro = micro
        self.stop_at = float("inf")
        self.asked_at: float | None = None

    def should_stop(self) -> bool:
        now = time.perf_counter()
        if now < self.stop_at:
            return False
        self.asked_at = self.asked_at or self.stop_at
        return True

    def micro_batch(self) -> int:
        return self._micro


def _ours(case: Case, model: Any) -> dict[str, Any]:
    import mlx.core as mx
    import numpy as np

    from engine.config import RunConfig
    from engine.layers import StepSettings
    from engine.optimizer import Updater
    from engine.parts import Parts
    from engine.step import LayerStep, StepInterrupted, run_step

    on_cpu = mx.default_device().type == mx.DeviceType.cpu
    settings = StepSettings(
        tail_chunk=case.chunk,
        compiled=not on_cpu,
        pipelined=bool(case.pipelined),
        score_bytes=int(case.score_mb * 1e6) if case.unfused else None,
        kept_bytes=int(case.kept_gb * 1e9),
    )
    stepper = LayerStep(Parts(model), settings)
    updater = Updater(
        model, RunConfig(optimizer="adamw", learning_rate=1e-5), is_compiled=not on_cpu
    )
    control = _Control(case.micro or case.batch)
    rows = _rows(case, case.batch * case.steps)
    trained = np.ones((case.batch, case.length), np.bool_)
    seconds: list[float] = []
    updating: list[float] = []
    loss = 0.0
    for step in range(case.steps):
        began = time.perf_counter()
        batch = rows[step * case.batch : (step + 1) * case.batch]
        gradients: dict[str, mx.array] = {}
        loss = run_step(stepper, batch, trained, gradients, control, [case.length], 0, step)
        stepped = time.perf_counter()
        updater.apply(gradients, batch.shape[0] * case.length)
        updating.append(time.perf_counter() - stepped)
        seconds.append(time.perf_counter() - began)
    result: dict[str, Any] = {
        "seconds": seconds,
        "loss": loss / trained.size,
        "update_seconds": statistics.median(updating[1:]),
    }
    if case.stop:
        steady = statistics.median(seconds[1:])
        shares: list[float] = []
        for moment in np.linspace(0.05, 0.9, 18):
            control.stop_at = time.perf_counter() + moment * steady
            with contextlib.suppress(StepInterrupted):
                run_step(stepper, rows[: case.batch], trained, {}, control, [case.length], 0, 0)
            mx.synchronize()
            shares.append((time.perf_counter() - control.stop_at) / steady)
        result["stop_share"] = max(shares)
    return result


def _stock(case: Case, model: Any) -> dict[str, Any]:
    import mlx.optimizers as optim
    from mlx_lm.tuner.callbacks import TrainingCallback
    from mlx_lm.tuner.trainer import TrainingArgs, train

    losses: list[float] = []
    times: list[float] = [time.perf_counter()]

    class Clock(TrainingCallback):
        def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
            times.append(time.perf_counter())
            losses.append(train_info["train_loss"])

    rows = [(row.tolist(), 0) for row in _rows(case, case.batch * case.steps)]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        train(
            model,
            optim.AdamW(learning_rate=1e-5),
            rows,
            args=TrainingArgs(
                batch_size=case.batch,
                iters=case.steps,
                steps_per_report=1,
                steps_per_save=10**9,
                max_seq_length=case.length + 1,
                adapter_file=f"{folder}/adapters.safetensors",
                grad_checkpoint=case.who == "stock-checkpoint",
            ),
            training_callback=Clock(),
        )
    seconds = [after - before for before, after in itertools.pairwise(times)]
    return {"seconds": seconds, "loss": losses[-1]}


def unfused_attention(
    q: Any, k: Any, v: Any, *, scale: float, mask: Any = None, sinks: Any = None
) -> Any:
    """MLX's own fallback: what Metal computes while training."""
    import mlx.core as mx

    del sinks
    rows, heads, queries, width = q.shape
    groups = k.shape[1]
    q = (q * scale).reshape(rows, groups, heads // groups, queries, width)
    scores = q @ k[:, :, None].swapaxes(-1, -2)
    if isinstance(mask, str):
        mask = mx.arange(queries)[:, None] >= mx.arange(k.shape[2])[None]
    if mask is not None:
        scores = mx.where(mask, scores, mx.finfo(scores.dtype).min)
    weights = mx.softmax(scores, axis=-1, precise=True)
    return (weights @ v[:, :, None]).reshape(rows, heads, queries, v.shape[-1])


if __name__ == "__main__":
    main()
