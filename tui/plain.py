"""Follows a run without a dashboard, in readable lines or in the journal's own."""

from __future__ import annotations

import errno
import logging
import os
import signal
from contextlib import contextmanager, suppress
from logging.handlers import MemoryHandler
from typing import TYPE_CHECKING, TextIO

from engine import events as ev
from engine.event_words import in_words
from tui import words
from tui.signals import ENDING_SIGNALS, SIGNAL_EXIT_BASE
from tui.terminal import ERROR, LOG_FORMAT, say

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path
    from types import FrameType

    from engine.session import Session

LOOK_SECONDS = 1.0
DOWNLOAD_SECONDS = 10.0
"""How often it is said how far a download is."""
BROKEN_PIPE_EXIT = SIGNAL_EXIT_BASE + signal.SIGPIPE
FAILED_EXIT = 1
STOPPING = b"\nStopping, and saving what was trained. The same again leaves at once.\n"


class JsonLines:
    """Prints what the journal gets, in the same words."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def take(self, event: ev.Event) -> None:
        """Print an event.

        Raises:
            OSError: when nobody can take it.
        """
        _print(self._out, ev.to_json(event))


class PlainLines:
    """Says a run in lines: every so many iterations the mean over them, and all that is rarer."""

    def __init__(self, out: TextIO, aside: TextIO, steps_per_report: int) -> None:
        self._out = out
        self._aside = aside
        """Where it says what it loads."""
        self._every = steps_per_report
        self._iterations = 0
        self._steps: list[ev.Step] = []
        self._said, self._said_at, self._trouble = "", 0.0, ""

    def take(self, event: ev.Event) -> None:
        """Print an event, if it is worth a line.

        Raises:
            OSError: when nobody can take it.
        """
        match event:
            case ev.Step():
                self._take_step(event)
                return
            case ev.Progress():
                self._take_progress(event)
                return
            case ev.DataRead(preflight=data):
                # Its notes and warnings were said as they came up.
                for line in (*data.figures(), *data.shown_example()):
                    _print(self._out, words.printable(line))
                return
            case ev.Started():
                self._iterations = event.iterations
                text = in_words(event)
            case ev.Warned():
                text = f"Warning: {event.message}"
            case ev.Ended(status="failed"):
                text = f"Failed at {event.iteration:,}"
            case _:
                text = in_words(event)
        if text:
            _print(self._out, words.one_line(text))

    def _take_progress(self, event: ev.Progress) -> None:
        if self._iterations:
            return
        text, is_due = f"{event.message}…", event.message != self._said
        if event.stage == "download" and (how_far := words.transfer(event)):
            text = f"{event.message}: {how_far}"
            is_over = event.total > 0 and event.done == event.total
            is_late = event.time - self._said_at >= DOWNLOAD_SECONDS
            is_due = is_due or is_over or is_late or event.trouble != self._trouble
        # Work that counts how far it is says the same again and again.
        if is_due:
            self._said, self._said_at, self._trouble = event.message, event.time, event.trouble
            say(words.one_line(text), self._aside)

    def _take_step(self, step: ev.Step) -> None:
        self._steps.append(step)
        if step.iteration % self._every and step.iteration != self._iterations:
            return
        steps, self._steps = self._steps, []
        tokens = sum(s.tokens for s in steps)
        seconds = sum(s.seconds for s in steps)
        # A batch without a single trained token has no loss.
        loss = sum(s.loss * s.tokens for s in steps if s.tokens) / max(tokens, 1)
        whole = f"{self._iterations:,}"
        parts = (
            f"{step.iteration:>{len(whole)},} / {whole}",
            f"loss {words.loss(loss)}",
            f"lr {step.learning_rate:.2e}",
            f"{words.significant(tokens / seconds)} tok/s",
            f"{words.significant(len(steps) / seconds)} it/s",
            f"peak {words.size(max(s.memory.peak for s in steps))}",
            f"{words.duration(step.eta_seconds)} left",
        )
        _print(self._out, "  ".join(parts))


def follow(session: Session, lines: JsonLines | PlainLines) -> int:
    """Start a run, print it line by line, and return the exit code once it is over.

    A signal stops the run, which saves; a second one, or one before there is anything to save,
    leaves at once. A reader that goes away stops it too.
    """
    seen = 0
    is_read, is_over = True, False
    with _heard_signals(session), _log_kept() as keep_log:
        session.start()
        while not is_over:
            is_over = not session.is_alive()
            count = session.wait_for_events(seen, LOOK_SECONDS)
            for event in session.events[seen:count]:
                if isinstance(event, ev.Started):
                    keep_log(session.directory.log_file)
                is_over = is_over or isinstance(event, ev.Ended)
                is_read = is_read and _take(session, lines, event)
            seen = count
        session.join()
    return session.exit_code


def _print(out: TextIO, text: str) -> None:
    out.write(f"{text}\n")
    out.flush()


def _take(session: Session, lines: JsonLines | PlainLines, event: ev.Event) -> bool:
    """Print an event; where nobody can take it any more, stop the run and return False."""
    try:
        lines.take(event)
    except BrokenPipeError:
        session.stop("nobody reads the output any more", "signal", BROKEN_PIPE_EXIT)
    except OSError as error:
        # The terminal is gone, and the run is meant to outlive it.
        if error.errno == errno.EIO and session.config.on_hangup == "continue":
            return False
        session.stop(f"the output cannot be written: {error.strerror}", "stop", FAILED_EXIT)
    else:
        return True
    return False


@contextmanager
def _log_kept() -> Generator[Callable[[Path], None]]:
    """Show what libraries warn of, and give a way to keep it in a run's log too."""
    waiting = MemoryHandler(capacity=1, target=None)
    handlers = (waiting, logging.StreamHandler())
    root = logging.getLogger()

    def keep(log_file: Path) -> None:
        log = logging.FileHandler(log_file, encoding="utf-8", delay=True)
        log.setFormatter(logging.Formatter(LOG_FORMAT))
        waiting.setTarget(log)
        waiting.flush()

    logging.captureWarnings(True)
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield keep
    finally:
        logging.captureWarnings(False)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


@contextmanager
def _heard_signals(session: Session) -> Generator[None]:
    heard: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP and session.config.on_hangup == "continue":
            return
        exit_code = SIGNAL_EXIT_BASE + number
        if heard or not session.has_begun:
            os._exit(exit_code)
        heard.append(number)
        # Past Python's streams, which may be in the middle of writing something.
        with suppress(OSError):
            os.write(ERROR, STOPPING)
        session.stop(f"signal {signal.Signals(number).name}", "signal", exit_code)

    # Those that whoever started this told it to ignore, like nohup, stay ignored.
    numbers = [n for n in ENDING_SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
