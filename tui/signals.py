"""Hears the signals that end a program, and notices a terminal that is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
from queue import Queue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.driver import Driver

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
INTERRUPT, HANG_UP = signal.SIGINT, signal.SIGHUP
SIGNAL_EXIT_BASE = 128


def hear(heard: Callable[[signal.Signals], None]) -> None:
    """Call back on the event loop, between two of its tasks, for each ending signal."""
    loop = asyncio.get_running_loop()
    for number in ENDING_SIGNALS:
        loop.add_signal_handler(number, heard, number)


def has_terminal() -> bool:
    """Whether the program reads from a terminal."""
    return sys.__stdin__ is not None and not sys.__stdin__.closed and sys.__stdin__.isatty()


def is_terminal_gone() -> bool:
    """Whether the terminal that the program read from was closed.

    Not every closed terminal sends SIGHUP, and reading on from one would spin.
    """
    if sys.__stdin__ is None:
        return False
    try:
        termios.tcgetattr(sys.__stdin__.fileno())
    except (termios.error, ValueError, OSError):
        return True
    return False


def write_without_waiting(driver: Driver | None) -> None:
    """Let what is still written to a terminal that is gone never wait for somebody to read it.

    Textual's queue of writes is bounded, and its thread dies with the terminal: the app would hang.
    """
    writes = getattr(getattr(driver, "_writer_thread", None), "_queue", None)
    if isinstance(writes, Queue):
        writes.maxsize = 0


def say(words: str) -> None:
    """Write a line to the shell's screen, past whatever captures output."""
    if sys.__stdout__ is not None:
        sys.__stdout__.write(f"{words}\n")
        sys.__stdout__.flush()


def stop_process_group() -> None:
    """Stop this job as the shell would on ctrl+z, until ``fg``."""
    os.killpg(os.getpgrp(), signal.SIGTSTP)
