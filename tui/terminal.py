"""Keeps apart what is meant for whoever reads the streams and what libraries print on their own."""

from __future__ import annotations

import errno
import logging
import os
import sys
import tempfile
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

OUTPUT, ERROR = 1, 2
_NO_TERMINAL = (errno.EIO, errno.ENXIO)
"""What writing to a terminal that was closed fails with: Linux, macOS."""
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def has_person() -> bool:
    """Whether somebody sits before this program: it reads from and writes to a terminal."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def is_served() -> bool:
    """Whether textual-serve shows this program in a browser."""
    return os.environ.get("TEXTUAL_DRIVER", "").endswith(":WebDriver")


def say(text: str, stream: TextIO) -> None:
    """Write a line for a person, who may be gone."""
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except OSError:
        # Otherwise the same is tried again, and fails again, when the stream is closed.
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), stream.fileno())


@contextmanager
def data_stream() -> Generator[TextIOWrapper]:
    """Give the standard output for data; all else that is printed goes to standard error."""
    if sys.stdout is None:
        # Closed by whoever started this.
        with Path(os.devnull).open("w", encoding="utf-8") as nothing:
            yield nothing
        return
    sys.stdout.flush()
    stream = _lines_to(os.dup(OUTPUT))
    os.dup2(ERROR, OUTPUT)
    try:
        yield stream
    finally:
        os.dup2(stream.fileno(), OUTPUT)
        # What nobody reads any more cannot be flushed.
        with suppress(OSError):
            stream.close()


class StrayOutput:
    """While the dashboard has the screen, what libraries print and log goes to a file.

    That is a run's log once the run has a folder, and a temporary file until then. The terminal is
    written to through ``screen``, and by Textual through ``sys.__stdout__`` and ``sys.__stderr__``,
    which stand for it meanwhile.
    """

    screen: TextIO
    """The terminal, for what a person should read."""

    def __init__(self) -> None:
        self._cleanup = ExitStack()
        self._waiting: IO[bytes] | None = None
        self._strays = _lines_to(ERROR, closefd=False)

    def __enter__(self) -> Self:
        with ExitStack() as cleanup:
            cleanup.enter_context(_kept_descriptors())
            self.screen = cleanup.enter_context(_Screen(os.dup(OUTPUT)))
            cleanup.enter_context(_on_screen(self.screen))
            cleanup.enter_context(redirect_stdout(self._strays))
            cleanup.enter_context(redirect_stderr(self._strays))
            cleanup.enter_context(_logging_to(self._strays))
            self.hold()
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._strays.flush()
        self._cleanup.close()
        if self._waiting:
            self._waiting.close()

    @property
    def unclaimed(self) -> str:
        """What was said that is in no run's log."""
        if self._waiting is None:
            return ""
        size = os.fstat(self._waiting.fileno()).st_size
        # Not by reading: that would move the place where others write.
        return os.pread(self._waiting.fileno(), size, 0).decode(errors="replace")

    def hold(self) -> None:
        """Collect what is said from now on until a log takes it."""
        self._waiting = tempfile.TemporaryFile()  # noqa: SIM115 - closed when a log takes it over
        _point_at(self._waiting)

    def take_prints(self) -> None:
        """Collect what is printed from Python also while Textual runs, which would swallow it."""
        sys.stdout = sys.stderr = self._strays

    def move_to(self, log_file: Path) -> None:
        """Append what was said so far, and all that follows, to a run's log."""
        with log_file.open("ab", buffering=0) as log:
            _point_at(log)
            log.write(self.unclaimed.encode())
        if self._waiting:
            self._waiting.close()
            self._waiting = None


class _Screen(TextIOWrapper):
    """Writes to a terminal as long as there is one, and to nowhere afterwards.

    Otherwise Textual's thread that writes would die of a closed terminal, loudly.
    """

    def __init__(self, descriptor: int) -> None:
        raw = os.fdopen(descriptor, "wb")
        super().__init__(
            raw, encoding="utf-8", errors="backslashreplace", newline="\n", line_buffering=True
        )

    def write(self, text: str, /) -> int:
        """Write, also where nobody can read it any more."""
        try:
            return super().write(text)
        except OSError as error:
            self._survive(error)
            return len(text)

    def flush(self) -> None:
        """Let the terminal have it."""
        try:
            super().flush()
        except OSError as error:
            self._survive(error)

    def _survive(self, error: OSError) -> None:
        if error.errno not in _NO_TERMINAL:
            raise error
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), self.fileno())


def _lines_to(descriptor: int, *, closefd: bool = True) -> TextIOWrapper:
    return os.fdopen(
        descriptor,
        "w",
        buffering=1,
        encoding="utf-8",
        errors="backslashreplace",
        newline="\n",
        closefd=closefd,
    )


def _point_at(file: IO[bytes]) -> None:
    for descriptor in (OUTPUT, ERROR):
        os.dup2(file.fileno(), descriptor)


@contextmanager
def _kept_descriptors() -> Generator[None]:
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {descriptor: os.dup(descriptor) for descriptor in (OUTPUT, ERROR)}
    try:
        yield
    finally:
        for descriptor, copy in kept.items():
            os.dup2(copy, descriptor)
            os.close(copy)


@contextmanager
def _on_screen(screen: TextIO) -> Generator[None]:
    """Let what Textual takes for the terminal be the terminal."""
    before = {name: getattr(sys, name) for name in ("__stdout__", "__stderr__")}
    for name in before:
        setattr(sys, name, screen)
    try:
        yield
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)


@contextmanager
def _logging_to(stream: TextIOWrapper) -> Generator[None]:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(handler)
