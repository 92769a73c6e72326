"""Goes back in a run: what a screen showed at any of its iterations, from the events alone."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

from engine.events import Host, Step
from engine.view import RECENT_STEPS, TRACE_SAMPLES, RunView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.events import Event

_STEPS_FOLDED = 8 * RECENT_STEPS
"""Steps before a moment that its rates and its moving average are made of."""


class Timeline:
    """Knows where in a run's events each iteration that counts is; reads them once."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        self._iterations: array[int] = array("q")
        self._at: array[int] = array("q")
        """For each of them, its place among the events."""
        self._peaks: array[int] = array("q")
        """For each of them, the highest peak until then."""
        self._others: array[int] = array("q")
        """Places of all events that are no steps."""
        self._first_step: Step | None = None
        for place, event in enumerate(events):
            if isinstance(event, Step):
                self._first_step = self._first_step or event
                self._add(place, event)
            else:
                self._others.append(place)

    def __len__(self) -> int:
        return len(self._iterations)

    def view_at(self, place: int) -> RunView:
        """Give the run as it was after an iteration and what belonged to it.

        Args:
            place: the iteration's place in the history, from 0.
        """
        at = self._at[place]
        end = self._at[place + 1] if place + 1 < len(self) else len(self._events)
        until = bisect_left(self._others, end)
        chosen = [*self._others[:until], *self._at[max(0, place + 1 - _STEPS_FOLDED) : place + 1]]
        hosts = sum(isinstance(self._events[i], Host) for i in self._others[:until])
        view = RunView()
        for i in sorted(chosen):
            event = self._events[i]
            if isinstance(event, Host):
                hosts -= 1
                if hosts >= TRACE_SAMPLES:
                    continue
            # A later beginning takes steps back that are not among those folded here.
            view.apply(event)
        view.peak_bytes = self._peaks[place]
        if self._first_step is not None:
            view.first_step_time = self._first_step.time - self._first_step.seconds
        last = self._events[at]
        if isinstance(last, Step):
            view.last_step = last
        return view

    def time_at(self, place: int) -> float:
        """Give the moment at which an iteration was done."""
        return self._events[self._at[place]].time

    def _add(self, place: int, step: Step) -> None:
        while self._iterations and self._iterations[-1] >= step.iteration:
            for column in (self._iterations, self._at, self._peaks):
                column.pop()
        highest = self._peaks[-1] if self._peaks else 0
        self._iterations.append(step.iteration)
        self._at.append(place)
        self._peaks.append(max(highest, step.memory.peak))
