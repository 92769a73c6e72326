"""Saves a run while it goes on: the trainer takes a snapshot, another thread writes it.

Nothing is ever deleted before what replaces it is durable. When the disk is full the run stands
still until there is space, or ends with what was saved before intact.
"""

from __future__ import annotations

import shutil
import time
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from engine import checkpoint, snapshot
from engine import events as ev
from engine.errors import CheckpointError, DiskFullError
from engine.prepare import versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from engine.checkpoint import Snapshot
    from engine.config import RunConfig
    from engine.state import Position, State

T = TypeVar("T")
SPACE_SECONDS = 2.0
"""How often a run that waits for space looks for it."""
AWAITED = frozenset({"pause", "stop", "signal", "pressure", "final"})
"""Reasons for which nothing else goes on until the checkpoint is durable."""


def at_once(job: Callable[[], T]) -> Future[T]:
    """Do a job before returning, where there is no thread for it."""
    future: Future[T] = Future()
    try:
        future.set_result(job())
    except CheckpointError as error:
        future.set_exception(error)
    return future


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a checkpoint."""

    path: Path
    bytes: int
    seconds: float
    removed: tuple[int, ...]
    warning: str = ""


@dataclass(slots=True)
class Pending:
    """A checkpoint on its way to the disk."""

    snapshot: Snapshot
    reason: ev.CheckpointReason
    is_best: bool
    val_loss: float | None
    future: Future[Written]


@dataclass(slots=True)
class Saver:
    """A run's way to the disk."""

    folder: Path
    config: RunConfig
    aside: Callable[[Callable[[], Written]], Future[Written]]
    """Does a job off the trainer's thread."""
    pending: Pending | None = None
    saved_iteration: int = -1
    best_iteration: int = 0
    """The best that a checkpoint knows of."""
    newest: ev.CheckpointSaved | None = None
    """What was said of the newest one; None until there is one."""

    def wait(self) -> None:
        """Wait until nothing is on its way, so that arrays may be replaced without living twice."""
        if self.pending is not None:
            wait([self.pending.future])

    def is_at(self, position: Position, nbytes: int) -> None:
        """Know the checkpoint that a run was put back to as the newest."""
        path = self.folder / checkpoint.checkpoint_name(position.iteration)
        self.saved_iteration = position.iteration
        self.best_iteration = position.best_iteration
        self.newest = ev.CheckpointSaved(
            time=time.time(),
            iteration=position.iteration,
            path=str(path),
            reason="requested",
            seconds=0.0,
            bytes=nbytes,
            val_loss=position.val_loss,
            best=position.best_iteration == position.iteration,
        )

    def begin(
        self, taken: Snapshot, reason: ev.CheckpointReason, *, best: int, val_loss: float | None
    ) -> None:
        """Hand a snapshot over to be written; ``best`` is the best iteration so far."""
        is_best = best == taken.iteration
        self.saved_iteration, self.best_iteration = taken.iteration, best

        def job() -> Written:
            return write(self.folder, taken, self.config, best)

        self.pending = Pending(taken, reason, is_best, val_loss, self.aside(job))


def write(folder: Path, taken: Snapshot, config: RunConfig, best: int) -> Written:
    """Write a checkpoint, then delete those that it replaces.

    Raises:
        CheckpointError: when it is not written; what was there stays whole.
    """
    began = time.perf_counter()
    path = checkpoint.write(folder, taken)
    if best == taken.iteration:
        checkpoint.mark_best(folder, best)
    warning = ""
    removed: list[int] = []
    try:
        kept = checkpoint.chosen_to_keep(
            checkpoint.iterations(folder), config.keep_last, config.keep_every, best
        )
        removed = checkpoint.prune(folder, kept | {taken.iteration})
    except OSError as error:
        warning = f"Old checkpoints could not be deleted: {error}"
    warning = _publish(folder, config) or warning
    seconds = time.perf_counter() - began
    return Written(path, path.stat().st_size, seconds, tuple(removed), warning)


def _publish(folder: Path, config: RunConfig) -> str:
    """Copy the latest adapters to where they were asked for, if so; return what went wrong."""
    if config.adapter_path:
        try:
            checkpoint.publish(folder, Path(config.adapter_path).expanduser())
        except CheckpointError as error:
            return f"adapter_path: {error.message}"
    return ""


def finish_saving(state: State, past: Iterable[ev.Event]) -> Iterator[ev.Event]:
    """Finish what a process began that was killed before it said that it had saved.

    Args:
        state: the run, put back to its newest checkpoint.
        past: what its journal has.
    """
    saved = state.saver.newest
    told = (e.iteration for e in past if isinstance(e, ev.CheckpointSaved))
    if saved is None or saved.iteration in told:
        return
    if warning := _publish(state.directory.adapters, state.prepared.config):
        yield ev.Warned(time=time.time(), message=warning)
    yield replace(saved, reason=reason_to_save(state) or saved.reason)


def reason_to_save(state: State) -> ev.CheckpointReason | None:
    """Return why this iteration is saved, whatever is asked for; None when it is not."""
    config, iteration = state.prepared.config, state.iteration
    if iteration == config.iters:
        return "final"
    return "scheduled" if iteration % config.save_every == 0 else None


def save(state: State, reason: ev.CheckpointReason) -> Iterator[ev.Event]:
    """Save the run as it is now, unless that is done already; who asked for it hears of it anyway.

    Raises:
        CheckpointError: when it cannot be saved.
    """
    saver, position = state.saver, state.position
    # Nothing is trained yet.
    if position.iteration == 0:
        return
    if _is_saved(state):
        yield from settle(state, is_awaited=reason in AWAITED or reason == "requested")
        if reason == "requested" and saver.newest is not None:
            yield replace(saver.newest, time=time.time(), reason=reason)
        return
    with state.pulse.phase("saving"):
        yield from settle(state, is_awaited=True)
        began = time.perf_counter()
        taken = snapshot.take(state.prepared, position.iteration, state.gradients, _facts(state))
        saver.begin(taken, reason, best=position.best_iteration, val_loss=position.val_loss)
        state.eta.add_save(time.perf_counter() - began, is_best=reason == "best")
        yield from settle(state, is_awaited=reason in AWAITED)


def _is_saved(state: State) -> bool:
    """Whether the newest checkpoint is of this iteration, and knows it if this is the best."""
    saver, position = state.saver, state.position
    is_best = position.best_iteration == position.iteration
    knows = saver.best_iteration == position.best_iteration or not is_best
    return saver.saved_iteration == position.iteration and knows


def settle(state: State, *, is_awaited: bool) -> Iterator[ev.Event]:
    """Say what became of the checkpoint on its way, if it is known or awaited.

    Raises:
        CheckpointError: when it could not be written, and waiting does not help.
    """
    saver = state.saver
    while (pending := saver.pending) is not None:
        if not is_awaited and not pending.future.done():
            return
        try:
            written = pending.future.result()
        except DiskFullError as error:
            if not (yield from _wait_for_space(state, error)):
                saver.pending = None
                raise
            taken, best = pending.snapshot, state.position.best_iteration
            saver.begin(taken, pending.reason, best=best, val_loss=pending.val_loss)
            continue
        except CheckpointError:
            saver.pending = None
            raise
        saver.pending = None
        state.pulse.saved(written.bytes)
        state.eta.add_write(written.seconds)
        if written.warning:
            yield ev.Warned(time=time.time(), message=written.warning)
        saver.newest = ev.CheckpointSaved(
            time=time.time(),
            iteration=pending.snapshot.iteration,
            path=str(written.path),
            reason=pending.reason,
            seconds=written.seconds,
            bytes=written.bytes,
            val_loss=pending.val_loss,
            best=pending.is_best,
            removed=written.removed,
        )
        yield saver.newest


def _wait_for_space(state: State, error: DiskFullError) -> Iterator[ev.Event]:
    """Stand still until there is space; return whether there is, or the run is to end."""
    mailbox, iteration = state.mailbox, state.iteration
    if mailbox.stop_wish():
        return False
    why = f"{error.message} Training goes on by itself once there is space."
    yield ev.Guard(time=time.time(), action="pause", why=why, iteration=iteration)
    yield ev.Paused(time=time.time(), iteration=iteration, reason=error.message)
    began = time.monotonic()
    while shutil.disk_usage(state.saver.folder).free < error.needed_bytes:
        mailbox.wait_for_stop(SPACE_SECONDS)
        if mailbox.stop_wish():
            return False
    seconds = time.monotonic() - began
    yield ev.Resumed(time=time.time(), iteration=iteration, paused_seconds=seconds)
    return True


def _facts(state: State) -> dict[str, object]:
    prepared = state.prepared
    return {
        "position": state.position.facts(),
        "micro_batch": state.mailbox.micro_batch(),
        "planned_micro_batch": prepared.micro_batch,
        "config": prepared.config.model_dump(mode="json"),
        "fingerprints": prepared.fingerprints,
        "versions": versions(),
    }
