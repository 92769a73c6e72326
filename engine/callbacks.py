"""Tells others of a run: mlx-lm's ``TrainingCallback`` objects, and ours, which hear of more.

A callback is any object with some of these methods; what it lacks is not called:

* ``on_train_loss_report(info)`` and ``on_val_loss_report(info)``, with mlx-lm's own dictionaries
  (``mlx_lm.tuner.trainer.train``): every ``steps_per_report`` iterations, and at evaluations;
* ``on_start(event)``, ``on_step(event)``, ``on_evaluation(event)``, ``on_sample(event)``,
  ``on_checkpoint(event)``, ``on_host(event)``, ``on_guard(event)``, ``on_test(event)`` and
  ``on_end(event)``, with the events of ``engine.events``;
* ``on_event(event)``, with every event, from the first of this process;
* ``take_warnings()``, which returns what the run should say of it, and is called in passing: it
  must not wait for anything.

Each has a thread of its own. One that raises, takes too long or falls too far behind is dropped and
said once; the run neither waits for it nor ends with it.
"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine import events as ev

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LIMIT_SECONDS = 30.0
"""How long one call may take."""
END_SECONDS = 10.0
"""How long a run that is over waits for what is still to be told."""
MOST_WAITING = 10_000
"""Calls that may wait for a slow callback."""
BYTES_PER_GB = 1e9

_METHODS: dict[type[ev.Event], str] = {
    ev.Started: "on_start",
    ev.Step: "on_step",
    ev.Evaluated: "on_evaluation",
    ev.Sampled: "on_sample",
    ev.CheckpointSaved: "on_checkpoint",
    ev.Host: "on_host",
    ev.Guard: "on_guard",
    ev.Tested: "on_test",
    ev.Ended: "on_end",
}


class Callbacks:
    """All callbacks of one run."""

    def __init__(
        self,
        callbacks: Sequence[object],
        steps_per_report: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make one listener of each; the thread of each begins with the first call.

        Args:
            callbacks: objects with some of the methods above.
            steps_per_report: iterations between two reports, as in mlx-lm.
            clock: tells how long a call takes.
        """
        self._listeners = [Listener(callback, clock) for callback in callbacks]
        self._reports = _Reports(steps_per_report)
        self._has_begun = False

    def deliver(self, event: ev.Event) -> list[str]:
        """Pass an event on, without waiting; returns what went wrong since the last time."""
        self._has_begun = self._has_begun or isinstance(event, ev.Started)
        if not self._listeners:
            return []
        for listener in self._listeners:
            listener.call("on_event", event)
        if self._has_begun:
            self._tell(event)
        return self._problems()

    def _tell(self, event: ev.Event) -> None:
        if name := _METHODS.get(type(event)):
            for listener in self._listeners:
                listener.call(name, event)
        for name, info in self._reports.of(event):
            for listener in self._listeners:
                listener.call(name, dict(info))

    def close(self, log_file: Path | None = None, seconds: float | None = None) -> list[str]:
        """Wait until everything is told, but no longer than this.

        Args:
            log_file: gets what went wrong, as no event follows a run's end.
            seconds: how long; None means ``END_SECONDS``.

        Returns:
            What went wrong.
        """
        until = time.monotonic() + (END_SECONDS if seconds is None else seconds)
        for listener in self._listeners:
            listener.close(max(0.0, until - time.monotonic()))
        problems = self._problems()
        if problems and log_file is not None:
            with suppress(OSError), log_file.open("a", encoding="utf-8") as log:
                log.writelines(f"{problem}\n" for problem in problems)
        return problems

    def _problems(self) -> list[str]:
        found = [words for each in self._listeners for words in (*each.warnings(), each.problem())]
        self._listeners = [listener for listener in self._listeners if not listener.is_dropped]
        return [problem for problem in found if problem]


class Listener:
    """One callback and its thread."""

    def __init__(self, callback: object, clock: Callable[[], float]) -> None:
        self._callback = callback
        self._clock = clock
        self._calls: queue.Queue[tuple[str, Any] | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._busy_since: float | None = None
        self._error = ""
        self.is_dropped = False

    @property
    def name(self) -> str:
        """What people know it by."""
        return str(getattr(self._callback, "name", type(self._callback).__name__))

    def call(self, method: str, argument: Any) -> None:
        """Have a method called, if there is one."""
        if self.is_dropped or not callable(getattr(self._callback, method, None)):
            return
        if self._thread is None:
            # A daemon, so that a callback that hangs cannot hold the shell.
            self._thread = threading.Thread(target=self._work, name="callback", daemon=True)
            self._thread.start()
        try:
            self._calls.put_nowait((method, argument))
        except queue.Full:
            self._error = self._error or f"it is {MOST_WAITING:,} calls behind"

    def warnings(self) -> list[str]:
        """Return what the callback itself wants said."""
        take: Any = getattr(self._callback, "take_warnings", None)
        return list(take()) if take is not None and not self.is_dropped else []

    def problem(self) -> str:
        """Say once what went wrong, and drop the callback for it."""
        since = self._busy_since
        if not self._error and since is not None and self._clock() - since > LIMIT_SECONDS:
            self._error = f"a call took more than {LIMIT_SECONDS:.0f} s"
        if not self._error or self.is_dropped:
            return ""
        self.is_dropped = True
        return f"{self.name} is not told of this run any more: {self._error}. Training goes on."

    def close(self, seconds: float) -> None:
        """Wait until it was told everything, but no longer than this."""
        if self._thread is None or self._error:
            return
        try:
            self._calls.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._error = self._error or f"it was not done {END_SECONDS:.0f} s after the run's end"

    def _work(self) -> None:
        while (call := self._calls.get()) is not None and not self._error:
            method, argument = call
            self._busy_since = self._clock()
            try:
                getattr(self._callback, method)(argument)
            except Exception as error:  # noqa: BLE001 - somebody else's code: nothing may pass it
                self._error = f"{method} raised {type(error).__name__}: {error}"
            except SystemExit:
                self._error = f"{method} wanted to end the program"
            self._busy_since = None


@dataclass
class _Reports:
    """Makes mlx-lm's dictionaries from events."""

    every: int
    iterations: int = 0
    peak_bytes: int = 0
    steps: list[ev.Step] = field(default_factory=list[ev.Step])

    def of(self, event: ev.Event) -> list[tuple[str, dict[str, Any]]]:
        """Return the reports that an event completes."""
        match event:
            case ev.Started():
                self.iterations, self.steps = event.iterations, []
            case ev.Evaluated():
                info = {
                    "iteration": event.iteration,
                    "val_loss": event.val_loss,
                    "val_time": event.seconds,
                }
                return [("on_val_loss_report", info)]
            case ev.Step():
                self.steps.append(event)
                self.peak_bytes = max(self.peak_bytes, event.memory.peak)
                if event.iteration % self.every == 0 or event.iteration == self.iterations:
                    return [("on_train_loss_report", self._train_info())]
            case _:
                pass
        return []

    def _train_info(self) -> dict[str, Any]:
        """The mean over iterations, not over tokens, as mlx-lm reports it."""
        steps, self.steps = self.steps, []
        seconds = sum(step.seconds for step in steps)
        return {
            "iteration": steps[-1].iteration,
            "train_loss": sum(step.loss for step in steps) / len(steps),
            "learning_rate": steps[-1].learning_rate,
            "iterations_per_second": len(steps) / seconds,
            "tokens_per_second": sum(step.tokens for step in steps) / seconds,
            "trained_tokens": steps[-1].trained_tokens,
            "peak_memory": self.peak_bytes / BYTES_PER_GB,
        }
