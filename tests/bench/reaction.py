"""Measures how soon a run does what its guard orders: SmolLM2 on a machine that runs short.

    uv run python -m tests.bench.reaction

The machine's samples are scripted: green, at a random moment yellow until the run stands still,
then green again. Each order's time is that of the sample it follows from; an action has taken
effect when its memory is given back. A layer is a step's time by the layers it passes, thrice each.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import events as ev
from engine import session as session_module
from engine.config import validate
from engine.guard import Warn
from engine.runs import RunDirectory
from engine.session import Session
from tests.engine.guard_world import CALM
from tests.engine.workshop import PATIENCE, wait_for_kind
from tests.smollm2.fixture import model_folder

if TYPE_CHECKING:
    from engine.config import RunConfig
    from engine.guard import Action

LAYERS = 30
SETTINGS: dict[str, Any] = {
    "data": str(Path(__file__).parents[1] / "data/chat"),
    "batch_size": 4,
    "micro_batch_size": 4,
    "iters": 1000,
    "num_layers": -1,
    "optimizer": "adamw",
    "lora_parameters": {"rank": 8, "scale": 4.0, "dropout": 0.0},
    "val_batches": 0,
    "memory_budget_bytes": 8_000_000_000,
    "yellow_seconds": 0,
    "grace_seconds": 0,
}


class Machine:
    """A host whose pressure the bench turns."""

    def __init__(self) -> None:
        self.pressure: Any = "green"
        self.sampled = 0.0

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sample(self) -> Any:
        self.sampled = time.time()
        return replace(CALM, time=self.sampled, pressure=self.pressure)


class Watched(Session):
    """A run that notes the sample that each action of its guard follows from."""

    def __init__(self, config: RunConfig, directory: RunDirectory, machine: Machine) -> None:
        super().__init__(config, directory)
        self.machine = machine
        self.ordered: list[float] = []
        """When the machine was looked at, for every action but warnings."""

    def _order(self, action: Action, iteration: int) -> None:
        if not isinstance(action, Warn):
            self.ordered.append(self.machine.sampled)
        super()._order(action, iteration)


def main() -> None:
    """Run the trials, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--width", type=int, default=392)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    session_module.HOST_SECONDS = 1.0
    with tempfile.TemporaryDirectory() as folder:
        found = [trial(Path(folder), n, options.width) for n in range(options.trials)]
    rows = [row for one in found for row in one]
    if options.json:
        print(json.dumps(rows))
        return
    print("| action | times | median s | worst s | worst step before, s | worst layer, s |")
    print("|---|---|---|---|---|---|")
    for action in ("shrink", "pause"):
        mine = [row for row in rows if row["action"] == action]
        seconds = [row["seconds"] for row in mine]
        print(
            f"| {action} | {len(mine)} | {statistics.median(seconds):.2f} | {max(seconds):.2f} "
            f"| {max(row['step'] for row in mine):.1f} | {max(row['layer'] for row in mine):.2f} |"
        )


def trial(folder: Path, number: int, width: int) -> list[dict[str, Any]]:
    """Let one run meet yellow at a random moment of a step, and return what each action took."""
    machine = Machine()
    session_module.open_host = lambda _: machine  # pyright: ignore[reportAttributeAccessIssue]
    config = validate(SETTINGS | {"model": str(model_folder()), "max_seq_length": width})
    session = Watched(config, RunDirectory(folder / f"run{number}"), machine)
    session.start()
    step = wait_for_kind(session, ev.Step)[0]
    time.sleep(random.Random(number).random() * step.seconds)
    machine.pressure = "yellow"
    wait_for_kind(session, ev.Paused)
    session.stop()
    session.join(PATIENCE)
    done = [event for event in session.events if isinstance(event, ev.Guard)]
    return [
        {
            "action": event.action,
            "seconds": event.time - sampled,
            "step": step.seconds,
            "layer": step.seconds / (3 * LAYERS),
        }
        for event, sampled in zip(done, session.ordered, strict=True)
    ]


if __name__ == "__main__":
    main()
