"""Measures the dashboard's bars: what it costs training, how soon it answers, what it takes.

    uv run python -m tests.bench.dashboard repaint
    uv run python -m tests.bench.dashboard cpu
    uv run python -m tests.bench.dashboard paint
    uv run python -m tests.bench.dashboard keys
    uv run python -m tests.bench.dashboard speed [--shape qwen2.5-1.5b --batch 4 --length 2048]

``speed`` trains the same run with and without the dashboard, in turns, so that whatever else the
machine does falls on both. With a shape of ``tests/bench/shapes.py`` its weights are random.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import yaml

from tests.cli.program import environment
from tests.e2e.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = [sys.executable, "-m", "tui"]
DEMO = Path(__file__).parents[2] / "presets" / "demo"
PATIENCE = 900.0
SIZE = (200, 60)
HISTORY = 1_000_000
FIRST_STEPS = 5
"""Steps not counted: what is made at first."""
BARS = {"repaint": 0.030, "idle": 0.005, "training": 0.04, "paint": 0.6, "keys": 0.1}


def main() -> None:
    """Measure what was asked for, and print a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("repaint", "cpu", "paint", "keys", "speed"))
    parser.add_argument("--shape", default="tiny")
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--tries", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long cpu watches")
    given = parser.parse_args()
    measures: dict[str, Callable[[argparse.Namespace], None]] = {
        "repaint": lambda _: asyncio.run(repaint()),
        "cpu": cpu,
        "paint": paint,
        "keys": keys,
        "speed": speed,
    }
    measures[given.what](given)


async def repaint() -> None:
    """Draw every pane and every row anew, with a million steps behind it."""
    from tests.tui.conftest import app_for, watched
    from tests.tui.scripted import trained

    run = trained(2000, HISTORY)
    app = app_for(run)
    async with watched(app, SIZE) as seen:
        await seen.look()
        steps = app.run_watch.whole.steps if app.run_watch else None
        assert steps is not None
        _lengthen(steps, HISTORY)
        loss = seen.dashboard.loss
        tracemalloc.start()
        began = time.perf_counter()
        seen.dashboard.draw()
        first = time.perf_counter() - began
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        views = {"whole run": 0, "closer": 4, "closest": 12}
        print(f"a million steps taken in after {1000 * first:.0f} ms (traced); {held:,} bytes held")
        for name, levels in views.items():
            loss.show_whole()
            loss.zoom_in(levels)
            seconds = [_paint_all(seen) for _ in range(20)]
            _say(f"repaint at 200×60, {name}", statistics.median(seconds), BARS["repaint"])


def _lengthen(steps: Any, length: int) -> None:
    draw = random.Random(3)
    while len(steps) < length:
        many = min(len(steps), length - len(steps))
        begin = steps.iteration[-1]
        steps.iteration.extend(range(begin + 1, begin + 1 + many))
        steps.tokens.extend(steps.tokens[-1] + 3840 * (i + 1) for i in range(many))
        for column in (steps.loss, steps.learning_rate, steps.gradient_norm, steps.seconds):
            column.extend(column[:many])
        steps.time.extend(steps.time[-1] + 2.0 * (i + 1) for i in range(many))
    steps.loss[draw.randrange(length)] = 60.0


def _paint_all(seen: Any) -> float:
    """Forget every picture, draw all of them, and give the whole screen as text."""
    board = seen.dashboard
    began = time.perf_counter()
    for pane in board.query("Pane"):
        pane._drawn_for = ()
        pane._frame = ()
    board.draw()
    screen = seen.app.screen
    update = screen._compositor.render_update(full=True)
    update.render_segments(seen.app.console)
    return time.perf_counter() - began


def cpu(given: argparse.Namespace) -> None:
    """Watch the dashboard of a scripted run, which itself costs next to nothing."""
    play = [sys.executable, "-m", "tests.tui.play", "--iterations", "100000"]
    cases = (("training", "3.3", ""), ("idle", "0.5", " "))
    with tempfile.TemporaryDirectory() as home:
        for name, rate, key in cases:
            command = [*play, "--speed", rate, "--head-start", "5000", "--stage", "0.01"]
            with Screen(command, environment(Path(home)), (120, 40)) as screen:
                screen.wait_for("epoch", PATIENCE)
                screen.press(key, after=3.0)
                screen.press("", after=3.0)
                process = psutil.Process(screen.process.pid)
                before, began = _cpu_seconds(process), time.perf_counter()
                screen.press("", after=given.seconds)
                spent = _cpu_seconds(process) - before
                share = spent / (time.perf_counter() - began)
                verdict = "ok" if share <= BARS[name] else "MISSED"
                print(
                    f"{name}: {100 * share:.2f} % of a core (bar {100 * BARS[name]:g} %) {verdict}"
                )


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def paint(given: argparse.Namespace) -> None:
    """Start the program, home and a run, and wait for the first frame."""
    with tempfile.TemporaryDirectory() as home:
        cases: tuple[tuple[str, list[str], str], ...] = (
            ("home", [], "quit"),
            ("demo", ["demo"], "checkpoints"),
        )
        for name, arguments, words in cases:
            seconds: list[float] = []
            for _ in range(given.tries):
                with Screen([*PROGRAM, *arguments], environment(Path(home))) as screen:
                    at = screen.wait_for(words, PATIENCE)
                    seconds.append(at - screen.started)
            _say(f"first paint of {name}, best of {len(seconds)}", min(seconds), BARS["paint"])
            print(f"  median {1000 * statistics.median(seconds):.0f} ms")


def keys(given: argparse.Namespace) -> None:
    """Press every key of the curve and of help while a run trains."""
    from tests.e2e.test_speed import key_seconds, percentile

    with tempfile.TemporaryDirectory() as folder:
        config = make_run(Path(folder), given, steps=1_000_000)
        command = [*PROGRAM, "run", str(config), "--yes", "--run-dir", f"{folder}/run"]
        with Screen(command, environment(Path(folder)), (120, 40)) as screen:
            screen.wait_for("by iterations", PATIENCE)
            seconds = key_seconds(screen)
            half, most = percentile(seconds, 50), percentile(seconds, 99)
            print(f"{len(seconds)} keys: half within {1000 * half:.0f} ms")
            _say("key to visible answer, p99", most, BARS["keys"])


def speed(given: argparse.Namespace) -> None:
    """Train the same with and without the dashboard, in turns."""
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        config = make_run(Path(folder), given, steps=given.steps)
        train(Path(folder), config, has_dashboard=False)
        for pair in range(given.pairs):
            order = (True, False) if pair % 2 else (False, True)
            seconds = {shown: train(Path(folder), config, has_dashboard=shown) for shown in order}
            ratios.append(seconds[False] / seconds[True])
            print(
                f"pair {pair + 1}: plain {seconds[False]:.4f} s a step, "
                f"dashboard {seconds[True]:.4f} s, ratio {ratios[-1]:.4f}",
                flush=True,
            )
    print(f"{given.shape}: median ratio {statistics.median(ratios):.4f} of {len(ratios)} pairs")


def train(folder: Path, config: Path, *, has_dashboard: bool) -> float:
    """Train to the end, and give the seconds of a step: the lower quartile, the machine at rest."""
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    command = [*PROGRAM, "run", str(config), "--yes", "--run-dir", str(run)]
    surroundings = environment(folder)
    # As a person starts it: the program chooses the threads of arithmetic.
    del surroundings["OPENBLAS_NUM_THREADS"]
    # Where MLX lies beside the interpreter, as on a lent GPU machine.
    if path := os.environ.get("PYTHONPATH"):
        surroundings["PYTHONPATH"] += f"{os.pathsep}{path}"
    if has_dashboard:
        with Screen(command, surroundings, (120, 40)) as screen:
            screen.wait_for("✓ completed", PATIENCE)
            screen.press("q")
            assert screen.end(PATIENCE) == 0
    else:
        done = subprocess.run(
            [*command, "--plain"], env=surroundings, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
    return statistics.quantiles(list(_step_seconds(run))[FIRST_STEPS:], n=4)[0]


def _step_seconds(run: Path) -> Iterator[float]:
    for row in (run / "events.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(row)
        if event["event"] == "step":
            yield event["seconds"]


def make_run(folder: Path, given: argparse.Namespace, *, steps: int) -> Path:
    """Write a model of random weights, rows as long as asked, and a configuration."""
    model, data = folder / "model", folder / "data"
    made = subprocess.run(
        [sys.executable, "-m", "tests.bench.random_model", given.shape, str(model)],
        check=False, capture_output=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr.decode()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / "model" / file, model / file)
    data.mkdir()
    draw = random.Random(1)
    words = (DEMO / "data" / "train.jsonl").read_text(encoding="utf-8").split()
    for split, rows in (("train", 8 * given.batch), ("valid", given.batch)):
        texts = (" ".join(draw.choices(words, k=2 * given.length)) for _ in range(rows))
        lines = "".join(f"{json.dumps({'text': text})}\n" for text in texts)
        (data / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    values = {
        "model": str(model), "data": str(data), "iters": steps, "batch_size": given.batch,
        "max_seq_length": given.length, "val_batches": 0, "save_every": 10_000_000,
        "num_layers": -1, "lora_parameters": {"rank": 8, "scale": 2.0, "dropout": 0.0},
        "micro_batch_size": given.batch,
    }  # fmt: skip
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def _say(what: str, seconds: float, bar: float) -> None:
    verdict = "ok" if seconds <= bar else "MISSED"
    print(f"{what}: {1000 * seconds:.1f} ms (bar {1000 * bar:.0f} ms) {verdict}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TZ", "UTC")
    main()
