"""Calls a person about a run: what is worth it, to one channel, tried again where it fails."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine import events as ev
from engine.channels import APP, CannotCallError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from engine.callworthy import Call, CallKind, Callworthy
    from engine.channels import Channel

RETRY_SECONDS = (30.0, 300.0)
"""How long after a message did not go through it is tried again: networks come back."""
LAST_RETRY_SECONDS = 1.0
"""And once more at the end of a run, when nobody comes by any more."""
MOST_CHARACTERS = 900
"""Services cut what is longer, or refuse it."""


@dataclass(slots=True)
class _Attempt:
    """A call on its way, and when it is due."""

    call: Call
    due: float
    tries: int = 0


@dataclass(slots=True)
class _LogFile:
    """A run's log; what is said before the run has a folder waits for it."""

    path: Path
    waiting: list[str] = field(default_factory=list[str])

    def add(self, line: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self.waiting.append(f"{stamp} INFO calls: {line}\n")
        self.flush()

    def flush(self) -> None:
        if not self.waiting or not self.path.parent.is_dir():
            return
        with suppress(OSError), self.path.open("a", encoding="utf-8") as log:
            log.writelines(self.waiting)
        self.waiting.clear()


class Caller:
    """Tells one channel of a run: a callback, which has a thread of its own (engine.callbacks)."""

    def __init__(
        self,
        channel: Channel,
        worth: Callworthy,
        kinds: Collection[CallKind],
        run: str,
        log_file: Path,
        quiet_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Join what decides and what sends.

        Args:
            channel: the way to the person.
            worth: decides; not shared with another.
            kinds: what to call about.
            run: its name, for a title.
            log_file: the run's log.
            quiet_seconds: how long after its beginning nobody has to be called.
            clock: tells when to try again.
            wait: waits before the last try.
        """
        self.name = f"calls: {channel.name}"
        self._channel = channel
        self._worth = worth
        self._kinds = frozenset(kinds)
        self._run = run
        self._log = _LogFile(log_file)
        self._quiet_seconds = quiet_seconds
        self._began: float | None = None
        self._clock = clock
        self._wait = wait
        self._waiting: deque[_Attempt] = deque()
        self._warnings: deque[str] = deque()
        self._is_open: bool | None = None
        """None before it was tried."""
        self._is_failing = self._is_over = False

    def take_warnings(self) -> list[str]:
        """Return what the run should say of this since the last time; from any thread."""
        taken: list[str] = []
        while self._warnings:
            taken.append(self._warnings.popleft())
        return taken

    def on_event(self, event: ev.Event) -> None:
        """Take an event of the run, and call if it is worth it."""
        if self._is_open is None:
            self._open()
        self._log.flush()
        if not self._is_open:
            return
        if self._began is None:
            self._began = event.time
        now = self._clock()
        for call in self._worth.hear(event):
            is_quiet = call.time - self._began < self._quiet_seconds
            if call.kind in self._kinds and not is_quiet:
                self._waiting.append(_Attempt(call, now))
        if isinstance(event, ev.Ended):
            self._send_last()
        elif self._waiting and (due := [each for each in self._waiting if each.due <= now]):
            # One at a time: the next event comes within a second.
            self._try(due[0])

    def _open(self) -> None:
        self._is_open = True
        try:
            self._channel.open()
        except CannotCallError as error:
            self._is_open = False
            self._warn(f"{self._channel.name} is not called: {error}.")

    def _send_last(self) -> None:
        """Send what is left, the newest first, which says how it ended."""
        self._is_over = True
        for attempt in sorted(self._waiting, key=lambda each: each.call.time, reverse=True):
            began = self._clock()
            if not self._try(attempt) and self._clock() - began < LAST_RETRY_SECONDS:
                self._wait(LAST_RETRY_SECONDS)
                self._try(attempt)

    def _try(self, attempt: _Attempt) -> bool:
        call = attempt.call
        try:
            self._channel.send(f"{APP}: {self._run} {call.what}", call.text[:MOST_CHARACTERS])
        except CannotCallError as error:
            self._not_sent(attempt, str(error))
            return False
        self._drop(attempt)
        self._is_failing = False
        self._log.add(f"Told {self._channel.name}: {self._run} {call.what}")
        return True

    def _not_sent(self, attempt: _Attempt, why: str) -> None:
        words = f"Could not reach {self._channel.name} about “{attempt.call.what}”: {why}."
        self._log.add(words)
        # After a run's end there is only the log.
        if not self._is_failing and not self._is_over:
            self._is_failing = True
            self._warnings.append(f"{words} Training goes on.")
        if attempt.tries >= len(RETRY_SECONDS):
            self._drop(attempt)
            return
        attempt.due = self._clock() + RETRY_SECONDS[attempt.tries]
        attempt.tries += 1

    def _drop(self, attempt: _Attempt) -> None:
        with suppress(ValueError):
            self._waiting.remove(attempt)

    def _warn(self, text: str) -> None:
        self._warnings.append(text)


class Complaint:
    """A callback that only says once what is wrong with the calls themselves."""

    name = "calls"

    def __init__(self, texts: Collection[str]) -> None:
        self._texts = list(texts)

    def take_warnings(self) -> list[str]:
        """Return it, once."""
        taken, self._texts = self._texts, []
        return taken
