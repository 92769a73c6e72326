"""Speaks to a run in another process."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Self, cast

from engine.control import place
from engine.control.words import request
from engine.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from engine.control.words import Verb

ANSWER_SECONDS = 5.0
_RECEIVE_BYTES = 262_144
_ANSWERS = (b'{"reply"', b'{"error"')


class ControlClient:
    """A connection to a run's control socket."""

    def __init__(self, path: Path) -> None:
        """Connect.

        Raises:
            RunError: when nobody answers there.
        """
        try:
            self._connection = place.connect(path, ANSWER_SECONDS)
        except OSError as error:
            raise RunError(
                f"The run cannot be reached over {path}: {error.strerror or error}."
            ) from error
        self._received = b""
        self._lines: list[bytes] = []
        """Events that came while an answer was awaited."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def ask(self, verb: Verb, **values: Any) -> dict[str, Any]:
        """Ask something of the run and return the answer; the run does it when it can.

        Raises:
            RunError: when it refuses, or is gone.
        """
        end = time.monotonic() + ANSWER_SECONDS
        try:
            self._connection.settimeout(ANSWER_SECONDS)
            self._connection.sendall(request(verb, **values))
            while time.monotonic() < end:
                found = self._receive()
                self._lines += [line for line in found if not line.startswith(_ANSWERS)]
                for answer in (_parse(line) for line in found if line.startswith(_ANSWERS)):
                    if "error" in answer:
                        raise RunError(f"The run refused: {answer['error']}.")
                    return answer
        except OSError as error:
            raise _gone() from error
        raise _gone()

    def send(self, verb: Verb, **values: Any) -> None:
        """Ask something of the run without waiting for the answer.

        Raises:
            RunError: when the run is gone.
        """
        try:
            self._connection.settimeout(ANSWER_SECONDS)
            self._connection.sendall(request(verb, **values))
        except OSError as error:
            raise _gone() from error

    def read(self, timeout_seconds: float = 0.0) -> list[bytes]:
        """Return the events that came, as the journal has them; wait for the first if asked.

        Raises:
            RunError: when the run hung up and nothing is left to read.
        """
        lines, self._lines = self._lines, []
        try:
            # Zero means not to wait at all.
            self._connection.settimeout(0.0 if lines else timeout_seconds)
            while found := self._receive():
                lines += [line for line in found if not line.startswith(_ANSWERS)]
                self._connection.settimeout(0.0)
        except (BlockingIOError, TimeoutError):
            pass
        except OSError as error:
            if not lines:
                raise _gone() from error
        return lines

    def _receive(self) -> list[bytes]:
        """Whole lines, at least one.

        Raises:
            OSError: when nothing comes in time, or nothing will.
        """
        while True:
            data = self._connection.recv(_RECEIVE_BYTES)
            if not data:
                raise ConnectionResetError("the run hung up")
            *lines, self._received = (self._received + data).split(b"\n")
            if lines:
                return lines


def _parse(line: bytes) -> dict[str, Any]:
    try:
        values: Any = json.loads(line)
    except ValueError:
        return {}
    return cast("dict[str, Any]", values) if isinstance(values, dict) else {}


def _gone() -> RunError:
    return RunError("The run does not answer any more.", "See how it stands: lora-tui status")
