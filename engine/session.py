"""Owns a run's trainer thread: the only module that knows threads.

Everything that touches MLX happens on that one thread. Others read the append-only ``events`` by
index from wherever they stopped, and put wishes into the mailbox.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from engine import events as ev
from engine.awake import keep_awake
from engine.callbacks import Callbacks
from engine.card import describe
from engine.checkpoint import FULL_DISK, RESERVE_BYTES
from engine.control import ControlServer
from engine.device_errors import device_error
from engine.endings import as_run_error, stopped_while_loading
from engine.errors import DiskFullError, InputError, LoraTuiError, RunError
from engine.guard import EXIT_CODE, Abort, Guard, Pulse, Warn
from engine.host import open_host
from engine.host_events import guard_event, host_event, slept_event
from engine.journal import Journal
from engine.lock import RunLock
from engine.mailbox import Mailbox, Stop
from engine.mlx_thread import begin_thread, end_thread
from engine.report.keep import leave_report
from engine.reporters import reporters_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.awake import KeepAwake
    from engine.config import RunConfig
    from engine.events import CheckpointReason, Policy
    from engine.guard import Action, TrainingFacts
    from engine.host import HostSampler
    from engine.mailbox import Job
    from engine.resume import Resume
    from engine.runs import RunDirectory

HOST_SECONDS = 1.0
FAILED, BAD_INPUT = 1, 2


class Session:
    """One run in this process, from loading to its end."""

    def __init__(
        self,
        config: RunConfig,
        directory: RunDirectory,
        resume: Resume | None = None,
        past: Sequence[ev.Event] = (),
        callbacks: Sequence[object] = (),
    ) -> None:
        """Make a run that is not started yet.

        Args:
            config: the settings.
            directory: where its files go.
            resume: the checkpoint to go on from; None begins anew.
            past: what the journal has already, for who wants to see the whole run.
            callbacks: objects that are told of the run: mlx-lm's ``TrainingCallback``, or with
                more methods (see ``engine.callbacks``).
        """
        self.config = config
        self.directory = directory
        self.error: LoraTuiError | None = None
        """What ended the run, when it failed."""
        self._resume = resume
        self._events: list[ev.Event] = list(past)
        self._past = len(self._events)
        self._is_ended = False
        self._grown = threading.Condition()
        self._journal: Journal | None = None
        self._journaled = self._past
        self._journal_waits = False
        """Whether a full disk keeps events from being written."""
        self._callbacks = Callbacks(
            [*reporters_of(config, directory), *callbacks], config.steps_per_report
        )
        self._lock = RunLock(directory.lock_file)
        self._mailbox = Mailbox()
        self._over = threading.Event()
        self._footprint: int | None = None
        self._guard = Guard(config)
        self._pulse = Pulse()
        self._policy: Policy = config.on_pressure
        self._awake: KeepAwake | None = None
        # Daemons, so that a wedged device call cannot hold the shell.
        self._trainer = threading.Thread(target=self._train, name="trainer", daemon=True)
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._control: ControlServer | None = None
        self._controller: threading.Thread | None = None

    @property
    def events(self) -> Sequence[ev.Event]:
        """Everything that happened so far; only ever appended to."""
        return self._events

    @property
    def exit_code(self) -> int:
        """What the process should return: 0 until the run ended badly."""
        last = self._events[-1] if self._is_ended else None
        return last.exit_code if isinstance(last, ev.Ended) else 0

    @property
    def has_begun(self) -> bool:
        """Whether the run is on disk, and goes on from there."""
        return self._journal is not None

    def start(self) -> None:
        """Begin loading and training."""
        # The trainer waits for the watcher when it ends, which may be at once.
        self._watcher.start()
        self._trainer.start()

    def pause(self, reason: str = "asked") -> None:
        """Stand still after the step in flight."""
        self._mailbox.pause(reason)

    def resume(self) -> None:
        """Go on."""
        self._mailbox.resume()

    def checkpoint(self) -> None:
        """Save after the step in flight."""
        self._mailbox.request("checkpoint")

    def evaluate(self) -> None:
        """Measure the validation rows after the step in flight."""
        self._mailbox.request("evaluate")

    def sample(self) -> None:
        """Answer the fixed prompts after the step in flight."""
        self._mailbox.request("sample")

    def set_policy(self, policy: Policy) -> None:
        """Choose what the guard does from now on when memory runs short."""
        if policy == self._policy:
            return
        self._policy = policy
        # What the journal does not take now, the trainer meets at its next event, and ends.
        with suppress(RunError):
            self._record(ev.PolicyChanged(time=time.time(), policy=policy))

    def lend(self, job: Job) -> None:
        """Have something done with the model while the run stands still, on its own thread."""
        self._mailbox.lend(job)

    def stop(
        self,
        reason: str = "stopped as asked",
        checkpoint_reason: CheckpointReason = "stop",
        exit_code: int = 0,
    ) -> None:
        """Save and end; the step in flight is dropped."""
        self._mailbox.stop(Stop(reason, checkpoint_reason, exit_code))

    def is_alive(self) -> bool:
        """Whether more events may come."""
        return self._trainer.is_alive()

    def join(self, timeout_seconds: float | None = None) -> bool:
        """Wait for the run's end; return whether it ended."""
        if self._trainer.ident is not None:
            self._trainer.join(timeout_seconds)
        return not self._trainer.is_alive()

    def wait_for_events(self, seen: int, timeout_seconds: float) -> int:
        """Sleep until there are more than ``seen`` events or the time is up; return how many."""
        with self._grown:
            self._grown.wait_for(
                lambda: len(self._events) > seen or self._over.is_set(), timeout_seconds
            )
            return len(self._events)

    def unwritten(self) -> list[ev.Event]:
        """Return the events that wait for room on the disk."""
        with self._grown:
            waiting = self._events[self._journaled :] if self._journal_waits else []
        return [event for event in waiting if not _is_passing(event)]

    def _train(self) -> None:
        """The trainer thread, from the first import of MLX to its last statement."""
        try:
            with keep_awake(os.getpid()) as self._awake:
                self._run()
        except LoraTuiError as error:
            self._fail(error, BAD_INPUT if isinstance(error, InputError) else FAILED)
        except Exception as error:  # noqa: BLE001 - the thread's boundary: nothing may pass it
            known = device_error(str(error))
            self._fail(known or as_run_error(error, self.directory), FAILED)
        finally:
            self._close()

    def _run(self) -> None:
        self._record(
            ev.Progress(
                time=time.time(), stage="libraries", message="loading MLX and its libraries"
            )
        )
        begin_thread()
        from engine.train import train

        with ThreadPoolExecutor(1, "writer") as writer:
            for event in train(
                self.config,
                self.directory,
                self._mailbox,
                lambda: self._footprint,
                resume=self._resume,
                claim=self._lock.acquire,
                aside=writer.submit,
                pulse=self._pulse,
            ):
                self._record(event)
                if isinstance(event, ev.Started):
                    self._open_control()
                if self._journal is None and (stop := self._mailbox.stop_wish()):
                    self._record(stopped_while_loading(stop))
                    return

    def _open_control(self) -> None:
        """Let other processes watch and steer; a run that cannot be reached trains all the same."""
        run = self.directory
        try:
            self._control = ControlServer(run.control_socket, run.journal_file, self)
        except OSError as error:
            message = f"Other terminals can watch this run but not steer it: {error}"
            self._record(ev.Warned(time=time.time(), message=message))
            return
        self._controller = threading.Thread(target=self._control.serve, name="control", daemon=True)
        self._controller.start()

    def _fail(self, error: LoraTuiError, exit_code: int) -> None:
        # Where it was raised hangs on everything that the run held.
        error.__traceback__ = error.__cause__ = error.__context__ = None
        self.error = error
        new = self._events[self._past :]
        done = next((e.iteration for e in reversed(new) if isinstance(e, ev.Step)), 0)
        # A disk that failed the run takes no last words either; who watches has them.
        with suppress(RunError):
            self._record(
                ev.Ended(
                    time=time.time(),
                    status="failed",
                    iteration=done,
                    reason=error.message,
                    hint=error.hint,
                    exit_code=exit_code,
                )
            )

    def _close(self) -> None:
        self._over.set()
        with self._grown:
            self._grown.notify_all()
        self._watcher.join(2 * HOST_SECONDS)
        self._callbacks.close(self.directory.log_file if self._journal else None)
        if self._journal:
            with suppress(OSError):
                self._flush()
            self._journal.close()
            is_whole = self._past or self._resume is None or self._resume.parent
            describe(self.directory, self.config, self._events if is_whole else None)
            leave_report(self.directory, None if self._resume else self._events)
        if self._control and self._controller:
            self._control.close()
            self._controller.join(2 * HOST_SECONDS)
        self._lock.release()
        end_thread()

    def _record(self, event: ev.Event) -> None:
        """Append an event, and write it to the journal once the run has a directory.

        Raises:
            RunError: when the journal cannot be written.
        """
        with self._grown:
            # The watcher may have looked at the machine while the run ended.
            if self._is_ended:
                return
            self._is_ended = isinstance(event, ev.Ended)
            self._events.append(event)
            self._grown.notify_all()
            if self._journal is not None or isinstance(event, ev.Started):
                self._write_down()
            for problem in self._callbacks.deliver(event):
                self._record(ev.Warned(time=time.time(), message=problem))

    def _write_down(self) -> None:
        try:
            self._flush()
        except OSError as error:
            path = self.directory.journal_file
            if error.errno not in FULL_DISK:
                raise RunError(
                    f"The journal {path} cannot be written: {error}",
                    "Make it writable. The checkpoints saved before are intact.",
                ) from error
            if not self._journal_waits:
                self._journal_waits = True
                self._wait_for_space(DiskFullError(path.parent, RESERVE_BYTES, 0))

    def _flush(self) -> None:
        self._journal = self._journal or Journal(self.directory.journal_file)
        while self._journaled < len(self._events):
            event = self._events[self._journaled]
            if not _is_passing(event):
                self._journal.append(event)
            self._journaled += 1
        if self._journal_waits:
            self._journal_waits = False
            self._mailbox.resume("disk")

    def _wait_for_space(self, error: DiskFullError) -> None:
        """Stand still; events wait in memory, and the watcher tries again every second."""
        self._mailbox.pause(error.message, "disk")
        why = f"{error.message} Training goes on by itself once there is space."
        self._events.append(ev.Guard(time=time.time(), action="pause", why=why))

    def _watch(self) -> None:
        """The watcher thread: samples the machine once a second while the run lasts."""
        with open_host(self.directory.path) as host:
            while not self._over.wait(HOST_SECONDS):
                self._look(host)

    def _look(self, host: HostSampler) -> None:
        sample = host.sample()
        self._footprint = sample.footprint_bytes
        facts = self._facts()
        action = self._guard.look(sample, facts)
        if self._over.is_set():
            return
        # What the journal does not take now, the trainer meets at its next event, and ends.
        with suppress(RunError):
            if slept := slept_event(sample):
                self._record(slept)
            self._record(host_event(sample, self._guard.growth))
        with suppress(RunError):
            if action is not None:
                self._order(action, facts.iteration)

    def _facts(self) -> TrainingFacts:
        """Tell the guard how the run stands, from the watcher's thread."""
        mx = sys.modules.get("mlx.core")
        # While the trainer imports it, the module is there before its functions are.
        if mx is not None and not hasattr(mx, "get_cache_memory"):
            mx = None
        facts = self._pulse.facts(
            self._policy,
            micro_batch=self._mailbox.micro_batch(),
            active_bytes=mx.get_active_memory() if mx else None,
            cache_bytes=mx.get_cache_memory() if mx else None,
            is_kept_awake=self._awake is None or self._awake.is_awake,
        )
        hold = self._mailbox.hold()
        if facts.paused_by == "guard" and hold is not None and hold.by != "guard":
            # Whoever holds it too, the guard does not let it go on.
            return replace(facts, paused_by="person")
        return facts

    def _order(self, action: Action, iteration: int) -> None:
        """Hand on what the guard decided; what the trainer need not do is said at once."""
        if isinstance(action, Warn | Abort):
            if isinstance(action, Abort):
                if self._mailbox.stop_wish():
                    return
                self._mailbox.stop(Stop(action.why, "pressure", EXIT_CODE))
            self._record(guard_event(action, time.time(), iteration))
        else:
            self._mailbox.order(action)


def _is_passing(event: ev.Event) -> bool:
    """Whether an event is of no use later: how far a download was, four times a second."""
    return (
        isinstance(event, ev.Progress)
        and event.stage == "download"
        and 0 < event.done < event.total
    )
