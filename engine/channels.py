"""Ways to a person: messages through Apprise, to whatever service there is, and macOS's own.

The addresses hold secrets, so no word that leaves this file has more of one than its scheme.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

SEND_SECONDS = 8.0
"""How long a message may take; less than a run that is over waits for all of them."""
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
        # It speaks as it is imported, too.
        _quieten()
        try:
            apprise: Any = importlib.import_module("apprise")
        except ImportError as error:
            raise CannotCallError(NO_APPRISE) from error
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
        with _Heard() as heard:
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
