"""Measures rows a second on real chats of mixed lengths: ours beside stock mlx-lm's trainer.

    uv run python -m tests.bench.rows --threads 1,2

SmolLM2-135M in float32 on a CPU, rank 8 on all seven modules of all layers. All train on the same
rows in one process, turn by turn: ours in its plan's batches, stock in those that it makes itself.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.prepare import Prepared

CHATS = Path(__file__).resolve().parents[1] / "data" / "chat"
OURS, STOCK = "ours", "stock"
COMPILED = "compiled"
WHO = ("ours-4", "ours-1", "stock", "stock-compiled")
STOP_MOMENTS = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8)
"""Shares of a step after which a stop is asked for."""


@dataclass(frozen=True)
class Options:
    """What to measure."""

    who: tuple[str, ...] = WHO
    batch: int = 4
    rank: int = 8
    batches: int = 6
    """Batches of the plan, spread over its widths, whose rows everybody trains on."""
    rounds: int = 2
    budget_gb: float = 16.0
    chunk: int = 512
    stop: bool = False


class Contestant(Protocol):
    """Trains on the chosen rows."""

    def train(self, steps: int) -> Clock:
        """Train this many batches, and time them."""
        ...


@dataclass
class Clock:
    """Times one contestant's steps."""

    marks: list[float] = field(default_factory=list[float])
    cpu_marks: list[float] = field(default_factory=list[float])

    def mark(self) -> None:
        """Note that a step is done, or that the first begins."""
        self.marks.append(time.perf_counter())
        self.cpu_marks.append(time.process_time())

    @property
    def seconds(self) -> float:
        """What all steps took."""
        return self.marks[-1] - self.marks[0]

    @property
    def cpu_seconds(self) -> float:
        """What all threads worked: says more than the clock where others use the machine too."""
        return self.cpu_marks[-1] - self.cpu_marks[0]


def main() -> None:
    """Measure with each number of threads, and print a table or JSON lines."""
    given: dict[str, Any] = vars(_parser().parse_args())
    child, threads, as_json = (given.pop(name) for name in ("child", "threads", "json"))
    if child:
        options = json.loads(child)
        print(json.dumps(_measure(Options(**options | {"who": tuple(options["who"])}))))
        return
    given["who"] = tuple(given["who"].split(","))
    options = Options(**given)
    for count in threads.split(","):
        measured = _run(options, count)
        print(json.dumps(measured) if as_json else _table(measured), flush=True)


def _parser() -> argparse.ArgumentParser:
    default = Options()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument(
        "--who",
        default=",".join(WHO),
        help="ours-N (N rows at once) and stock; either with -compiled at its end",
    )
    parser.add_argument("--threads", default="1,2", help="numbers of OpenBLAS threads")
    parser.add_argument("--batch", type=int, default=default.batch)
    parser.add_argument("--rank", type=int, default=default.rank)
    parser.add_argument("--batches", type=int, default=default.batches)
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--budget-gb", type=float, default=default.budget_gb)
    parser.add_argument("--chunk", type=int, default=default.chunk, help="tail_chunk (ours)")
    parser.add_argument("--stop", action="store_true", help="also time a stop in mid-step (ours)")
    parser.add_argument("--json", action="store_true")
    return parser


def _run(options: Options, threads: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.rows", "--child", json.dumps(asdict(options))],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": threads},
    )
    return {"threads": int(threads), **json.loads(done.stdout.splitlines()[-1])}


def _table(measured: dict[str, Any]) -> str:
    widths = ", ".join(str(width) for width in measured["widths"])
    lines = [
        f"OpenBLAS threads: {measured['threads']}; rows: {measured['rows']} with "
        f"{measured['tokens']:,} tokens; batches of widths {widths}"
    ]
    for name, one in measured["measured"].items():
        cells = [
            f"  {name:15s}",
            f"{one['rows_per_second']:6.3f} rows/s",
            f"{one['cpu_seconds_a_row']:6.2f} CPU s a row",
        ]
        if "ratio" in one:
            cells.append(f"{one['ratio']:.2f} × stock ({one['cpu_ratio']:.2f} × by CPU time)")
        if "stop_share" in one:
            cells.append(f"stop within {100 * one['stop_share']:.1f} % of a step")
        lines.append("  ".join(cells))
    return "\n".join(lines)


def _measure(options: Options) -> dict[str, Any]:
    from engine.blas import preload_openblas

    preload_openblas()
    import mlx.core as mx

    from engine.prepare import memory_limits

    first = _prepare(options)
    chosen = _spread(first, options.batches)
    rows = sorted(int(row) for row in first.plan.rows[chosen].reshape(-1))
    contestants: dict[str, Contestant] = {}
    for name in options.who:
        contestants[name] = (
            _Ours(_prepare(options), chosen, int(name.split("-")[1]))
            if name.startswith(OURS)
            else _Stock(options, [int(first.train.lines[row]) for row in rows])
        )
    clocks: dict[str, list[Clock]] = {name: [] for name in options.who}
    with memory_limits(first.budget_bytes):
        for name, contestant in contestants.items():
            _choose_compile(name)
            contestant.train(1)
        for number in range(options.rounds):
            for name in options.who if number % 2 == 0 else reversed(options.who):
                _choose_compile(name)
                mx.clear_cache()
                clocks[name].append(contestants[name].train(len(chosen)))
        found = {name: _sum_up(clocks[name], len(rows)) for name in options.who}
        _compare(found)
        for name, contestant in contestants.items():
            if options.stop and isinstance(contestant, _Ours):
                _choose_compile(name)
                found[name]["stop_share"] = contestant.stop_share(chosen[len(chosen) // 2])
    return {
        **asdict(options),
        "rows": len(rows),
        "tokens": int(first.train.lengths[rows].sum()),
        "widths": [int(first.plan.width[batch]) for batch in chosen],
        "measured": found,
    }


def _choose_compile(name: str) -> None:
    """On a CPU, compiling calls the system's compiler; both ways are measured."""
    import mlx.core as mx

    if name.endswith(COMPILED):
        mx.enable_compile()
    else:
        mx.disable_compile()


def _sum_up(clocks: Sequence[Clock], rows: int) -> dict[str, Any]:
    seconds = [clock.seconds for clock in clocks]
    cpu_seconds = [clock.cpu_seconds for clock in clocks]
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "rows_per_second": rows / statistics.median(seconds),
        "cpu_seconds_a_row": statistics.median(cpu_seconds) / rows,
    }


def _compare(found: dict[str, dict[str, Any]]) -> None:
    """Set ours against the better of stock's figures, round by round."""
    stock = [one for name, one in found.items() if name.startswith(STOCK)]
    if not stock:
        return
    for name, one in found.items():
        if name.startswith(OURS):
            for ratio, key in (("ratio", "seconds"), ("cpu_ratio", "cpu_seconds")):
                best = min(stock, key=lambda other: statistics.median(other[key]))
                pairs = zip(best[key], one[key], strict=True)
                one[ratio] = statistics.median(theirs / ours for theirs, ours in pairs)


def _prepare(options: Options) -> Prepared:
    """Load the model and plan an epoch, as a run does."""
    from engine.config import LoraParameters, RunConfig
    from engine.prepare import prepare
    from tests.smollm2.fixture import model_folder

    rows = len((CHATS / "train.jsonl").read_text(encoding="utf-8").splitlines())
    config = RunConfig(
        model=str(model_folder()),
        data=str(CHATS),
        batch_size=options.batch,
        iters=rows // options.batch,
        num_layers=-1,
        lora_parameters=LoraParameters(rank=options.rank, scale=20.0),
        val_batches=0,
        memory_budget_bytes=int(options.budget_gb * 1e9),
        tail_chunk=options.chunk,
    )
    steps = prepare(config)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def _spread(prepared: Prepared, count: int) -> list[int]:
    """Choose batches of an epoch evenly over its widths."""
    import numpy as np

    by_width = np.argsort(prepared.plan.width, kind="stable")
    places = (np.arange(count) + 0.5) * len(by_width) / count
    return [int(batch) for batch in by_width[places.astype(int)]]


class _Ours:
    """The engine's step over batches of its plan."""

    def __init__(self, prepared: Prepared, chosen: Sequence[int], rows_at_once: int) -> None:
        from engine.step import LayerStep

        self._prepared = prepared
        self._chosen = chosen
        self._rows_at_once = rows_at_once
        self._stop_at = float("inf")
        if isinstance(prepared.stepper, LayerStep):
            self.method = prepared.stepper.method

    def should_stop(self) -> bool:
        return time.perf_counter() >= self._stop_at

    def micro_batch(self) -> int:
        return self._rows_at_once

    def train(self, steps: int) -> Clock:
        clock = Clock()
        clock.mark()
        for batch in self._chosen[:steps]:
            self._step(batch)
            clock.mark()
        return clock

    def stop_share(self, batch: int) -> float:
        """The longest from asking for a stop in mid-step to its end, as a share of a step."""
        from engine.step import StepInterrupted

        clock = Clock()
        for _ in range(2):
            clock.mark()
            self._step(batch)
        clock.mark()
        step = min(after - before for before, after in itertools.pairwise(clock.marks))
        late: list[float] = []
        for moment in STOP_MOMENTS:
            self._stop_at = time.perf_counter() + moment * step
            with contextlib.suppress(StepInterrupted):
                self._step(batch)
            late.append(time.perf_counter() - self._stop_at)
            self._stop_at = float("inf")
        return max(late) / step

    def _step(self, place: int) -> None:
        from engine.step import run_step

        prepared = self._prepared
        batch = prepared.plan.batch(place, prepared.train)
        gradients: dict[str, Any] = {}
        run_step(
            prepared.stepper,
            batch.tokens,
            batch.trained,
            gradients,
            self,
            prepared.plan.widths,
            prepared.config.seed,
            place + 1,
        )
        prepared.updater.apply(gradients, batch.trained_tokens)


class _Stock:
    """mlx-lm's trainer over the same rows, in the order of their file, as ``mlx_lm.lora`` does."""

    def __init__(self, options: Options, lines: Sequence[int]) -> None:
        import mlx.core as mx
        import mlx.optimizers as optim
        from mlx_lm import load
        from mlx_lm.tuner.datasets import CacheDataset, ChatDataset
        from mlx_lm.tuner.utils import linear_to_lora_layers

        from tests.smollm2.fixture import model_folder

        model, tokenizer = cast("tuple[Any, Any]", load(str(model_folder()))[:2])
        model.set_dtype(mx.float32)
        model.freeze()
        mx.random.seed(0)
        linear_to_lora_layers(
            model, len(model.layers), {"rank": options.rank, "scale": 20.0, "dropout": 0.0}
        )
        mx.eval(model.parameters())
        text = (CHATS / "train.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(text[line - 1]) for line in lines]
        self._dataset = CacheDataset(ChatDataset(rows, tokenizer))
        self._model = model
        self._optimizer = optim.Adam(learning_rate=1e-5)
        self._batch = options.batch

    def train(self, steps: int) -> Clock:
        from mlx_lm.tuner.callbacks import TrainingCallback
        from mlx_lm.tuner.trainer import TrainingArgs, train

        clock = Clock()

        class EachStep(TrainingCallback):
            def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
                del train_info
                clock.mark()

        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            arguments = TrainingArgs(
                batch_size=self._batch,
                iters=steps,
                steps_per_report=1,
                steps_per_save=10**9,
                adapter_file=f"{folder}/adapters.safetensors",
            )
            clock.mark()
            train(
                self._model,
                self._optimizer,
                self._dataset,
                args=arguments,
                training_callback=EachStep(),
            )
        return clock


if __name__ == "__main__":
    main()
