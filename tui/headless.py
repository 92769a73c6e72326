"""Lets a run train to its end without a screen, its output in its log."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from engine import events as ev
from tui.plain import PlainLines
from tui.signals import SIGNAL_EXIT_BASE

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

    from engine.session import Session
    from tui.terminal import StrayOutput

LOOK_SECONDS = 1.0
"""How often a run that loads is looked at; one that trains is only waited for."""


def train_on(session: Session, stray: StrayOutput, aside: TextIO | None = None) -> int:
    """Wait for a run's end without a screen; return the exit code.

    SIGTERM and SIGINT save and stop; a terminal that goes away does nothing more.

    Args:
        session: a run that was started.
        stray: what libraries say; it goes to the run's log as soon as there is one.
        aside: who is told how the loading goes.
    """
    told = PlainLines(aside, aside, 1) if aside else None
    seen = 0
    with _heard_signals(session):
        while session.is_alive() and not session.has_begun:
            count = session.wait_for_events(seen, LOOK_SECONDS)
            for event in session.events[seen:count]:
                if told is not None and isinstance(event, ev.Progress):
                    told.take(event)
            seen = count
        if session.has_begun:
            # A folder that is gone or full loses what libraries say, and nothing else.
            with suppress(OSError):
                stray.move_to(session.directory.log_file)
        # Woken by nothing but its end and signals.
        session.join()
    return session.exit_code


@contextmanager
def _heard_signals(session: Session) -> Generator[None]:
    def stop(number: int, _frame: FrameType | None) -> None:
        exit_code = SIGNAL_EXIT_BASE + number
        if not session.has_begun:
            os._exit(exit_code)
        session.stop(f"signal {signal.Signals(number).name}", "signal", exit_code)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
