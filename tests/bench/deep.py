"""Measures what a deep pause gives back, and what going on after it takes.

    uv run python -m tests.bench.deep [--shape qwen2.5-1.5b --batch 4 --length 2048]

Random weights. The same run is trained twice without a pause and twice with one, so that what the
pause changes in the adapters can be told from what two undisturbed runs differ in.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from engine import events as ev
from engine.config import RunConfig, load_config
from engine.guard import Pause
from engine.runs import RunDirectory
from engine.session import Session
from tests.bench.dashboard import make_run

PAUSE_AFTER = 4
STEPS = 8


class Steered(Session):
    """A run that can be told to pause as its guard would tell it."""

    def pause_deeply(self) -> None:
        """Give the base weights back too, after the step in flight."""
        self._mailbox.order(Pause("bench", is_deep=True))


def main() -> None:
    """Train four times, and print what the pauses did."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", default="tiny")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=128)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["LORA_TUI_HOME"] = str(folder / "home")
        lora = {"rank": 8, "scale": 2.0, "dropout": 0.05}
        path = make_run(folder, given, steps=STEPS)
        config = load_config(str(path), {"probe": False, "lora_parameters": lora})
        found = [
            train(config, folder / f"run{n}", pauses=pauses)
            for n, pauses in enumerate((False, True, False, True))
        ]
    print(f"two undisturbed runs agree to the byte: {found[0] == found[2]}")
    print(f"two runs with a deep pause agree to the byte: {found[1] == found[3]}")
    print(f"a run with and one without agree to the byte: {found[0] == found[1]}")


def train(config: RunConfig, folder: Path, *, pauses: bool) -> bytes:
    """Train, with a deep pause in the middle or without, and return the adapters' file."""
    session = Steered(config, RunDirectory(folder))
    session.start()
    seen, active, asked = 0, 0, 0.0
    while session.is_alive() or seen < len(session.events):
        count = session.wait_for_events(seen, 1.0)
        for event in session.events[seen:count]:
            match event:
                case ev.Step():
                    active = event.memory.active
                    if pauses and event.iteration == PAUSE_AFTER:
                        session.pause_deeply()
                case ev.Paused():
                    freed = (event.freed or 0) / 1e9
                    print(f"{freed:.2f} GB came back of {active / 1e9:.2f} in use")
                    asked = time.perf_counter()
                    session.resume()
                case ev.Resumed():
                    print(f"went on after {time.perf_counter() - asked:.2f} s", flush=True)
                case ev.Ended() if event.status != "completed":
                    raise SystemExit(f"{event.status}: {event.reason} {event.hint}")
                case _:
                    pass
        seen = count
    session.join()
    return (folder / "adapters" / "adapters.safetensors").read_bytes()


if __name__ == "__main__":
    main()
