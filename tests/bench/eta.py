"""Trains SmolLM2 on a CPU, with evaluations and checkpoints; compares forecasts with the clock.

    OPENBLAS_NUM_THREADS=1 uv run python -m tests.bench.eta

About four minutes. Errors are of what was left, from 5 % of the run on; the machine's other
programs are in them, unlike in the recording that ``tests/engine/test_eta.py`` replays.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from engine import events as ev
from engine.blas import preload_openblas
from engine.config import validate
from engine.runs import RunDirectory
from tests.data.record_steps import SETTINGS
from tests.smollm2.fixture import model_folder

FROM = 0.05


class Forecast(NamedTuple):
    """What was left at a moment, as foreseen."""

    time: float
    seconds: float
    low: float
    high: float


def main() -> None:
    """Train, and print the errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iters", type=int, default=80)
    options = parser.parse_args()
    preload_openblas()
    from engine.mailbox import Mailbox
    from engine.train import train

    config = validate(
        SETTINGS
        | {"model": str(model_folder()), "iters": options.iters}
        | {"steps_per_eval": 20, "save_every": 25}
    )
    forecasts: list[Forecast] = []
    probed: Forecast | None = None
    with tempfile.TemporaryDirectory() as folder:
        for event in train(config, RunDirectory(Path(folder) / "run"), Mailbox()):
            if not isinstance(event, ev.Probed | ev.Step) or event.eta_seconds is None:
                continue
            low, high = event.eta_low_seconds or 0.0, event.eta_high_seconds or 0.0
            forecast = Forecast(time.perf_counter(), event.eta_seconds, low, high)
            if isinstance(event, ev.Probed):
                probed = forecast
                print(f"probed: {event.peak / 1e9:.3f} GB, planned {event.planned / 1e9:.3f} GB")
            elif FROM * config.iters <= event.iteration < config.iters:
                forecasts.append(forecast)
        end = time.perf_counter()
    errors = [abs(f.seconds / (end - f.time) - 1) for f in forecasts]
    of_all = [abs(f.seconds - (end - f.time)) / (end - forecasts[0].time) for f in forecasts]
    held = statistics.fmean(f.low <= end - f.time <= f.high for f in forecasts)
    if probed:
        left = end - probed.time
        print(
            f"the probe foresaw {probed.seconds:.0f} s ({probed.low:.0f}-{probed.high:.0f})", end=""
        )
        print(f", it took {left:.0f} s with the first evaluation")
    print(f"{len(forecasts)} forecasts over {end - forecasts[0].time:.0f} s")
    print(f"of what was left: median {statistics.median(errors):.1%}, worst {max(errors):.1%}")
    print(f"of the whole run: median {statistics.median(of_all):.1%}, worst {max(of_all):.1%}")
    print(f"in their range: {held:.0%}")


if __name__ == "__main__":
    main()
