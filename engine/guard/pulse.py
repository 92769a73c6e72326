"""Carries the facts of a run from the trainer, which makes them, to the guard's samples."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.guard.facts import TrainingFacts
from engine.guard.pace import StepNorms

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from engine.events import PausedBy, Policy
    from engine.guard.facts import Phase


class Pulse:
    """What the trainer does at this moment; written by it, read from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with loading; ``clock`` stands still while the machine sleeps."""
        self._clock = clock
        self._lock = threading.Lock()
        self._norms = StepNorms()
        self._facts = TrainingFacts(seconds=clock(), phase="loading")
        self._step: tuple[int, float] | None = None
        """Width and beginning of the step in flight."""

    def is_ready(self, *, is_metal: bool) -> None:
        """Say that loading is over."""
        self._change(phase="training", is_metal=is_metal)

    def begin_step(self, width: int) -> None:
        """Say that a step of a width in tokens begins."""
        with self._lock:
            self._step = (width, self._clock())

    def end_step(self, iteration: int, seconds: float) -> None:
        """Say that the step in flight was done as this iteration, and what it took."""
        with self._lock:
            if self._step is None:
                return
            (width, _), self._step = self._step, None
            # Measured against the steps before it, not against itself.
            norm = self._norms.norm(width)
            self._norms.add(width, seconds)
            self._facts = replace(
                self._facts, iteration=iteration, step_seconds=seconds, step_norm_seconds=norm
            )

    def drop_step(self) -> None:
        """Say that the step in flight was given up."""
        with self._lock:
            self._step = None

    @contextmanager
    def phase(self, phase: Phase) -> Generator[None]:
        """Say what is done besides training, as long as the block lasts."""
        before = self._facts.phase
        self._change(phase=phase)
        try:
            yield
        finally:
            self._change(phase=before)

    def pause(self, by: PausedBy, *, is_deep: bool = False) -> None:
        """Say that training stands still, or who wants it to now."""
        self._change(paused_by=by, is_deep=is_deep)

    def resume(self) -> None:
        """Say that training goes on."""
        self._change(paused_by=None, is_deep=False)

    def saved(self, checkpoint_bytes: int) -> None:
        """Say how large the newest checkpoint is."""
        self._change(checkpoint_bytes=checkpoint_bytes)

    def keeps(self, kept_bytes: int) -> None:
        """Say what a step keeps only so as not to compute it twice."""
        self._change(kept_bytes=kept_bytes)

    def facts(
        self,
        policy: Policy,
        *,
        micro_batch: int,
        active_bytes: int | None = None,
        cache_bytes: int | None = None,
        is_kept_awake: bool = True,
    ) -> TrainingFacts:
        """Return the facts of this moment.

        Args:
            policy: as it is set now.
            micro_batch: rows that a step evaluates at once.
            active_bytes: MLX's counter; None before MLX is loaded.
            cache_bytes: MLX's counter; None before MLX is loaded.
            is_kept_awake: whether something keeps the machine from going to sleep.
        """
        with self._lock:
            now = self._clock()
            width, began = self._step or (0, now)
            return replace(
                self._facts,
                seconds=now,
                policy=policy,
                micro_batch=micro_batch,
                active_bytes=active_bytes,
                cache_bytes=cache_bytes,
                is_kept_awake=is_kept_awake,
                in_flight_seconds=now - began if self._step else None,
                in_flight_norm_seconds=self._norms.norm(width) if self._step else None,
            )

    def _change(self, **changes: object) -> None:
        with self._lock:
            self._facts = replace(self._facts, **changes)  # pyright: ignore[reportArgumentType]
