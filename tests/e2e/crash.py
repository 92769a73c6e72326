"""Kills runs at random moments, resumes them, and compares what they end with, byte for byte.

    uv run python -m tests.e2e.crash --kills 200 --signals 20

A run that is killed has no time for anything; one that gets SIGTERM, SIGHUP or SIGINT, or loses its
terminal, saves first. Either way it must end like a run that was never interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.checkpoint import state_name
from engine.config import validate
from engine.journal import read_journal
from engine.lock import is_held
from engine.resume import Resume
from engine.runs import RunDirectory
from engine.view import RunView
from tests.cli.program import environment
from tests.e2e.window import Window
from tests.tiny import make_tiny_data, make_tiny_model

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, ForkServerProcess

    from engine.config import RunConfig

PATIENCE = 120.0
LOOK_SECONDS = 0.002
LATE_SECONDS = 0.03
"""How long a run may go on after its last checkpoint appeared before it is killed at its end."""
COMPARED = (
    "adapters.safetensors",
    "best.safetensors",
    "{last}_adapters.safetensors",
    "{last}_state/optimizer.safetensors",
)
SETTINGS: dict[str, Any] = {
    "iters": 120,
    "on_hangup": "stop",
    "batch_size": 4,
    "learning_rate": 1e-3,
    "num_layers": -1,
    "steps_per_eval": 25,
    "save_every": 7,
    "keep_last": 2,
    "optimizer": "adamw",
    "grad_accumulation_steps": 4,
    "lora_parameters": {"rank": 4, "scale": 10.0, "dropout": 0.1},
}
SIGNALS = ("SIGTERM", "SIGHUP", "SIGINT")


@dataclass
class Tally:
    """What became of the interrupted runs."""

    identical: int = 0
    different: list[str] = field(default_factory=list[str])
    interrupted: int = 0
    """Runs that had not ended by themselves when they were interrupted."""

    @property
    def total(self) -> int:
        """All runs."""
        return self.identical + len(self.different)


class Yard:
    """A tiny model, data for it, and how a run ends that nobody disturbs."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self._model = make_tiny_model(folder / "model")
        self._data = make_tiny_data(folder / "data")
        # As for the command line's runs: with another number of threads the last digits differ.
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.e2e.preloaded"])
        self._count = 0
        whole = self.new()
        process = self.start(whole)
        self._wait_for(whole.journal_file, process)
        began = time.monotonic()
        process.join(PATIENCE)
        self.seconds = time.monotonic() - began
        """What a run takes from its first step to its end."""
        self._expected = self.result(whole)

    def config(self) -> RunConfig:
        """Return the settings of every run here."""
        return validate({"model": str(self._model), "data": str(self._data)} | SETTINGS)

    def config_file(self) -> Path:
        """Return the settings as a file."""
        from engine.config import dump

        path = self.folder / "crash.yaml"
        path.write_text(dump(self.config()), encoding="utf-8")
        return path

    def new(self) -> RunDirectory:
        """Return a place for a run."""
        self._count += 1
        return RunDirectory(self.folder / "runs" / f"{self._count:04d}")

    def start(self, run: RunDirectory, *, resume: bool = False) -> ForkServerProcess:
        """Train in a process of its own."""
        arguments = (self.config(), run.path, resume)
        process = self._context.Process(target=_train, args=arguments)
        process.start()
        return process

    def kill(self, run: RunDirectory, *, is_late: bool = False) -> bool:
        """Kill a run at a random moment, or in its last ones; return whether it still went on."""
        process = self.start(run)
        if is_late:
            self._wait_for(run.adapters / state_name(SETTINGS["iters"]), process)
            process.join(self.random.uniform(0, LATE_SECONDS))
        else:
            self._wait_for(run.journal_file, process)
            process.join(self.random.uniform(0, self.seconds))
        was_alive = process.is_alive()
        process.kill()
        process.join(PATIENCE)
        return was_alive

    def resume(self, run: RunDirectory) -> None:
        """Go on with a run, to its end."""
        process = self.start(run, resume=True)
        process.join(PATIENCE)

    def is_whole(self, run: RunDirectory) -> str:
        """Return what is different from a run that nobody disturbed, or nothing."""
        found = self.result(run)
        names = [name for name in self._expected if found.get(name) != self._expected[name]]
        return ", ".join(names)

    def result(self, run: RunDirectory) -> dict[str, str]:
        """Return checksums of what a run ended with, and of its curve."""
        last = f"{SETTINGS['iters']:07d}"
        paths = {name: run.adapters / name.format(last=last) for name in COMPARED}
        sums = {
            name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
            for name, path in paths.items()
        }
        view = RunView()
        view.apply_all(read_journal(run.journal_file))
        curve = [*view.steps.iteration, *view.steps.loss]
        curve += [e.val_loss for e in view.evaluations]
        left = [path.name for path in run.adapters.glob(".tmp-*")]
        return sums | {"curve": repr(curve), "status": view.status, "left over": repr(left)}

    def _wait_for(self, path: Path, process: ForkServerProcess) -> None:
        until = time.monotonic() + PATIENCE
        while not path.exists():
            if time.monotonic() > until or not process.is_alive():
                raise RuntimeError(f"{path} never came")
            time.sleep(LOOK_SECONDS)


def _train(config: RunConfig, path: Path, resume: bool) -> None:
    from engine.session import Session

    run = RunDirectory(path)
    session = Session(config, run, Resume(run.adapters) if resume else None)
    session.start()
    session.join()
    raise SystemExit(session.exit_code)


def kill_some(yard: Yard, count: int, *, most_kills: int = 1, is_late: bool = False) -> Tally:
    """Kill runs with SIGKILL, each up to a few times, and resume them."""
    tally = Tally()
    for _ in range(count):
        run = yard.new()
        tally.interrupted += yard.kill(run, is_late=is_late)
        for _ in range(most_kills - 1):
            process = yard.start(run, resume=True)
            process.join(yard.random.uniform(0, yard.seconds))
            process.kill()
            process.join(PATIENCE)
        yard.resume(run)
        _count(tally, yard, run)
    return tally


def signal_some(yard: Yard, count: int, name: str) -> Tally:
    """End runs of the command line with a signal, and resume them by its own words."""
    tally = Tally()
    home = yard.folder / "home"
    program = [sys.executable, "-m", "tui", "run"]
    for _ in range(count):
        run = yard.new()
        command = [*program, str(yard.config_file()), "--plain", "--run-dir", str(run.path)]
        process = subprocess.Popen(
            command, env=environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not run.journal_file.exists() and process.poll() is None:
            time.sleep(LOOK_SECONDS)
        time.sleep(yard.random.uniform(0, yard.seconds))
        process.send_signal(signal.Signals[name])
        tally.interrupted += process.wait(PATIENCE) == 128 + signal.Signals[name]
        if _status(run) != "completed":
            yard.resume(run)
        _count(tally, yard, run)
    return tally


def close_some(yard: Yard, count: int) -> Tally:
    """Close the terminal under the dashboard of runs, and resume them."""
    tally = Tally()
    home = yard.folder / "home"
    for _ in range(count):
        run = yard.new()
        arguments = ("run", str(yard.config_file()), "--run-dir", str(run.path))
        with Window(*arguments, home=home, log=yard.folder / "stty"):
            until = time.monotonic() + PATIENCE
            while not run.journal_file.exists() and time.monotonic() < until:
                time.sleep(LOOK_SECONDS)
            time.sleep(yard.random.uniform(0, yard.seconds))
        while is_held(run.lock_file):
            time.sleep(LOOK_SECONDS)
        tally.interrupted += _status(run) != "completed"
        if _status(run) != "completed":
            yard.resume(run)
        _count(tally, yard, run)
    return tally


def _status(run: RunDirectory) -> str:
    view = RunView()
    view.apply_all(read_journal(run.journal_file))
    return view.status


def _count(tally: Tally, yard: Yard, run: RunDirectory) -> None:
    if different := yard.is_whole(run):
        tally.different.append(f"{run.path.name}: {different}")
    else:
        tally.identical += 1


def main() -> None:
    """Interrupt as many runs as asked, and print a line for each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--signals", type=int, default=20, help="of each other kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most-kills", type=int, default=1, help="of one run")
    options = parser.parse_args()
    is_good = True
    with tempfile.TemporaryDirectory() as folder:
        yard = Yard(Path(folder), options.seed)
        kinds = [("SIGKILL", lambda: kill_some(yard, options.kills, most_kills=options.most_kills))]
        kinds.append(("SIGKILL at the end", lambda: kill_some(yard, options.signals, is_late=True)))
        kinds += [(name, lambda n=name: signal_some(yard, options.signals, n)) for name in SIGNALS]
        kinds.append(("closed terminal", lambda: close_some(yard, options.signals)))
        for name, interrupt in kinds:
            tally = interrupt()
            is_good = is_good and not tally.different
            print(
                f"{name}: {tally.identical} of {tally.total} identical, "
                f"{tally.interrupted} interrupted before their end",
                *tally.different,
                sep="\n  ",
                flush=True,
            )
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
