"""What a report says, as plain facts: one pass over a run's events, whatever their number."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine import events as ev
from engine.report.series import Columns, Series, Stretch
from engine.report.story import Story
from engine.view import RunView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.report.story import Moment
    from engine.view import Status

SETTLED_STEPS = 10
"""Iterations after which the first estimate of the time is taken, where nothing was probed."""


@dataclass(frozen=True, slots=True)
class Took:
    """Where a run's time went, in seconds."""

    running: float = 0.0
    """While a process worked on it: all of the below."""
    loading: float = 0.0
    """Until the first step was ready."""
    training: float = 0.0
    measuring: float = 0.0
    """Evaluations, samples and the test."""
    paused: float = 0.0
    asleep: float = 0.0
    away: float = 0.0
    """Between two processes; no part of ``running``."""


@dataclass(frozen=True, slots=True)
class Strain:
    """How hard the machine had it, in seconds of each."""

    short: float = 0.0
    """Of memory."""
    hot: float = 0.0
    on_battery: float = 0.0
    has_others_grown: bool = False
    """Whether other programs, more than the run, made memory short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run so far, or as it ended."""

    name: str
    """What to type for it."""
    folder: str
    status: Status | str
    """Also ``interrupted``: its process ended without a word."""
    began: float
    ended: float
    """When it last said something."""
    iteration: int = 0
    started: ev.Started | None = None
    """How it was begun last; None when it never came to its first step."""
    end: ev.Ended | None = None
    evaluations: tuple[ev.Evaluated, ...] = ()
    best: ev.Evaluated | None = None
    tested: ev.Tested | None = None
    saved: tuple[ev.CheckpointSaved, ...] = ()
    """Checkpoints that are there still, oldest first."""
    samples: tuple[ev.Sampled, ...] = ()
    """The newest answers of base and adapter to each prompt."""
    train_loss: float = math.nan
    """Over the last steps."""
    trained_tokens: int = 0
    planned_peak_bytes: int = 0
    """MLX's peak as it was planned; after the probe, if there was one."""
    peak_bytes: int = 0
    footprint_bytes: int | None = None
    """The most that the system charged the process with; None where it cannot be read."""
    swap_bytes: float = 0.0
    """The most that the machine had in swap."""
    planned: tuple[float, float, float] | None = None
    """Seconds that all iterations were to take when it began, with the least and the most."""
    took: Took = field(default_factory=Took)
    strain: Strain = field(default_factory=Strain)
    skipped_batches: int = 0
    offer: dict[str, int] = field(default_factory=dict[str, int])
    """Smaller settings that the guard offered when it stopped the run."""
    troubles: tuple[ev.Trouble, ...] = ()
    moments: tuple[Moment, ...] = ()
    series: Series = field(default_factory=Series)

    @property
    def iterations(self) -> int:
        """How many were planned; 0 when that was never known."""
        return self.started.iterations if self.started else 0

    @property
    def budget_bytes(self) -> int:
        """What the run might use."""
        return self.started.budget if self.started else 0

    @property
    def best_saved(self) -> ev.CheckpointSaved | None:
        """The checkpoint with the lowest validation loss if there is one, else the newest."""
        best = self.best.iteration if self.best else -1
        newest = self.saved[-1] if self.saved else None
        return next((saved for saved in self.saved if saved.iteration == best), newest)

    @property
    def tokens_per_second(self) -> float:
        """Trained tokens per second of training."""
        return self.trained_tokens / self.took.training if self.took.training else 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it by itself."""
        return self.end is not None or self.status == "interrupted"


def gather(events: Iterable[ev.Event], name: str, folder: str, *, is_alive: bool) -> Report:
    """Return the facts of a run.

    Args:
        events: all that happened, oldest first.
        name: what to type for the run.
        folder: where it is.
        is_alive: whether a process trains it.
    """
    gatherer = _Gatherer()
    for event in events:
        gatherer.take(event)
    return gatherer.report(name, folder, is_alive=is_alive)


class _Gatherer:
    """Folds events; steps and samples of the machine, of which there are many, into columns."""

    def __init__(self) -> None:
        self._view = RunView()
        self._story = Story()
        self._columns = Columns()
        self._running: list[Stretch] = []
        self._began: float | None = None
        """When the process that works on the run now began."""
        self._first = self._last = 0.0
        self._iteration = 0
        self._first_step: ev.Step | None = None
        self._planned: tuple[float, float, float] | None = None
        self._loading = self._measuring = self._asleep = 0.0
        self._begun_at = math.nan
        self._troubles: list[ev.Trouble] = []
        self._offer: dict[str, int] = {}

    def take(self, event: ev.Event) -> None:
        """Take the next event."""
        if isinstance(event, ev.Step):
            self._take_step(event)
        elif isinstance(event, ev.Host):
            self._columns.add_host(event)
            self._story.look(event)
        else:
            self._take_rare(event)
        if self._began is None:
            self._began = event.time
            self._first = self._first or event.time
        self._last = event.time

    def report(self, name: str, folder: str, *, is_alive: bool) -> Report:
        """Return what was gathered."""
        self._leave()
        view, story, columns = self._view, self._story, self._columns
        moments = story.moments()
        status = view.status if view.is_over or is_alive else "interrupted"
        footprint = max(columns.footprint, default=-1)
        recent = [loss for loss in columns.loss[-50:] if math.isfinite(loss)]
        plan = view.probed.plan if view.probed else view.started.plan if view.started else None
        return Report(
            name=name,
            folder=folder,
            status=status,
            began=self._first,
            ended=self._last,
            iteration=self._iteration,
            started=view.started,
            end=view.ended,
            evaluations=tuple(e for e in view.evaluations if math.isfinite(e.val_loss)),
            best=view.best,
            tested=view.tested,
            saved=tuple(view.checkpoints),
            samples=_newest(view.samples),
            train_loss=sum(recent) / len(recent) if recent else math.nan,
            trained_tokens=sum(columns.tokens),
            planned_peak_bytes=plan.peak if plan else 0,
            peak_bytes=max(columns.peak, default=0),
            footprint_bytes=None if footprint < 0 else footprint,
            swap_bytes=max((s for s in columns.swap if math.isfinite(s)), default=0.0),
            planned=self._planned,
            took=self._took(),
            strain=Strain(
                story.yellow_seconds,
                story.hot_seconds,
                story.battery_seconds,
                story.has_others_grown,
            ),
            skipped_batches=view.skipped_batches,
            offer=self._offer,
            troubles=tuple(self._troubles),
            moments=moments,
            series=columns.series(self._running, story.still),
        )

    def _take_step(self, step: ev.Step) -> None:
        self._columns.add_step(step)
        self._iteration = step.iteration
        self._first_step = self._first_step or step
        if self._planned is None and step.eta_seconds is not None:
            done = step.iteration - self._first_step.iteration
            if done >= SETTLED_STEPS:
                self._plan(step.time, step)

    def _take_rare(self, event: ev.Event) -> None:
        self._begin_process(event)
        self._story.take(event, self._iteration)
        self._view.apply(event)
        match event:
            case ev.Started():
                self._go_back(event.iteration)
            case ev.Guard(action="reload"):
                self._go_back(event.iteration)
            case ev.Guard(offer=offer) if offer:
                self._offer = offer
            case ev.Evaluated() | ev.Tested() | ev.Sampled():
                self._measuring += event.seconds
            case ev.Slept():
                self._asleep += event.seconds
            case ev.Probed() if self._planned is None:
                self._plan(event.time, event)
            case ev.Trouble():
                self._troubles.append(event)
            case _:
                pass

    def _begin_process(self, event: ev.Event) -> None:
        """Notice where another process takes the run up: it loads its libraries first."""
        is_loading = isinstance(event, ev.Progress) and event.stage == "libraries"
        if is_loading or (isinstance(event, ev.Started) and not math.isnan(self._begun_at)):
            self._leave()
        if isinstance(event, ev.Started):
            self._begun_at = event.time
            self._loading += event.time - (event.time if self._began is None else self._began)

    def _plan(self, now: float, told: ev.Step | ev.Probed) -> None:
        """Note what the whole run was to take, from its first step on."""
        if told.eta_seconds is None:
            return
        # What was spent in a pause or asleep until now was planned by nobody.
        spent = max(0.0, now - self._begun_at - self._asleep - self._view.paused_seconds)
        low = told.eta_seconds if told.eta_low_seconds is None else told.eta_low_seconds
        high = told.eta_seconds if told.eta_high_seconds is None else told.eta_high_seconds
        self._planned = (spent + told.eta_seconds, spent + low, spent + high)

    def _go_back(self, iteration: int) -> None:
        self._iteration = iteration
        self._columns.go_back(iteration)

    def _leave(self) -> None:
        """The process that worked on the run is gone."""
        if self._began is not None:
            self._running.append(Stretch(self._began, self._last))
            self._story.leave(self._last)
        self._began, self._begun_at = None, math.nan

    def _took(self) -> Took:
        running = sum(stretch.seconds for stretch in self._running)
        whole = self._last - self._first
        pauses = sum(stretch.seconds for stretch in self._story.still)
        return Took(
            running=running,
            loading=self._loading,
            training=sum(self._columns.seconds),
            measuring=self._measuring,
            paused=max(0.0, pauses - self._asleep),
            asleep=self._asleep,
            away=max(0.0, whole - running),
        )


def _newest(samples: Iterable[ev.Sampled]) -> tuple[ev.Sampled, ...]:
    newest = {(sample.prompt, sample.base): sample for sample in samples}
    return tuple(newest.values())
