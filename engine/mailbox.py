"""What other threads ask of the trainer; it looks between steps, and for a stop between layers."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from engine.events import CheckpointReason

Request = Literal["checkpoint", "evaluate", "sample"]
Holder = Literal["person", "disk"]
"""Who holds a run still; it goes on when nobody does."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A wish to end the run."""

    reason: str
    """In words, for a person."""
    checkpoint_reason: CheckpointReason = "stop"
    exit_code: int = 0


class Mailbox:
    """Thread-safe wishes: pause, resume, do something once, stop."""

    def __init__(self, micro_batch: int = 1) -> None:
        self._changed = threading.Condition()
        self._requests: list[Request] = []
        self._pauses: dict[Holder, str] = {}
        self._stop: Stop | None = None
        self._micro_batch = micro_batch

    def pause(self, reason: str = "asked", by: Holder = "person") -> None:
        """Ask to stand still after the step in flight."""
        with self._changed:
            self._pauses[by] = reason

    def resume(self, by: Holder = "person") -> None:
        """Ask to go on, as far as this holder is concerned."""
        with self._changed:
            self._pauses.pop(by, None)
            self._changed.notify_all()

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

    def pause_reason(self) -> str | None:
        """Return why to stand still, or None to go on."""
        with self._changed:
            return next(iter(self._pauses.values()), None)

    def stop_wish(self) -> Stop | None:
        """Return the wish to end, if there is one."""
        with self._changed:
            return self._stop

    def should_stop(self) -> bool:
        """Whether to drop the step in flight; cheap, asked at every layer."""
        return self._stop is not None

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
            self._changed.wait_for(self.should_stop, timeout_seconds)

    def wait(self) -> None:
        """Sleep until something is asked or training may go on."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._requests or self._stop is not None or not self._pauses
            )
