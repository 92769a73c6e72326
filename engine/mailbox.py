"""What other threads ask of the trainer; it looks between steps, and for a stop between layers."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engine.guard import Halve, Pause, Resume

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from engine.events import CheckpointReason
    from engine.guard import Tighten
    from engine.use.wardrobe import Wardrobe

    Job = Callable[[Wardrobe | None, Callable[[], bool]], None]
    """Gets the model, None while its base is given back, and a function that says when to stop."""

Request = Literal["checkpoint", "evaluate", "sample"]
Holder = Literal["person", "disk", "guard"]
"""Who holds a run still; it goes on when nobody does. Who comes first here is named."""
_HOLDERS: tuple[Holder, ...] = ("person", "disk", "guard")


@dataclass(frozen=True, slots=True)
class Stop:
    """A wish to end the run."""

    reason: str
    """In words, for a person."""
    checkpoint_reason: CheckpointReason = "stop"
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """A wish to stand still."""

    by: Holder
    reason: str
    """In words, for a person."""


class Mailbox:
    """Thread-safe wishes: pause, resume, do something once, stop."""

    def __init__(self, micro_batch: int = 1) -> None:
        self._changed = threading.Condition()
        self._requests: list[Request] = []
        self._pauses: dict[Holder, str] = {}
        self._stop: Stop | None = None
        self._micro_batch = micro_batch
        self._orders: list[Halve | Pause | Tighten] = []
        self._resume: Resume | None = None
        self._is_standing = False
        self._jobs: list[Job] = []

    def lend(self, job: Job) -> None:
        """Have something done with the run's model the next time that the run stands still."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def take_jobs(self) -> list[Job]:
        """Return what the model was asked for since the last call, in order."""
        with self._changed:
            taken, self._jobs = self._jobs, []
            return taken

    def pause(self, reason: str = "asked", by: Holder = "person") -> None:
        """Ask to stand still after the step in flight."""
        with self._changed:
            self._pauses[by] = reason

    def resume(self, by: Holder = "person") -> None:
        """Ask to go on, as far as this holder is concerned; a person overrules the guard."""
        with self._changed:
            self._pauses.pop(by, None)
            if by == "person":
                self._pauses.pop("guard", None)
            self._changed.notify_all()

    def order(self, action: Halve | Pause | Resume | Tighten) -> None:
        """Take what the guard decided: at once where that is possible, or for the trainer to do."""
        with self._changed:
            if isinstance(action, Resume):
                self._pauses.pop("guard", None)
                self._resume = action
                self._changed.notify_all()
                return
            if isinstance(action, Halve):
                self._micro_batch = min(self._micro_batch, action.micro_batch)
            elif isinstance(action, Pause):
                self._pauses["guard"] = action.why
                self._resume = None
            self._orders.append(action)

    def take_orders(self) -> list[Halve | Pause | Tighten]:
        """Return what the guard ordered since the last call; cheap, asked at every layer."""
        if not self._orders:
            return []
        with self._changed:
            taken, self._orders = self._orders, []
            return taken

    def take_resume(self) -> Resume | None:
        """Return the guard's order to go on, once, if that is why the run does."""
        with self._changed:
            taken, self._resume = self._resume, None
            return taken

    def request(self, what: Request) -> None:
        """Ask for something once, done between two steps, also while paused."""
        with self._changed:
            if what not in self._requests:
                self._requests.append(what)
            self._changed.notify_all()

    def stop(self, stop: Stop) -> None:
        """Ask to save and end; the first to ask gives the reason."""
        with self._changed:
            self._stop = self._stop or stop
            self._changed.notify_all()

    def set_micro_batch(self, rows: int) -> None:
        """Set how many rows a step evaluates at once."""
        with self._changed:
            self._micro_batch = rows

    def hold(self) -> Hold | None:
        """Return who wants the run to stand still and why, or None to go on."""
        with self._changed:
            for by in _HOLDERS:
                if by in self._pauses:
                    return Hold(by, self._pauses[by])
            return None

    @contextmanager
    def standing_still(self) -> Generator[None]:
        """Say that the run stands still: what is asked for meanwhile is not dropped for a pause."""
        self._is_standing = True
        try:
            yield
        finally:
            self._is_standing = False

    def stop_wish(self) -> Stop | None:
        """Return the wish to end, if there is one."""
        with self._changed:
            return self._stop

    def should_stop(self) -> bool:
        """Whether to drop the step in flight, for the end or a pause of the guard's.

        Cheap, asked at every layer.
        """
        is_held = "guard" in self._pauses and not self._is_standing
        return self._stop is not None or is_held

    def micro_batch(self) -> int:
        """How many rows to evaluate at once; cheap, asked at every layer."""
        return self._micro_batch

    def take(self) -> list[Request]:
        """Return what was asked for since the last call, in order."""
        with self._changed:
            taken, self._requests = self._requests, []
            return taken

    def wait_for_stop(self, timeout_seconds: float) -> None:
        """Sleep until the run is to end, or the time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self._stop is not None, timeout_seconds)

    def wait(self) -> None:
        """Sleep until something is asked or training may go on."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._requests or self._jobs or self._stop is not None or not self._pauses
            )
