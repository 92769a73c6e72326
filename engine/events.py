"""What a run says of itself: frozen facts, the only language between engine and everything else.

Sizes are bytes, times are seconds, ``time`` is seconds since the epoch. In JSON an event is one
flat object with its kind under ``event``; a number that is not finite is written as ``null`` and
comes back as NaN.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from engine.data_facts import Preflight  # noqa: TC001 - read when events are built
from engine.memory_facts import Memory as Memory
from engine.memory_facts import MemoryPlan as MemoryPlan
from engine.plain_values import build, plain_fields

Pressure = Literal["green", "yellow", "red"]
CheckpointReason = Literal[
    "scheduled", "requested", "best", "pressure", "pause", "stop", "signal", "final"
]
GuardAction = Literal["shrink", "pause", "resume", "abort", "skip_batch", "reload"]
Policy = Literal["watch", "protect", "abort"]
PausedBy = Literal["person", "guard"]
EndStatus = Literal["completed", "stopped", "aborted", "failed"]
Stage = Literal[
    "libraries", "download", "model", "data", "plan", "check", "evaluate", "sample", "test"
]  # fmt: skip
StepMethod = Literal["layers", "whole-graph"]
WarningAbout = Literal["", "stall"]
TroubleShape = Literal[
    "loss_spike", "divergence", "plateau", "overfitting", "memory_creep", "pace_decay"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Anything that happened in a run."""

    kind: ClassVar[str] = ""
    time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """Work besides training began or moved on: loading, evaluating, sampling."""

    kind: ClassVar[str] = "progress"
    stage: Stage
    message: str
    done: int = 0
    total: int = 0
    """0 when the amount of work is not known; bytes while downloading."""
    per_second: float | None = None
    """How fast it goes lately; None when that is not known."""
    seconds_left: float | None = None
    trouble: str = ""
    """What is in the way right now, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRead(Event):
    """The data was read, tokenised and planned; what is to be known of it."""

    kind: ClassVar[str] = "data"
    preflight: Preflight


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Event):
    """The run is ready for its first step; what it will do is known."""

    kind: ClassVar[str] = "started"
    name: str
    run_dir: str
    model: str
    data: str
    iterations: int
    updates: int
    epochs: float
    """Passes over the training rows that the iterations amount to."""
    tokens: int
    """Positions that will be trained on (padding and masked prompts not counted)."""
    train_rows: int
    valid_rows: int
    batch_size: int
    grad_accumulation_steps: int
    micro_batch: int
    """Rows evaluated at once inside a step."""
    widths: tuple[int, ...]
    """The widths in tokens that batches are padded to."""
    trainable_parameters: int
    total_parameters: int
    step: StepMethod
    step_reason: str
    """Why the step is evaluated so."""
    device: str
    budget: int
    """Bytes that the run may use."""
    plan: MemoryPlan
    working_set: int | None = None
    """Bytes that the device recommends one process to use; None where it does not say."""
    iteration: int = 0
    """The last iteration already done: 0 for a fresh run. Later ones in the journal are undone."""
    parent: str = ""
    """The run and iteration that this one was forked from, as ``RUN@4500``."""
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    versions: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed(Event):
    """The widest step was tried before training; nothing was learned from it."""

    kind: ClassVar[str] = "probed"
    width: int
    """Tokens a row was padded to."""
    rows: int
    planned: int
    """MLX's peak in bytes as the plan had it."""
    peak: int
    """The one that was measured."""
    seconds: float
    """Of a step; compilation left out."""
    micro_batch: int
    """Rows evaluated at once from now on."""
    planned_micro_batch: int
    """And before."""
    plan: MemoryPlan
    """The plan after what was measured."""
    eta_seconds: float | None = None
    eta_low_seconds: float | None = None
    eta_high_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Event):
    """One iteration was trained."""

    kind: ClassVar[str] = "step"
    iteration: int
    loss: float
    """Mean cross entropy in nats per trained token of this batch; NaN when not finite."""
    learning_rate: float
    tokens: int
    seconds: float
    tokens_per_second: float
    iterations_per_second: float
    trained_tokens: int
    memory: Memory
    eta_seconds: float | None
    gradient_norm: float | None = None
    """Norm of the accumulated gradient at an update; None between updates."""
    updates: int = 0
    """Optimiser updates made so far."""
    width: int = 0
    """Tokens a row was padded to."""
    micro_batch: int = 0
    epoch: float = 0.0
    eta_low_seconds: float | None = None
    eta_high_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated(Event):
    """The validation rows were measured."""

    kind: ClassVar[str] = "evaluated"
    iteration: int
    val_loss: float
    best: bool
    """Whether this is the lowest validation loss of the run so far."""
    seconds: float
    tokens: int
    memory: Memory = field(default_factory=Memory)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved(Event):
    """The adapters are on disk, durable."""

    kind: ClassVar[str] = "checkpoint"
    iteration: int
    path: str
    reason: CheckpointReason
    seconds: float
    bytes: int = 0
    val_loss: float | None = None
    """The newest validation loss when it was saved; None before the first evaluation."""
    best: bool = False
    """Whether it has the lowest validation loss of the run so far."""
    removed: tuple[int, ...] = ()
    """Iterations whose checkpoints gave way to this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointDeleted(Event):
    """Somebody deleted a checkpoint; those that gave way to a newer one are named by that one."""

    kind: ClassVar[str] = "deleted"
    iteration: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Host(Event):
    """How the machine is. None where a figure cannot be read."""

    kind: ClassVar[str] = "host"
    pressure: Pressure | None
    swap_used: int | None = None
    swap_growth: int | None = None
    """Since the run started."""
    thermal: str | None = None
    on_battery: bool | None = None
    to_yellow: float | None = None
    """Share of the way still left to yellow: 1 far, 0 there."""
    available: int | None = None
    memory_total: int | None = None
    footprint: int | None = None
    disk_free: int | None = None
    battery_percent: float | None = None
    swap_out_bytes_per_second: float | None = None
    compressor: int | None = None
    """Physical memory that holds compressed pages."""
    wired: int | None = None
    lid_closed: bool | None = None
    display_awake: bool | None = None
    run_growth: int | None = None
    """What this run uses more than when the machine was last calm."""
    others_growth: int | None = None
    """What everything else uses more than when the machine was last calm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard(Event):
    """The guard did something on its own."""

    kind: ClassVar[str] = "guard"
    action: GuardAction
    why: str
    iteration: int = 0
    micro_batch: int | None = None
    """Rows that a step evaluates at once from now on, where that changed."""
    freed: int | None = None
    """Bytes that came back by it; None where that was not measured."""
    offer: dict[str, int] = field(default_factory=dict[str, int])
    """Settings with which the run needs less memory, when it was stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(Event):
    """Training stands still after this iteration."""

    kind: ClassVar[str] = "paused"
    iteration: int
    reason: str = "asked"
    by: PausedBy = "person"
    freed: int | None = None
    """Bytes that came back by it; None where that was not measured."""
    deep: bool = False
    """Whether the base weights were given back too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Event):
    """Training goes on."""

    kind: ClassVar[str] = "resumed"
    iteration: int
    paused_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChanged(Event):
    """A person chose what the guard does when memory runs short."""

    kind: ClassVar[str] = "policy"
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Slept(Event):
    """The machine was asleep until now; no rate counts the time."""

    kind: ClassVar[str] = "slept"
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled(Event):
    """The model answered a fixed prompt."""

    kind: ClassVar[str] = "sampled"
    iteration: int
    prompt: str
    text: str
    base: bool = False
    """Whether the base model answered, without the adapter."""
    seconds: float = 0.0
    tokens: int = 0
    """Of the answer."""
    cut: bool = False
    """Whether it was longer than tokens, time or memory allowed."""
    memory: Memory = field(default_factory=Memory)
    """Its peak is the answer's own; all 0 in older journals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested(Event):
    """The test rows were measured, once, at the end."""

    kind: ClassVar[str] = "tested"
    iteration: int
    test_loss: float
    perplexity: float
    loss_low: float
    """The 95 % interval of the loss per token, from its spread over rows; NaN with one row."""
    loss_high: float
    rows: int
    tokens: int
    seconds: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(Event):
    """Something the person should know, which stopped nothing."""

    kind: ClassVar[str] = "warning"
    message: str
    about: WarningAbout = ""
    """What programs may want to know it by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble(Event):
    """The numbers have the shape of a known trouble; said once, and never acted on."""

    kind: ClassVar[str] = "trouble"
    shape: TroubleShape
    iteration: int
    words: str
    """What was seen, with the numbers that show it."""
    suggestion: str
    evidence: dict[str, float] = field(default_factory=dict[str, float])
    """The same numbers by name: losses in nats, sizes in bytes, times in seconds."""

    @property
    def message(self) -> str:
        """What was seen and what to do about it."""
        return f"{self.words} {self.suggestion}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Event):
    """The run is over. Nothing follows."""

    kind: ClassVar[str] = "ended"
    status: EndStatus
    iteration: int
    reason: str
    exit_code: int = 0
    hint: str = ""


KINDS: dict[str, type[Event]] = {
    kind.kind: kind
    for kind in (
        Progress, DataRead, Started, Probed, Step, Evaluated, CheckpointSaved, CheckpointDeleted,
        Host, Guard, Paused, Resumed, PolicyChanged, Slept, Sampled, Tested, Warned, Trouble,
        Ended,
    )
}  # fmt: skip


def to_dict(event: Event) -> dict[str, Any]:
    """Return an event as plain JSON values, its kind first."""
    return {"event": event.kind, **plain_fields(event)}


def to_json(event: Event) -> str:
    """Return an event as one line of JSON, without the line's end."""
    return json.dumps(to_dict(event), ensure_ascii=False, allow_nan=False)


def from_dict(values: dict[str, Any]) -> Event | None:
    """Build an event from its plain form; None for a kind that this version does not know.

    Fields that this version does not know are left out, so that a newer run can still be read.

    Raises:
        TypeError: when a field that has no default is missing.
    """
    kind = KINDS.get(values.get("event", ""))
    return None if kind is None else build(kind, values)
