"""Opens a run: finds where it begins, makes it what it was there, and makes its directory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine import events as ev
from engine.checkpoint import (
    adopt,
    checkpoint_name,
    clean,
    mark_best,
    mark_latest,
    write_adapter_config,
)
from engine.config import dump
from engine.errors import RunError
from engine.files import write_text
from engine.prepare import versions
from engine.resume import (
    changed_versions,
    check_config,
    check_fingerprints,
    check_left,
    find_point,
)
from engine.snapshot import restore
from engine.state import Position

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from engine.config import RunConfig
    from engine.resume import Point, Resume
    from engine.runs import RunDirectory
    from engine.state import State


def find_beginning(
    resume: Resume | None, config: RunConfig, directory: RunDirectory, claim: Callable[[], None]
) -> Generator[ev.Event, None, Point | None]:
    """Find the checkpoint to go on from, and check that it is whole and of this run.

    Raises:
        ConfigError: when the settings make another run, or nothing is left to do.
        RunError: when another process trains it, or no checkpoint is whole.
    """
    if resume is None:
        return None
    if not resume.parent:
        claim()
        for folder in (directory.path, directory.adapters):
            clean(folder)
    yield ev.Progress(time=time.time(), stage="check", message="checking the checkpoint")
    point = find_point(resume)
    if point is None:
        message = "The run had no checkpoint yet, so it begins anew."
        yield ev.Warned(time=time.time(), message=message)
        return None
    changed = check_config(point.facts, config)
    check_left(point.facts, config, None if resume.parent else directory)
    for message in (*point.damaged, *changed):
        yield ev.Warned(time=time.time(), message=message)
    return point


def restore_run(state: State, point: Point) -> Iterator[ev.Event]:
    """Make the run what it was when the checkpoint was taken.

    Raises:
        ConfigError: when model or data are others.
        DamagedError: when the checkpoint is of another model or optimiser.
    """
    prepared, facts = state.prepared, point.facts
    messages = check_fingerprints(facts, prepared.fingerprints)
    if changed := changed_versions(facts, versions()):
        messages.append(f"{', '.join(changed)}: numbers may differ in their last digits.")
    for message in messages:
        yield ev.Warned(time=time.time(), message=message)
    go_to(state, point)
    # What the guard had shrunk stays so, unless the plan itself is another now.
    if facts["planned_micro_batch"] == prepared.micro_batch:
        state.mailbox.set_micro_batch(facts["micro_batch"])
    else:
        state.position.is_probed = False


def go_to(state: State, point: Point) -> None:
    """Put a run back to a verified checkpoint.

    Raises:
        DamagedError: when it is of another model or optimiser.
    """
    state.gradients = restore(point.folder, point.iteration, state.prepared)
    state.position = Position.from_facts(point.facts["position"])
    nbytes = (point.folder / checkpoint_name(point.iteration)).stat().st_size
    state.saver.is_at(state.position, nbytes)


def create(state: State, claim: Callable[[], None], point: Point | None) -> None:
    """Make the run's directory, and write down what was asked.

    Raises:
        RunError: when it cannot be written, or another process trains the run.
    """
    directory, config = state.directory, state.prepared.config
    try:
        directory.path.mkdir(parents=True, exist_ok=True)
        claim()
        write_text(directory.config_file, dump(config))
    except OSError as error:
        raise RunError(
            f"The run's folder {directory.path} cannot be written: {error}",
            "Free space there, or set LORA_TUI_HOME to another folder.",
        ) from error
    write_adapter_config(directory.adapters, config)
    if point is not None:
        _take(state, point)


def _take(state: State, point: Point) -> None:
    """Make the checkpoint that a run goes on from the latest in its folder, and the best if it is.

    A process that was killed while it saved may not have come so far.
    """
    folder, iteration = state.directory.adapters, point.iteration
    # A forked run does not need its parent any more.
    if point.folder != folder:
        adopt(point.folder, iteration, folder)
    mark_latest(folder, iteration)
    if state.position.best_iteration == iteration:
        mark_best(folder, iteration)
