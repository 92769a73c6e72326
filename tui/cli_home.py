"""Opens home: gathers what it lists, and leads from a choice to a run."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from engine.preset_files import preset_names, preset_summary
from tui.cli_records import RunRecords, fuse_screen
from tui.controls import Bench, Doors, HomeData, PresetLine, RunLine
from tui.home_rows import DEMO
from tui.terminal import StrayOutput
from tui.watch import BAD_INPUT
from tui.words import size

if TYPE_CHECKING:
    from engine.catalog import RunCatalog, RunRecord
    from engine.machine import Machine
    from engine.session import Session
    from tui.attached import AttachedRun
    from tui.cli_dashboard import SteeredRun
    from tui.draft import Draft, Fitting, Outlook

MOST_RUNS = 200


class HomeOutlook:
    """Looks at this machine for home; what did not change is not read again."""

    def __init__(self) -> None:
        self._catalog: RunCatalog | None = None
        self._planned: tuple[Machine | None, tuple[PresetLine, ...]] | None = None

    def __call__(self) -> HomeData:
        """Gather the presets with their verdicts, the newest runs, and what machine this is."""
        from engine.catalog import RunCatalog
        from engine.machine import known_machine
        from engine.runs import home

        self._catalog = self._catalog or RunCatalog()
        machine = known_machine()
        if self._planned is None or self._planned[0] != machine:
            self._planned = (machine, _planned_presets(machine))
        runs = tuple(_run_line(record) for record in self._catalog.look(MOST_RUNS))
        is_measured = machine is not None and machine.flops_per_second is not None
        return HomeData(self._planned[1], runs, _machine(home()), is_measured)


class LatePlanner:
    """A planner whose libraries are imported when it is first asked something."""

    def begin(self, preset: str) -> Draft:
        """Return a preset's own settings."""
        from tui.cli_draft import MachinePlanner

        return MachinePlanner().begin(preset)

    def look(self, draft: Draft) -> Outlook:
        """Say what would come of a draft."""
        from tui.cli_draft import MachinePlanner

        return MachinePlanner().look(draft)

    def fit(self, draft: Draft) -> Fitting:
        """Change as little as is needed for a draft to fit this machine."""
        from tui.cli_draft import MachinePlanner

        return MachinePlanner().fit(draft)


def show_home() -> int:
    """Show home until it is left; return the exit code."""
    from tui.app import LoraTuiApp
    from tui.cli_dashboard import show_app

    started: list[SteeredRun] = []

    def newest_accepted() -> SteeredRun | None:
        # Why a run was refused was said at home.
        is_accepted = started and started[-1].exit_code != BAD_INPUT
        return started[-1] if is_accepted else None

    records = RunRecords()
    with StrayOutput() as stray:
        doors = Doors(
            start_preset=lambda name: _start_preset(name, stray, started),
            open_run=_open,
            resume_run=lambda path: _resume(path, stray, started),
            start_draft=lambda draft: _start_draft(draft, stray, started),
            planner=LatePlanner(),
            look=HomeOutlook(),
            measure=_measure,
            records=records,
        )
        app = LoraTuiApp(home=first_look(), doors=doors, bench=Bench(records, fuse_screen))
        return show_app(app, stray, newest_accepted)


def first_look() -> HomeData:
    """Gather what is there at once; the rest is looked at when the first frame is up."""
    presets = tuple(PresetLine(name, preset_summary(name)) for name in _preset_names())
    return HomeData(presets, None, _machine(None))


def _planned_presets(machine: Machine | None) -> tuple[PresetLine, ...]:
    """Say of every preset whether it fits, and where the machine was measured also for how long."""
    from engine.machine import guessed_machine
    from engine.preset_plans import alternative, plan_presets
    from tui.verdict import short_verdict, verdict

    plans = plan_presets(machine or guessed_machine())
    return tuple(
        PresetLine(
            name,
            preset_summary(name),
            verdict(plan, alternative(name, plans)),
            short_verdict(plan),
            plan.fits,
        )
        for name in _preset_names()
        for plan in (plans[name],)
    )


def _preset_names() -> list[str]:
    """Return the presets, the one to begin with first."""
    return sorted(preset_names(), key=lambda name: (name != DEMO, name))


def _run_line(record: RunRecord) -> RunLine:
    return RunLine(
        name=record.name,
        path=str(record.directory.path),
        status=record.status,
        iteration=record.iteration,
        iterations=record.iterations,
        val_loss=record.val_loss,
        saved_iteration=record.saved_iteration,
        time=record.time,
        losses=record.losses,
        model=_last(record.model),
        data=_last(record.data),
    )


def _last(name: str) -> str:
    """Return the telling end of a folder's or a hub's name."""
    path = Path(name)
    # The bundled ones are called model and data, each in its preset's folder.
    return f"{path.parent.name}/{path.name}" if path.name in {"model", "data"} else path.name


def _measure() -> None:
    from engine.machine import this_machine

    this_machine()


def _open(path: str) -> AttachedRun:
    """Look at a run: as it goes on where a process trains it, else as it was left."""
    from engine.runs import RunDirectory
    from tui.attached import AttachedRun

    return AttachedRun(RunDirectory(Path(path)))


def _start_preset(name: str, stray: StrayOutput, started: list[SteeredRun]) -> SteeredRun:
    """Prepare a preset's run; the app starts it.

    Raises:
        InputError: when it cannot be run.
    """
    from tui.cli_run import Asked, open_session, prepare

    return _steered(open_session(*prepare(Asked(name))), stray, started)


def _start_draft(draft: Draft, stray: StrayOutput, started: list[SteeredRun]) -> SteeredRun:
    """Prepare the run that somebody filled in; the app starts it.

    Raises:
        InputError: when it cannot be run.
    """
    from tui.cli_draft import asked_for
    from tui.cli_run import open_session, prepare

    return _steered(open_session(*prepare(asked_for(draft))), stray, started)


def _resume(path: str, stray: StrayOutput, started: list[SteeredRun]) -> SteeredRun:
    """Prepare to go on with a run; the app starts it.

    Raises:
        LoraTuiError: when it cannot go on.
    """
    from tui.cli_resume import prepare_resume
    from tui.cli_run import open_session

    return _steered(open_session(*prepare_resume(path, {})), stray, started)


def _steered(session: Session, stray: StrayOutput, started: list[SteeredRun]) -> SteeredRun:
    from tui.cli_dashboard import SteeredRun
    from tui.cli_run import quieten_libraries

    quieten_libraries()
    run = SteeredRun(session, stray)
    started.append(run)
    return run


def _machine(place: Path | None) -> str:
    """Say in one line what machine this is.

    Args:
        place: where runs are written; None leaves the free space there for later.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    system = platform.system().replace("Darwin", f"macOS {platform.mac_ver()[0]}")
    parts = [
        f"{system} {platform.machine()}",
        f"{os.cpu_count()} cores",
        f"{size(memory)} memory",
    ]
    if place is not None:
        while not place.exists():
            place = place.parent
        parts.append(f"{size(shutil.disk_usage(place).free)} free")
    return " · ".join(parts)
