"""Folds a run's events into ``RunView``, the state that any front end draws.

The same fold serves a run in this process, one in another process and one that ended last week.
Histories are columns of plain numbers, so that a million steps stay small and quick to draw.
"""

from __future__ import annotations

import math
import typing
from array import array
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Literal

from engine import events as ev
from engine.event_words import in_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.data_facts import Preflight

Status = Literal["loading", "training", "paused", "completed", "stopped", "aborted", "failed"]
GuardState = Literal["calm", "shrunk", "paused", "stopped"]
"""What the guard has done to the run that still holds."""

TRACE_SAMPLES = 3600
"""One hour of host samples at 1 Hz."""
LOG_LINES = 5000
MOST_SAMPLES = 2000
"""Answers that are kept; the base model's go last."""
RECENT_STEPS = 50
"""Steps that the current rates are averaged over."""


@dataclass(slots=True)
class StepHistory:
    """One column per figure, one entry per iteration."""

    iteration: array[int] = field(default_factory=lambda: array("q"))
    loss: array[float] = field(default_factory=lambda: array("d"))
    learning_rate: array[float] = field(default_factory=lambda: array("d"))
    gradient_norm: array[float] = field(default_factory=lambda: array("d"))
    """NaN between updates."""
    tokens: array[int] = field(default_factory=lambda: array("q"))
    """Trained tokens since the start of the run."""
    seconds: array[float] = field(default_factory=lambda: array("d"))
    """Training time of this iteration."""
    time: array[float] = field(default_factory=lambda: array("d"))
    cuts: int = 0
    """How often the end was taken back, so that who drew it knows."""

    def __len__(self) -> int:
        return len(self.iteration)

    def append(self, step: ev.Step) -> None:
        """Add one iteration."""
        norm = step.gradient_norm
        self.iteration.append(step.iteration)
        self.loss.append(step.loss)
        self.learning_rate.append(step.learning_rate)
        self.gradient_norm.append(math.nan if norm is None else norm)
        self.tokens.append(step.trained_tokens)
        self.seconds.append(step.seconds)
        self.time.append(step.time)

    def cut(self, iteration: int) -> None:
        """Forget everything after an iteration."""
        kept = bisect_right(self.iteration, iteration)
        self.cuts += 1
        for column in fields(self):
            if isinstance(values := getattr(self, column.name), array):
                del values[kept:]


@dataclass(frozen=True, slots=True)
class LogLine:
    """One event in words."""

    time: float
    kind: str
    text: str


@dataclass(slots=True)
class RunView:
    """Everything that a screen shows of one run."""

    status: Status = "loading"
    activity: str = ""
    """What goes on besides training ("evaluating"), or nothing."""
    started: ev.Started | None = None
    ended: ev.Ended | None = None
    data: Preflight | None = None
    """What is to be known of the data; None until it is read."""
    probed: ev.Probed | None = None
    """What the widest step took before training; None when it was not tried."""
    steps: StepHistory = field(default_factory=StepHistory)
    last_step: ev.Step | None = None
    average_loss: float = math.nan
    """Exponential moving average of the training loss, corrected for its start."""
    evaluations: list[ev.Evaluated] = field(default_factory=list[ev.Evaluated])
    best: ev.Evaluated | None = None
    checkpoints: list[ev.CheckpointSaved] = field(default_factory=list[ev.CheckpointSaved])
    guard_actions: list[ev.Guard] = field(default_factory=list[ev.Guard])
    policy: ev.Policy = "protect"
    """What the guard does when memory runs short."""
    guard_state: GuardState = "calm"
    paused_by: ev.PausedBy | None = None
    """Who made the run stand still; None while it goes on."""
    samples: list[ev.Sampled] = field(default_factory=list[ev.Sampled])
    tested: ev.Tested | None = None
    host: ev.Host | None = None
    host_trace: deque[ev.Host] = field(default_factory=lambda: deque(maxlen=TRACE_SAMPLES))
    memory: ev.Memory = field(default_factory=ev.Memory)
    peak_bytes: int = 0
    """The highest of MLX's peaks over the whole run."""
    log: deque[LogLine] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    skipped_batches: int = 0
    paused_seconds: float = 0.0
    slept_seconds: float = 0.0
    """How long the machine was asleep."""
    slept_since_step_seconds: float = 0.0
    """How long the machine slept since the last step: no time in which it could be trained."""
    first_step_time: float | None = None
    version: int = 0
    """Grows with every event, so that a screen knows when to draw again."""
    _average: float = 0.0
    _average_weight: float = 0.0

    @property
    def iteration(self) -> int:
        """The last iteration done."""
        if self.last_step is not None:
            return self.last_step.iteration
        return self.started.iteration if self.started else 0

    @property
    def progress(self) -> float:
        """Share of the iterations that are done, 0 to 1."""
        return self.iteration / self.started.iterations if self.started else 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.ended is not None

    @property
    def last_guard_action(self) -> ev.Guard | None:
        """The newest thing that the guard did; None while it did nothing."""
        return self.guard_actions[-1] if self.guard_actions else None

    @property
    def tokens_per_second(self) -> float:
        """Trained tokens per second of training over the last steps; 0 before two steps."""
        count = min(len(self.steps), RECENT_STEPS)
        if count < 2:
            return 0.0
        seconds = sum(self.steps.seconds[-count + 1 :])
        return (self.steps.tokens[-1] - self.steps.tokens[-count]) / seconds if seconds else 0.0

    @property
    def iterations_per_second(self) -> float:
        """Iterations per second of training over the last steps; 0 before the first."""
        recent = self.steps.seconds[-RECENT_STEPS:]
        seconds = sum(recent)
        return len(recent) / seconds if seconds else 0.0

    def apply_all(self, events: Iterable[ev.Event]) -> None:
        """Fold several events, oldest first."""
        for event in events:
            self.apply(event)

    def apply(self, event: ev.Event) -> None:  # noqa: C901 - one short case per kind of event
        """Fold one event into the state."""
        self.version += 1
        match event:
            case ev.Step():
                self._apply_step(event)
                return
            case ev.Host():
                self.host = event
                self.host_trace.append(event)
                return
            case ev.Progress():
                self.activity = event.message
                if event.stage == "libraries":
                    self.ended, self.status = None, "loading"
            case ev.Started():
                self._apply_started(event)
            case ev.DataRead() | ev.Probed() | ev.Tested():
                self._apply_finding(event)
            case ev.Evaluated():
                self._apply_evaluated(event)
            case ev.CheckpointSaved():
                self._apply_checkpoint(event)
            case ev.CheckpointDeleted(iteration=gone):
                self.checkpoints = [c for c in self.checkpoints if c.iteration != gone]
            case ev.Guard():
                self._apply_guard(event)
            case ev.Paused() | ev.Resumed():
                self._apply_pause(event)
            case ev.PolicyChanged():
                self.policy = event.policy
            case ev.Slept():
                self.slept_seconds += event.seconds
                self.slept_since_step_seconds += event.seconds
            case ev.Sampled():
                self._apply_sampled(event)
            case ev.Ended():
                self.ended, self.status, self.activity = event, event.status, ""
            case _:
                pass
        if text := in_words(event):
            self.log.append(LogLine(event.time, event.kind, text))

    def _apply_finding(self, event: ev.DataRead | ev.Probed | ev.Tested) -> None:
        self.activity = ""
        match event:
            case ev.Probed():
                self.probed = event
            case ev.Tested():
                self.tested = event
            case ev.DataRead():
                self.data = event.preflight

    def _apply_started(self, event: ev.Started) -> None:
        self.started = event
        self.ended = self.tested = None
        self._go_back(event.iteration)
        self.status, self.activity, self.paused_by = "training", "", None
        self.guard_state = "calm"
        policy = event.config.get("on_pressure")
        if policy in typing.get_args(ev.Policy):
            self.policy = typing.cast("ev.Policy", policy)

    def _apply_pause(self, event: ev.Paused | ev.Resumed) -> None:
        if isinstance(event, ev.Paused):
            self.status, self.activity, self.paused_by = "paused", "", event.by
        else:
            self.status, self.paused_by = "training", None
            self.paused_seconds += event.paused_seconds

    def _apply_guard(self, event: ev.Guard) -> None:
        self.guard_actions.append(event)
        match event.action:
            case "shrink":
                self.guard_state = "shrunk"
            case "pause":
                self.guard_state = "paused"
            case "resume":
                has_shrunk = any(done.action == "shrink" for done in self.guard_actions)
                self.guard_state = "shrunk" if has_shrunk else "calm"
            case "abort":
                self.guard_state = "stopped"
            case "reload":
                self._go_back(event.iteration)
            case "skip_batch":
                self.skipped_batches += 1

    def _go_back(self, iteration: int) -> None:
        """Undo what came after an iteration: the run goes on from there."""
        # A run that begins anew also measures the untrained model again.
        kept = iteration or -1
        self.evaluations = [e for e in self.evaluations if e.iteration <= kept]
        self.best = next((e for e in reversed(self.evaluations) if e.best), None)
        self.checkpoints = [c for c in self.checkpoints if c.iteration <= kept]
        self.samples = [s for s in self.samples if s.iteration <= kept]
        if self.last_step is None or self.last_step.iteration <= iteration:
            return
        self.steps.cut(iteration)
        self.last_step = replace(self.last_step, iteration=iteration)
        self._average = self._average_weight = 0.0
        self.average_loss = math.nan
        for loss in self.steps.loss:
            self._add_to_average(loss)

    def _apply_checkpoint(self, event: ev.CheckpointSaved) -> None:
        gone = {*event.removed, event.iteration}
        self.checkpoints = [c for c in self.checkpoints if c.iteration not in gone]
        self.checkpoints.append(event)

    def _apply_sampled(self, event: ev.Sampled) -> None:
        self.samples.append(event)
        self.peak_bytes = max(self.peak_bytes, event.memory.peak)
        self.activity = ""
        if len(self.samples) > MOST_SAMPLES:
            oldest = next((i for i, s in enumerate(self.samples) if not s.base), 0)
            del self.samples[oldest]

    def _apply_evaluated(self, event: ev.Evaluated) -> None:
        self.evaluations.append(event)
        self.activity = ""
        if event.best:
            self.best = event

    def _apply_step(self, step: ev.Step) -> None:
        self.last_step, self.slept_since_step_seconds = step, 0.0
        self.activity = ""
        self.steps.append(step)
        self.memory = step.memory
        self.peak_bytes = max(self.peak_bytes, step.memory.peak)
        if self.first_step_time is None:
            self.first_step_time = step.time - step.seconds
        self._add_to_average(step.loss)

    def _add_to_average(self, loss: float) -> None:
        if math.isfinite(loss):
            self._average = 0.98 * self._average + 0.02 * loss
            self._average_weight = 0.98 * self._average_weight + 0.02
            self.average_loss = self._average / self._average_weight
