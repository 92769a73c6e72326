"""Opens home: gathers what it lists, and leads from a choice to a run."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from engine.journal import read_history
from engine.lock import is_held
from engine.machine import known_machine
from engine.preset_files import preset_names, preset_summary
from engine.runs import RunDirectory, home, list_runs
from engine.view import TRACE_SAMPLES
from tui.attached import AttachedRun
from tui.cli_plan import preset_verdicts
from tui.controls import Doors, HomeData, PresetLine, RunLine
from tui.terminal import StrayOutput
from tui.watch import BAD_INPUT
from tui.words import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.events import Event, Policy
    from tui.cli_dashboard import SteeredRun

MOST_RUNS = 50


class PastRun:
    """A run that is only read: its journal as it is now."""

    exit_code = 0
    outlives_app = True
    can_detach = False

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._events: list[Event] = []

    @property
    def path(self) -> str:
        """The run's folder."""
        return str(self._directory.path)

    @property
    def events(self) -> Sequence[Event]:
        """What the journal holds."""
        return self._events

    def start(self) -> None:
        """Read the journal."""
        self._events = read_history(self._directory.journal_file, TRACE_SAMPLES)

    def is_alive(self) -> bool:
        """Whether more may come: not from here."""
        return False

    def pause(self) -> None:
        """Nothing to steer, here and below."""

    resume = checkpoint = evaluate = sample = hang_up = detach = pause

    def set_policy(self, policy: Policy) -> None:
        """Nothing to guard."""

    def stop(self, reason: str = "asked") -> None:
        """Nothing to stop."""


def show_home() -> int:
    """Show home until it is left; return the exit code."""
    from tui.app import LoraTuiApp
    from tui.cli_dashboard import show_app

    started: list[SteeredRun] = []

    def newest_accepted() -> SteeredRun | None:
        # Why a run was refused was said at home.
        is_accepted = started and started[-1].exit_code != BAD_INPUT
        return started[-1] if is_accepted else None

    with StrayOutput() as stray:
        doors = Doors(
            start_preset=lambda name: _start_preset(name, stray, started),
            open_run=_open,
            resume_run=lambda path: _resume(path, stray, started),
        )
        app = LoraTuiApp(home=home_data(), doors=doors)
        return show_app(app, stray, newest_accepted)


def _open(path: str) -> PastRun | AttachedRun:
    """Look at a run: as it goes on where a process trains it, else as it was left."""
    directory = RunDirectory(Path(path))
    return AttachedRun(directory) if is_held(directory.lock_file) else PastRun(directory)


def home_data() -> HomeData:
    """Gather the presets, the newest runs, and what machine this is."""
    verdicts = _verdicts()
    presets = tuple(
        PresetLine(name, preset_summary(name), verdicts.get(name, "")) for name in preset_names()
    )
    runs = tuple(
        RunLine(
            name=run.directory.name,
            path=str(run.directory.path),
            status=run.status,
            iteration=run.iteration,
            iterations=run.iterations,
            val_loss=run.val_loss,
            saved_iteration=run.saved_iteration,
        )
        for run in list_runs(MOST_RUNS)
    )
    return HomeData(presets, runs, _machine())


def _verdicts() -> dict[str, str]:
    """What the presets' plans say; nothing where this machine was never measured."""
    machine = known_machine()
    return preset_verdicts(machine) if machine else {}


def _start_preset(name: str, stray: StrayOutput, started: list[SteeredRun]) -> SteeredRun:
    """Prepare a preset's run; the app starts it.

    Raises:
        InputError: when it cannot be run.
    """
    from tui.cli_dashboard import SteeredRun
    from tui.cli_run import Asked, open_session, prepare, quieten_libraries

    quieten_libraries()
    run = SteeredRun(open_session(*prepare(Asked(name))), stray)
    started.append(run)
    return run


def _resume(path: str, stray: StrayOutput, started: list[SteeredRun]) -> SteeredRun:
    """Prepare to go on with a run; the app starts it.

    Raises:
        LoraTuiError: when it cannot go on.
    """
    from tui.cli_dashboard import SteeredRun
    from tui.cli_resume import prepare_resume
    from tui.cli_run import open_session, quieten_libraries

    quieten_libraries()
    session = open_session(*prepare_resume(path, {}), has_past=True)
    run = SteeredRun(session, stray)
    started.append(run)
    return run


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    place = home()
    while not place.exists():
        place = place.parent
    system = platform.system().replace("Darwin", f"macOS {platform.mac_ver()[0]}")
    parts = (
        f"{system} {platform.machine()}",
        f"{os.cpu_count()} cores",
        f"{size(memory)} memory",
        f"{size(shutil.disk_usage(place).free)} free",
    )
    return " · ".join(parts)
