"""Carries out what the guard orders, on the trainer's thread: between layers and between steps."""

from __future__ import annotations

import ctypes
import time
from typing import TYPE_CHECKING

import mlx.core as mx

from engine.guard import Pause, Tighten
from engine.host_events import guard_event
from engine.step import LayerStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine import events as ev
    from engine.guard import Action, Pulse
    from engine.mailbox import Mailbox
    from engine.step import Stepper


class Heed:
    """What a step asks between layers; memory is given back then, not a whole step later."""

    def __init__(self, mailbox: Mailbox, pulse: Pulse, stepper: Stepper) -> None:
        self._mailbox = mailbox
        self._pulse = pulse
        self._stepper = stepper
        self._shrunk: list[tuple[Action, float, int]] = []
        """Each with its time and the bytes held before it."""
        self._pause: Pause | None = None
        """The newest that was ordered and not carried out."""
        self._has_dropped = False
        """Whether the micro-batch in flight was given up when this was asked last."""

    def should_stop(self) -> bool:
        """Whether to drop the step in flight at once; does first what can be done within it."""
        if self._has_dropped:
            self._has_dropped = False
            give_back()
        self._obey()
        return self._mailbox.should_stop()

    def is_ending(self) -> bool:
        """Whether the run is to end."""
        self._obey()
        return self._mailbox.stop_wish() is not None

    def micro_batch(self) -> int:
        """How many rows to evaluate at once from now on."""
        return self._mailbox.micro_batch()

    def done(self, iteration: int) -> Iterator[ev.Event]:
        """Between steps: finish what was begun within one, and say what came of it.

        Args:
            iteration: the last one done.
        """
        self._obey()
        if not self._shrunk:
            return
        # What the step in flight held of the larger size is free by now.
        give_back()
        shrunk, self._shrunk = self._shrunk, []
        for action, when, before in shrunk:
            yield guard_event(action, when, iteration, max(before - held_bytes(), 0))

    def is_deep(self) -> bool:
        """Whether the pause that was ordered is to give the base weights back too."""
        self._obey()
        return self._pause is not None and self._pause.is_deep

    def paused(self, iteration: int, freed_bytes: int) -> Iterator[ev.Event]:
        """Say that the run stands still as it was ordered, if it was."""
        self._obey()
        pause, self._pause = self._pause, None
        if pause is not None:
            yield guard_event(pause, time.time(), iteration, freed_bytes)

    def resumed(self, iteration: int) -> Iterator[ev.Event]:
        """Say that the run goes on as it was ordered, if it was."""
        if (resume := self._mailbox.take_resume()) is not None:
            yield guard_event(resume, time.time(), iteration)

    def _obey(self) -> None:
        for action in self._mailbox.take_orders():
            if isinstance(action, Pause):
                self._pause = action
                continue
            before = held_bytes()
            if isinstance(action, Tighten):
                mx.set_cache_limit(action.cache_limit_bytes)
                keep_nothing(self._stepper)
                self._pulse.keeps(0)
            give_back()
            self._has_dropped = True
            self._shrunk.append((action, time.time(), before))


def keep_nothing(stepper: Stepper) -> None:
    """Let a step compute again what it kept to save time, from the next micro-batch on."""
    if isinstance(stepper, LayerStep):
        stepper.keep_at_most(0)


def held_bytes() -> int:
    """Return what MLX holds of the machine's memory, in bytes."""
    return mx.get_active_memory() + mx.get_cache_memory()


def give_back() -> int:
    """Give what is not in use back to the operating system; return the bytes that MLX let go."""
    before = held_bytes()
    mx.clear_cache()
    # On Linux the C library keeps what MLX frees. Source: malloc_trim(3).
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return max(before - held_bytes(), 0)
