"""Calls a person: messages through Apprise, to whatever service the person has, and macOS's own.

The addresses hold secrets, so no word that leaves this file has more of one than its scheme.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import subprocess
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from engine import events as ev

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from engine.callworthy import Call, CallKind, Callworthy

SEND_SECONDS = 8.0
"""How long a message may take; less than a run that is over waits for all of them."""
RETRY_SECONDS = (30.0, 300.0)
"""How long after a message did not go through it is tried again: networks come back."""
LAST_RETRY_SECONDS = 1.0
"""And once more at the end of a run, when nobody comes by any more."""
MOST_CHARACTERS = 900
"""Services cut what is longer, or refuse it."""
APP = "lora-tui"
NO_APPRISE = (
    "calls: Apprise is not installed here, so nobody is called. "
    "Get it with: uv pip install 'lora-tui[calls]', or uv pip install apprise"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,19})://.")
_REASONS = (
    (re.compile(r"error=(\d{3})\b"), "the service answered {0}"),
    (re.compile(r"timed? ?out", re.IGNORECASE), "timed out"),
    (re.compile(r"refused", re.IGNORECASE), "the connection was refused"),
    (re.compile(r"resol|name or service|nodename", re.IGNORECASE), "its host is not known here"),
    (re.compile(r"certificate|ssl", re.IGNORECASE), "its certificate is not trusted"),
    (re.compile(r"unreachable|no route", re.IGNORECASE), "there is no network to it"),
)
"""What Apprise logs, and how that is said without its words, which may hold the address."""
_NOTIFICATION = (
    "on run argv",
    "display notification (item 2 of argv) with title (item 1 of argv)",
    "end run",
)


class CannotCallError(Exception):
    """A message did not go through; the words are safe to show."""


class Channel(Protocol):
    """A way to a person."""

    name: str
    """Without secrets."""

    def open(self) -> None:
        """Make ready, on the thread that sends.

        Raises:
            CannotCallError: when nothing can ever be sent.
        """
        ...

    def send(self, title: str, text: str) -> None:
        """Send a message, in bounded time.

        Raises:
            CannotCallError: when it did not go through.
        """
        ...


class AppriseChannel:
    """A service by its Apprise URL."""

    def __init__(
        self, url: str, name: str = "", place: str = "", seconds: float = SEND_SECONDS
    ) -> None:
        """Know where messages go; nothing is imported or sent yet.

        Args:
            url: as Apprise takes it.
            name: what it is called in words; by default its scheme.
            place: where the person wrote it.
            seconds: how long a message may take.
        """
        self._url = url
        self._place = place
        self._seconds = seconds
        self._service: Any = None
        self._last: threading.Thread | None = None
        self.name = name or masked(url)

    def open(self) -> None:
        """Have Apprise read the URL.

        Raises:
            CannotCallError: when Apprise is not there, or does not know such a URL.
        """
        try:
            apprise: Any = importlib.import_module("apprise")
        except ImportError as error:
            raise CannotCallError(NO_APPRISE) from error
        _quieten()
        asset = apprise.AppriseAsset(app_id=APP, app_desc=APP, async_mode=False)
        with suppress(Exception):
            self._service = apprise.Apprise.instantiate(self._url, asset=asset)
        if self._service is None:
            where = f" ({self._place})" if self._place else ""
            raise CannotCallError(f"Apprise knows no such address{where}")

    def send(self, title: str, text: str) -> None:
        """Send a message; one that takes too long is left behind.

        Raises:
            CannotCallError: when it did not go through.
        """
        if self._last is not None and self._last.is_alive():
            raise CannotCallError("the message before is still on its way")
        outcome: list[str] = []

        def deliver() -> None:
            outcome.append(self._notify(title, text))

        self._last = threading.Thread(target=deliver, name="call", daemon=True)
        self._last.start()
        self._last.join(self._seconds)
        reason = outcome[0] if outcome else f"no answer within {self._seconds:.0f} s"
        if reason:
            raise CannotCallError(reason)

    def _notify(self, title: str, text: str) -> str:
        """Return why it did not go through; empty when it did."""
        with _heard_apprise() as heard:
            try:
                if self._service.notify(title=title, body=text):
                    return ""
            except Exception as error:  # noqa: BLE001 - a service's own code, whose words may tell
                return f"{type(error).__name__} in Apprise"
        return _reason(heard.lines)


class MacNotification:
    """macOS's notification centre, by way of ``osascript``; see ``man osascript``."""

    name = "a notification on this Mac"

    def __init__(self, run: Callable[..., Any] = subprocess.run) -> None:
        self._run = run

    def open(self) -> None:
        """Nothing to make ready."""

    def send(self, title: str, text: str) -> None:
        """Show it. Title and text are the script's arguments, never part of the script.

        Raises:
            CannotCallError: when it cannot be shown.
        """
        script = [part for line in _NOTIFICATION for part in ("-e", line)]
        try:
            # What follows the title is no option, whatever it begins with.
            self._run(
                ["/usr/bin/osascript", *script, f"{APP}: {title.removeprefix(f'{APP}: ')}", text],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=SEND_SECONDS,
                check=True,
            )
        except subprocess.TimeoutExpired as error:
            raise CannotCallError("timed out") from error
        except (OSError, subprocess.CalledProcessError) as error:
            raise CannotCallError("osascript failed") from error


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


def masked(url: str) -> str:
    """Return of an address what is no secret: its scheme. Even a host may be a token."""
    match = _SCHEME.match(url)
    return f"{match[1].lower()}://…" if match else "…"


def is_address(text: str) -> bool:
    """Whether a text may be an Apprise URL, as far as that shows without Apprise."""
    return _SCHEME.match(text) is not None


def has_apprise() -> bool:
    """Whether Apprise is installed; does not import it."""
    return importlib.util.find_spec("apprise") is not None


class _Heard(logging.Handler):
    """Keeps what Apprise logs on one thread."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._thread = threading.get_ident()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.lines.append(record.getMessage())

    def __enter__(self) -> _Heard:
        logging.getLogger("apprise").addHandler(self)
        return self

    def __exit__(self, *_error: object) -> None:
        logging.getLogger("apprise").removeHandler(self)


def _heard_apprise() -> _Heard:
    return _Heard()


def _quieten() -> None:
    """Keep Apprise's log, which names addresses, out of the run's and off the terminal."""
    log = logging.getLogger("apprise")
    log.propagate = False
    # Its reasons are in its debug lines.
    log.setLevel(logging.DEBUG)
    if not log.handlers:
        log.addHandler(logging.NullHandler())


def _reason(lines: list[str]) -> str:
    for pattern, words in _REASONS:
        for line in lines:
            if match := pattern.search(line):
                return words.format(*match.groups())
    return "the service did not take it"
