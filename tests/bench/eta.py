"""Trains with evaluations and checkpoints; compares what it foresaw with the clock.

    OPENBLAS_NUM_THREADS=1 uv run python -m tests.bench.eta
    uv run python -m tests.bench.eta --shape qwen2.5-1.5b --batch 4 --length 2048 --seconds 150

SmolLM2 on real chats for about four minutes; or on a GPU a shape of ``tests/bench/shapes.py`` with
random weights, on rows of mixed lengths, as many steps as fill the seconds. Errors are of what was
left, from 5 % of the run on; the machine's other programs are in them, unlike in the recording that
``tests/engine/test_eta.py`` replays.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine import events as ev
from engine.blas import preload_openblas
from engine.config import validate
from engine.runs import RunDirectory

if TYPE_CHECKING:
    from engine.config import RunConfig

FROM = 0.05
CALIBRATION_STEPS = 40
EVALUATIONS, CHECKPOINTS = 6, 5
"""How many a run of a shape has, about."""


class Forecast(NamedTuple):
    """What was left at a moment, as foreseen."""

    time: float
    seconds: float
    low: float
    high: float


@dataclass
class Watched:
    """A run's forecasts and how long its steps took."""

    forecasts: list[Forecast] = field(default_factory=list)
    probed: Forecast | None = None
    step_seconds: list[float] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    end: float = 0.0


@dataclass(frozen=True)
class Errors:
    """How far the forecasts were from the clock; shares, not per cent."""

    shape: str
    batch: int
    length: int
    iterations: int
    seconds: float
    """From the first forecast that counts to the end."""
    widths: int
    """Different sizes of step."""
    evaluations: int
    checkpoints: int
    forecasts: int
    median: float
    """Of what was left."""
    worst: float
    median_of_run: float
    worst_of_run: float
    in_range: float
    probe_seconds: float | None
    """What the probe foresaw; None without one."""
    probe_took: float | None


def main() -> None:
    """Train, and print the errors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--iters", type=int, help="80 of SmolLM2; of a shape, what --seconds says")
    parser.add_argument("--shape", default="", help="random weights in the shape of a known model")
    parser.add_argument("--batch", type=int, default=4, help="rows of a shape's step")
    parser.add_argument("--length", type=int, default=2048, help="tokens of a shape's longest row")
    parser.add_argument("--seconds", type=float, default=150.0, help="how long a shape trains")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    preload_openblas()
    with tempfile.TemporaryDirectory() as folder:
        config = _config(options, Path(folder))
        watched = _watch(config, Path(folder) / "run")
    errors = _errors(options, config, watched)
    print(json.dumps(asdict(errors)) if options.json else "\n".join(_lines(errors)))


def _config(options: argparse.Namespace, folder: Path) -> RunConfig:
    if not options.shape:
        # Imported here: where a shape is measured, there may be neither pytest nor SmolLM2.
        from tests.data.record_steps import SETTINGS
        from tests.smollm2.fixture import model_folder

        iterations = options.iters or 80
        values = SETTINGS | {"model": str(model_folder()), "iters": iterations}
        return validate(values | {"steps_per_eval": 20, "save_every": 25})
    values = _shape_settings(options, folder)
    iterations = options.iters or _iterations(options, values, folder / "calibration")
    return validate(
        values
        | {"iters": iterations}
        | {"steps_per_eval": -(-iterations // EVALUATIONS)}
        | {"save_every": -(-iterations // CHECKPOINTS)}
    )


def _shape_settings(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """As the preset ``maximum`` trains, but with more updates, so that some fall into a minute."""
    from tests.bench.random_run import write_mixed_rows, write_model
    from tests.bench.shapes import KEYS

    write_model(options.shape, folder / "model")
    write_mixed_rows(folder / "data", options.length)
    return {
        "model": str(folder / "model"),
        "data": str(folder / "data"),
        "batch_size": options.batch,
        "max_seq_length": options.length,
        "num_layers": -1,
        "optimizer": "adamw",
        "learning_rate": 1e-5,
        "lora_parameters": {"rank": 32, "scale": 2.0, "dropout": 0.05, "keys": KEYS},
        "grad_accumulation_steps": 4,
        "val_batches": 10,
    }


def _iterations(options: argparse.Namespace, values: dict[str, Any], run: Path) -> int:
    """How many steps fill the seconds, from some that are trained for it."""
    few = {"iters": CALIBRATION_STEPS, "val_batches": 0, "probe": False}
    watched = _watch(validate(values | few), run)
    pairs = zip(watched.step_seconds, watched.positions, strict=True)
    # Half of them compiled a new width.
    each = statistics.median(seconds / positions for seconds, positions in pairs)
    fitting = options.seconds / each / statistics.fmean(watched.positions)
    return max(CALIBRATION_STEPS, round(fitting))


def _watch(config: RunConfig, run: Path) -> Watched:
    from engine.session import Session

    session = Session(config, RunDirectory(run))
    session.start()
    found, seen = Watched(), 0
    while session.is_alive() or seen < len(session.events):
        count = session.wait_for_events(seen, 1.0)
        for event in session.events[seen:count]:
            _note(event, config, found)
        seen = count
    session.join()
    return found


def _note(event: ev.Event, config: RunConfig, found: Watched) -> None:
    found.kinds.append(event.kind)
    if isinstance(event, ev.Ended):
        found.end = event.time
        if event.status != "completed":
            raise SystemExit(f"{event.status}: {event.reason} {event.hint}")
    if isinstance(event, ev.Step):
        found.step_seconds.append(event.seconds)
        found.positions.append(event.width * config.batch_size)
    if not isinstance(event, ev.Probed | ev.Step) or event.eta_seconds is None:
        return
    low, high = event.eta_low_seconds or 0.0, event.eta_high_seconds or 0.0
    forecast = Forecast(event.time, event.eta_seconds, low, high)
    if isinstance(event, ev.Probed):
        found.probed = forecast
        peak, planned = event.peak / 1e9, event.planned / 1e9
        print(f"probed: {peak:.3f} GB, planned {planned:.3f} GB", file=sys.stderr)
    elif FROM * config.iters <= event.iteration < config.iters:
        found.forecasts.append(forecast)


def _errors(options: argparse.Namespace, config: RunConfig, watched: Watched) -> Errors:
    forecasts, end, probed = watched.forecasts, watched.end, watched.probed
    run_seconds = end - forecasts[0].time
    of_left = [abs(f.seconds / (end - f.time) - 1) for f in forecasts]
    of_run = [abs(f.seconds - (end - f.time)) / run_seconds for f in forecasts]
    return Errors(
        shape=options.shape or "SmolLM2",
        batch=config.batch_size,
        length=config.max_seq_length,
        iterations=config.iters,
        seconds=run_seconds,
        widths=len(set(watched.positions)),
        evaluations=watched.kinds.count(ev.Evaluated.kind),
        checkpoints=watched.kinds.count(ev.CheckpointSaved.kind),
        forecasts=len(forecasts),
        median=statistics.median(of_left),
        worst=max(of_left),
        median_of_run=statistics.median(of_run),
        worst_of_run=max(of_run),
        in_range=statistics.fmean(f.low <= end - f.time <= f.high for f in forecasts),
        probe_seconds=probed.seconds if probed else None,
        probe_took=end - probed.time if probed else None,
    )


def _lines(errors: Errors) -> list[str]:
    lines = [
        f"{errors.shape}, {errors.batch} × {errors.length}: {errors.iterations:,} steps of "
        f"{errors.widths} sizes; {errors.evaluations} evaluations, {errors.checkpoints} saved",
        f"{errors.forecasts:,} forecasts over {errors.seconds:.0f} s",
        f"of what was left: median {errors.median:.1%}, worst {errors.worst:.1%}",
        f"of the whole run: median {errors.median_of_run:.1%}, worst {errors.worst_of_run:.1%}",
        f"in their range: {errors.in_range:.0%}",
    ]
    if errors.probe_seconds is not None:
        lines.append(
            f"the probe foresaw {errors.probe_seconds:.0f} s, it took {errors.probe_took:.0f} s "
            "with the first evaluation"
        )
    return lines


if __name__ == "__main__":
    main()
