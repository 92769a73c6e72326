"""Tries the widest step before the first one: the plan is measured before a night is spent.

A probe changes nothing of a run: no update is applied, gradients are thrown away, and what a step
draws follows from seed, iteration and row alone. It is left out where it would take more than
``MOST_SHARE`` of the run, as in a demo of a minute.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import mlx.core as mx
import numpy as np

from engine import events as ev
from engine.answers import with_samples
from engine.step import LayerStep, StepInterrupted, run_step

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from engine.data.plan import Batch, BatchPlan
    from engine.eta import EtaEstimator
    from engine.mailbox import Mailbox
    from engine.prepare import Prepared
    from engine.state import State
    from engine.step import Control

STEPS = 2
"""The first compiles; before the second, gradients stand as between two steps of an update."""
MOST_SHARE = 0.02
"""Of the positions still to come, what the probe's may be."""


class Trial(Protocol):
    """What a probe needs of a run."""

    @property
    def prepared(self) -> Prepared:
        """The run, ready for its first step."""
        ...

    @property
    def mailbox(self) -> Mailbox:
        """Where it stands how many rows are worked at once."""
        ...

    @property
    def heed(self) -> Control:
        """What the step asks between layers."""
        ...

    @property
    def eta(self) -> EtaEstimator:
        """What learns from the step's time."""
        ...

    @property
    def iteration(self) -> int:
        """The last one done."""
        ...


def probe(state: State) -> Iterator[ev.Event]:
    """Try the widest step, unless that was done or is not worth its time.

    A stop, or a pause of the guard's, leaves it unfinished and unsaid.
    """
    prepared, position = state.prepared, state.position
    if position.is_probed or not is_worthwhile(prepared, state.iteration):
        return
    kept = prepared.kept_bytes
    is_done = yield from try_widest(state)
    # What is kept is no part of a checkpoint: a resumed run has to find it out again.
    position.is_probed = is_done and prepared.kept_bytes == kept


def try_widest(trial: Trial) -> Generator[ev.Event, None, bool]:
    """Try the widest step, correct the plan, and work on fewer rows at once if it takes too much.

    Returns:
        Whether it was done, and not stopped.
    """
    prepared, rows = trial.prepared, trial.mailbox.micro_batch()
    yield ev.Progress(time=time.time(), stage="check", message="trying the widest step")
    planned = prepared.memory.peak - prepared.memory.data - prepared.memory.samples
    try:
        peak, seconds = _settled(trial)
    except StepInterrupted:
        return False
    prepared.memory = with_samples(corrected(prepared.memory, peak), prepared.answer_bytes)
    width = max(prepared.plan.widths)
    trial.eta.add_probe(width * prepared.plan.batch_size, seconds)
    eta = trial.eta.remaining(trial.iteration)
    yield ev.Probed(
        time=time.time(),
        width=width,
        rows=prepared.plan.batch_size,
        planned=planned,
        peak=peak,
        seconds=seconds,
        micro_batch=trial.mailbox.micro_batch(),
        planned_micro_batch=rows,
        plan=prepared.memory,
        eta_seconds=eta.seconds if eta else None,
        eta_low_seconds=eta.low if eta else None,
        eta_high_seconds=eta.high if eta else None,
    )
    if prepared.memory.peak > prepared.budget_bytes:
        yield ev.Warned(time=time.time(), message=_too_large(prepared))
    return True


def is_worthwhile(prepared: Prepared, iteration: int = 0) -> bool:
    """Whether a probe is wanted, and short beside what is left of the run."""
    width = prepared.plan.width
    left = int(width[iteration:].sum(dtype=np.int64))
    return prepared.config.probe and STEPS * int(width.max()) <= MOST_SHARE * left


def corrected(plan: ev.MemoryPlan, peak: int) -> ev.MemoryPlan:
    """Return a plan whose sum is what was measured, less the data that MLX does not count.

    What is stored is exact, so that a step's arrays take the difference; what they cannot explain
    is called other.
    """
    plan = replace(plan, samples=0)
    beyond = peak - (plan.peak - plan.data)
    if beyond >= 0:
        return replace(plan, other=plan.other + beyond)
    activations = min(plan.activations, -beyond)
    tail = min(plan.tail, -beyond - activations)
    return replace(plan, activations=plan.activations - activations, tail=plan.tail - tail)


def _settled(trial: Trial) -> tuple[int, float]:
    """Try until it fits or nothing is left to give up; return peak in bytes and seconds of a step.

    Raises:
        StepInterrupted: when the run is to end, or the guard wants it to stand still.
    """
    prepared = trial.prepared
    batch, iteration = _widest(prepared)
    while True:
        peak, seconds = _tried(trial, batch, iteration)
        excess = peak + prepared.memory.data - prepared.budget_bytes
        if excess <= 0 or not _gave_up(trial, excess):
            return peak, seconds


def _widest(prepared: Prepared) -> tuple[Batch, int]:
    """The widest batch of the plan with the most to learn, and its iteration."""
    plan: BatchPlan = prepared.plan
    index = int(np.lexsort((plan.trained_tokens, plan.width))[-1])
    return plan.batch(index, prepared.train), index + 1


def _tried(trial: Trial, batch: Batch, iteration: int) -> tuple[int, float]:
    prepared, config = trial.prepared, trial.prepared.config
    taken: list[float] = []
    sums: dict[str, mx.array] = {}
    mx.reset_peak_memory()
    for _ in range(STEPS):
        fresh: dict[str, mx.array] = {}
        began = time.perf_counter()
        run_step(
            prepared.stepper,
            batch.tokens,
            batch.trained,
            fresh,
            trial.heed,
            prepared.plan.widths,
            config.seed,
            iteration,
        )
        taken.append(time.perf_counter() - began)
        sums = fresh if config.grad_accumulation_steps > 1 else {}
    peak = mx.get_peak_memory()
    sums.clear()
    return peak, min(taken)


def _gave_up(trial: Trial, excess: int) -> bool:
    """Give up what costs nothing but time: outputs kept first, then rows worked at once."""
    prepared, rows = trial.prepared, trial.mailbox.micro_batch()
    if isinstance(prepared.stepper, LayerStep) and prepared.kept_bytes:
        spared = max(0, prepared.kept_bytes - excess)
        width = max(prepared.plan.widths)
        prepared.kept_bytes = prepared.stepper.keep_at_most(spared, rows, width)
        return True
    if rows == 1:
        return False
    trial.mailbox.set_micro_batch((rows + 1) // 2)
    return True


def _too_large(prepared: Prepared) -> str:
    peak, budget = (size / 1e9 for size in (prepared.memory.peak, prepared.budget_bytes))
    return (
        f"The widest step takes {peak:.2f} GB, more than the {budget:.2f} GB that this run may "
        "use, with one row at a time. Training will be slow. Settings that fit: lora-tui plan --fit"
    )
