"""Deletes runs and checkpoints for good, and never those of a run that is being trained."""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine import checkpoint
from engine.errors import CheckpointError, RunError
from engine.events import CheckpointDeleted
from engine.files import temporary_name
from engine.journal import Journal
from engine.lock import RunLock

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from engine.runs import RunDirectory


def folder_bytes(folder: Path) -> int:
    """Return what a folder's files take; one that has several names counts once."""
    sizes: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        try:
            state = path.lstat()
        except OSError:
            continue
        if not path.is_dir():
            sizes[state.st_dev, state.st_ino] = state.st_size
    return sum(sizes.values())


def delete_run(run: RunDirectory) -> int:
    """Delete a run's folder with everything in it, and return the bytes that came back.

    Raises:
        RunBusyError: when a process trains it.
        RunError: when it is no run's folder, or the system refuses.
    """
    if run.path.is_symlink() or not run.journal_file.is_file():
        raise RunError(f"{run.path} is no run's folder.", "Nothing was deleted.")
    size = folder_bytes(run.path)
    with _held(run):
        # Under another name at once: a run half deleted is none.
        gone = temporary_name(run.path)
        try:
            run.path.rename(gone)
            shutil.rmtree(gone)
        except OSError as error:
            raise _refused(run, error) from error
    return size


def delete_checkpoint(run: RunDirectory, iteration: int, now: float | None = None) -> None:
    """Delete one checkpoint, and write that into the run's journal.

    The newest adapters and the best keep the names without a number that mlx-lm knows them by.

    Raises:
        RunBusyError: when a process trains the run.
        CheckpointError: when there is no such checkpoint.
        RunError: when the system refuses.
    """
    with _held(run):
        if iteration not in checkpoint.iterations(run.adapters):
            raise CheckpointError(
                f"{run.name} has no checkpoint at {iteration:,}.", "Nothing was deleted."
            )
        try:
            checkpoint.remove(run.adapters, iteration)
            journal = Journal(run.journal_file)
            try:
                moment = time.time() if now is None else now
                journal.append(CheckpointDeleted(time=moment, iteration=iteration))
            finally:
                journal.close()
        except OSError as error:
            raise _refused(run, error) from error


@contextmanager
def _held(run: RunDirectory) -> Generator[None]:
    lock = RunLock(run.lock_file)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _refused(run: RunDirectory, error: OSError) -> RunError:
    return RunError(
        f"{run.path} could not be changed: {error.strerror}.", "Make it writable and try again."
    )
