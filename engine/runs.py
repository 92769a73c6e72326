"""Run directories: where they are, what they are called, which there are."""

from __future__ import annotations

import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from engine import events as ev
from engine.checkpoint import iterations
from engine.errors import ConfigError, did_you_mean
from engine.files import TEMPORARY
from engine.journal import read_outline
from engine.lock import is_held
from engine.view import RunView, Status

_STAMP = re.compile(r"^\d{8}-\d{6}-(?=.)")


def home() -> Path:
    """Return the folder that everything the program writes is under.

    ``LORA_TUI_HOME`` moves it; otherwise it is the platform's data folder.
    """
    if given := os.environ.get("LORA_TUI_HOME"):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "lora-tui"
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "lora-tui"


def runs_folder() -> Path:
    """Return the folder that holds the runs."""
    return home() / "runs"


def token_cache() -> Path:
    """Return the folder that keeps tokenised data; deleting it costs a minute, nothing else."""
    return home() / "cache" / "tokens"


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The places of one run's files. Making one writes nothing."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def config_file(self) -> Path:
        """What was asked."""
        return self.path / "config.yaml"

    @property
    def journal_file(self) -> Path:
        """The run's events."""
        return self.path / "events.jsonl"

    @property
    def log_file(self) -> Path:
        """What libraries and warnings said."""
        return self.path / "log.txt"

    @property
    def lock_file(self) -> Path:
        """Locked while a process trains the run."""
        return self.path / "run.lock"

    @property
    def control_socket(self) -> Path:
        """Where other processes reach the one that trains the run."""
        return self.path / "control.sock"

    @property
    def adapters(self) -> Path:
        """What mlx-lm calls ``--adapter-path``."""
        return self.path / "adapters"


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line about a run."""

    directory: RunDirectory
    status: Status | str
    iteration: int
    iterations: int
    val_loss: float | None
    time: float
    """When it last said something."""
    saved_iteration: int | None = None
    """The newest checkpoint to go on from; None when there is none."""
    lost_seconds: float = 0.0
    """Training time since that checkpoint, which a resume repeats; 0 unless it was interrupted."""

    @property
    def lost_iterations(self) -> int:
        """Iterations since the newest checkpoint, which a resume repeats."""
        return max(0, self.iteration - (self.saved_iteration or 0))


def new_run_path(name: str, now: float | None = None) -> Path:
    """Return a path for a new run that nothing else has: date, time and name."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    base = runs_folder() / f"{stamp}-{slug(name)}"
    path, count = base, 2
    while path.exists():
        path, count = base.with_name(f"{base.name}-{count}"), count + 1
    return path


def short_name(name: str) -> str:
    """Return a run's name without the date and time that its folder begins with."""
    return _STAMP.sub("", name)


def slug(name: str) -> str:
    """Return a name that is safe in any path and needs no quoting."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.").lower()[:60] or "run"


def check_writable(path: Path) -> None:
    """Check that a run's directory can be made, without making anything.

    Raises:
        ConfigError: when it exists already, or the folder it goes to cannot be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(
            [f"{path} exists already"], hint="Give another --run-dir, or none for a new one."
        )
    parent = next((p for p in path.parents if p.exists()), Path("/"))
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(
            [f"runs cannot be written under {parent}"],
            hint="Make it writable, or set LORA_TUI_HOME to a folder that is.",
        )


def list_runs(most: int | None = None) -> list[RunSummary]:
    """Return the runs on this machine, the newest first.

    Args:
        most: how many; None means all.
    """
    found = _directories()
    found.sort(key=lambda run: run.journal_file.stat().st_mtime, reverse=True)
    return [summarise(run) for run in found[:most]]


def training_runs(*others: RunDirectory) -> list[RunDirectory]:
    """Return the runs that a process trains right now; one that is paused does not count.

    Args:
        others: runs that are to be looked at too, wherever they are.
    """
    known = {run.path.resolve(): run for run in (*_directories(), *others)}
    held = [run for run in known.values() if is_held(run.lock_file)]
    return [run for run in held if summarise(run).status != "paused"]


def _directories() -> list[RunDirectory]:
    folder = runs_folder()
    if not folder.is_dir():
        return []
    # What is being deleted has another name by then.
    named = (p for p in folder.iterdir() if not p.name.startswith(TEMPORARY))
    return [RunDirectory(p) for p in named if (p / "events.jsonl").is_file()]


def find_run(name: str | None) -> RunDirectory:
    """Return a run by its name or path; the newest if none is named.

    Raises:
        ConfigError: when there is no such run.
    """
    if name is None:
        runs = list_runs(most=1)
        if not runs:
            raise ConfigError(["there are no runs yet"], hint="Start one: lora-tui demo")
        return runs[0].directory
    for path in (runs_folder() / name, Path(name).expanduser()):
        if (path / "events.jsonl").is_file():
            return RunDirectory(path)
    known = [run.directory.name for run in list_runs()]
    raise ConfigError([f"there is no run '{name}'.{did_you_mean(name, known)}"])


def summarise(run: RunDirectory) -> RunSummary:
    """Say how a run stands, from its journal, its lock and its checkpoints."""
    events = read_outline(run.journal_file)
    view = RunView()
    view.apply_all(events)
    saved = iterations(run.adapters)
    is_interrupted = not view.is_over and not is_held(run.lock_file)
    lost = view.iteration - (saved[-1] if saved else 0)
    pace = view.iterations_per_second
    best = view.best or (view.evaluations[-1] if view.evaluations else None)
    return RunSummary(
        directory=run,
        status="interrupted" if is_interrupted else view.status,
        iteration=view.iteration,
        iterations=view.started.iterations if isinstance(view.started, ev.Started) else 0,
        val_loss=best.val_loss if best else None,
        time=max((event.time for event in events), default=0.0),
        saved_iteration=saved[-1] if saved else None,
        lost_seconds=lost / pace if is_interrupted and pace and lost > 0 else 0.0,
    )
