"""Recognises trouble by the shape of a run's numbers; says each once, and acts on none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine import events as ev
from engine.trouble.learning import LearningShapes
from engine.trouble.loss import LossShapes
from engine.trouble.machine import MachineShapes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engine.trouble.finding import Finding

__all__ = ["TroubleWatch", "told"]


class TroubleWatch:
    """Follows a run event by event; some microseconds a step."""

    def __init__(self, past: Iterable[ev.Event] = ()) -> None:
        """Begin, with what the run's journal has already; nothing of that is said again.

        Args:
            past: the events before, oldest first; ``Started`` of this process last.
        """
        self._loss = LossShapes()
        self._learning = LearningShapes()
        self._machine = MachineShapes()
        self._said: set[ev.TroubleShape] = set()
        self._iteration = 0
        for event in past:
            self._follow(event)

    def take(self, event: ev.Event) -> Iterator[ev.Trouble]:
        """Take what happened, and yield what it shows for the first time."""
        for finding in self._follow(event):
            if finding.shape not in self._said:
                self._said.add(finding.shape)
                yield ev.Trouble(
                    time=event.time,
                    shape=finding.shape,
                    iteration=self._iteration,
                    words=finding.words,
                    suggestion=finding.suggestion,
                    evidence=finding.evidence,
                )

    def _follow(self, event: ev.Event) -> list[Finding]:
        found: list[Finding] = []
        match event:
            case ev.Step():
                self._iteration = event.iteration
                found += self._loss.step(event)
                self._learning.step(event)
                found += self._machine.step(event)
            case ev.Evaluated():
                found += self._learning.evaluated(event)
            case ev.Started():
                self._go_back(event.iteration)
                self._learning.begin(event.iterations)
                self._machine.begin(event.budget)
            case ev.Guard(action="reload"):
                self._go_back(event.iteration)
            case ev.Paused() | ev.Resumed() | ev.Guard():
                self._machine.disturb()
            case ev.Trouble():
                self._said.add(event.shape)
            case _:
                pass
        return found

    def _go_back(self, iteration: int) -> None:
        """What came after an iteration is undone."""
        if iteration < self._iteration:
            self._loss = LossShapes()
        self._learning.go_back(iteration)
        self._iteration = iteration


def told(events: Iterable[ev.Event], watch: TroubleWatch) -> Iterator[ev.Event]:
    """Yield events, and after each what trouble it shows."""
    for event in events:
        yield event
        yield from watch.take(event)
