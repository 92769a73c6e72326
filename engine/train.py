"""The training loop: a generator of events that reads top to bottom."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from engine import events as ev
from engine.checkpoint import publish, save_adapters, write_adapter_config
from engine.config import dump
from engine.errors import RunError
from engine.eta import EtaEstimator
from engine.files import write_text
from engine.mailbox import Stop
from engine.prepare import Prepared, eager_on_cpu, memory_limits, positions_of, prepare, started
from engine.sample import answer
from engine.step import MicroBatch, StepInterrupted, run_step
from engine.trees import number, trainable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.config import RunConfig
    from engine.mailbox import Mailbox
    from engine.runs import RunDirectory

MOST_SKIPPED_IN_A_ROW = 5
"""Batches without finite numbers after which a run stops."""


@dataclass
class State:
    """What changes from step to step."""

    prepared: Prepared
    directory: RunDirectory
    mailbox: Mailbox
    eta: EtaEstimator
    footprint: Callable[[], int | None]
    iteration: int = 0
    trained_tokens: int = 0
    gradients: dict[str, mx.array] = field(default_factory=dict[str, mx.array])
    gradient_tokens: int = 0
    """Trained tokens that ``gradients`` is summed over."""
    best: float = math.inf
    val_loss: float | None = None
    saved_iteration: int = -1
    skipped_in_a_row: int = 0


def train(
    config: RunConfig,
    directory: RunDirectory,
    mailbox: Mailbox,
    footprint: Callable[[], int | None] = lambda: None,
) -> Iterator[ev.Event]:
    """Train adapters; every fact of the run is yielded as an event, ``Ended`` last.

    Nothing is written before the first step is ready. All of MLX happens on the iterating thread.

    Args:
        config: the settings.
        directory: where the run's files go.
        mailbox: what others ask for.
        footprint: what the operating system charges this process with, in bytes.

    Raises:
        InputError: when settings, data and model do not fit together; nothing was created.
        RunError: when the run cannot go on.
    """
    with eager_on_cpu():
        prepared = yield from prepare(config)
        _create(directory, config)
        yield started(prepared, directory.name, directory.path)
        mailbox.set_micro_batch(prepared.micro_batch)
        state = State(prepared, directory, mailbox, _eta(prepared), footprint)
        with memory_limits(prepared.budget_bytes):
            yield from _iterate(state)


def _iterate(state: State) -> Iterator[ev.Event]:
    """Go through the plan, from the first iteration to the last or to a stop."""
    config, mailbox = state.prepared.config, state.mailbox
    yield from _sample(state, is_base=True)
    yield from _evaluate(state)
    for iteration in range(state.iteration + 1, config.iters + 1):
        yield from _attend(state)
        if mailbox.stop_wish():
            break
        try:
            step = _step(state, iteration)
        except StepInterrupted:
            break
        yield step
        yield from _watch_numbers(state, step)
        if iteration % config.steps_per_eval == 0 or iteration == config.iters:
            yield from _evaluate(state)
            yield from _sample(state)
        if iteration % config.save_every == 0 and iteration < config.iters:
            yield from _save(state, "scheduled")
    yield from _end(state)


def _step(state: State, iteration: int) -> ev.Step:
    """Train one batch, and update when enough gradients are accumulated.

    Raises:
        StepInterrupted: when a stop was asked for; the step is as if it had not begun.
    """
    prepared, config = state.prepared, state.prepared.config
    mx.reset_peak_memory()
    began = time.perf_counter()
    batch = prepared.plan.batch(iteration - 1, prepared.train)
    # Apart from what earlier iterations added up, so that dropping this step drops nothing else.
    fresh: dict[str, mx.array] = {}
    loss_sum = run_step(
        prepared.stepper,
        batch.tokens,
        batch.trained,
        fresh,
        state.mailbox,
        prepared.plan.widths,
        config.seed,
        iteration,
    )
    _accumulate(state, fresh, batch.trained_tokens)
    norm = None
    if iteration % config.grad_accumulation_steps == 0 and state.gradient_tokens:
        norm = prepared.updater.apply(state.gradients, state.gradient_tokens)
        state.gradients, state.gradient_tokens = {}, 0
    seconds = time.perf_counter() - began
    state.iteration = iteration
    state.trained_tokens += batch.trained_tokens
    state.eta.add_step(iteration, seconds)
    eta = state.eta.remaining(iteration)
    return ev.Step(
        time=time.time(),
        iteration=iteration,
        loss=loss_sum / batch.trained_tokens if batch.trained_tokens else math.nan,
        learning_rate=prepared.updater.learning_rate,
        tokens=batch.trained_tokens,
        seconds=seconds,
        tokens_per_second=batch.trained_tokens / seconds,
        iterations_per_second=1 / seconds,
        trained_tokens=state.trained_tokens,
        memory=_memory(state),
        eta_seconds=eta.seconds if eta else None,
        eta_low_seconds=eta.low if eta else None,
        eta_high_seconds=eta.high if eta else None,
        gradient_norm=norm,
        updates=prepared.updater.updates,
        width=batch.width,
        micro_batch=state.mailbox.micro_batch(),
        epoch=batch.epoch,
    )


def _accumulate(state: State, fresh: dict[str, mx.array], tokens: int) -> None:
    state.gradient_tokens += tokens
    if not state.gradients:
        state.gradients = fresh
        return
    for name in list(fresh):
        state.gradients[name] = state.gradients[name] + fresh.pop(name)
    mx.eval(state.gradients)


def _attend(state: State) -> Iterator[ev.Event]:
    """Do what others asked for since the last step, and stand still while that is wished."""
    mailbox = state.mailbox
    while not mailbox.stop_wish():
        yield from _serve(state)
        if (reason := mailbox.pause_reason()) is None:
            return
        mx.clear_cache()
        began = time.monotonic()
        yield ev.Paused(time=time.time(), iteration=state.iteration, reason=reason)
        while mailbox.pause_reason() is not None and not mailbox.stop_wish():
            mailbox.wait()
            yield from _serve(state)
        seconds = time.monotonic() - began
        if not mailbox.stop_wish():
            yield ev.Resumed(time=time.time(), iteration=state.iteration, paused_seconds=seconds)


def _serve(state: State) -> Iterator[ev.Event]:
    for request in state.mailbox.take():
        if request == "checkpoint":
            yield from _save(state, "requested")
        elif request == "evaluate":
            yield from _evaluate(state)
        else:
            yield from _sample(state)


def _evaluate(state: State) -> Iterator[ev.Event]:
    """Measure the loss on the validation rows; a stop leaves it unfinished and unsaid."""
    evaluation = state.prepared.evaluation
    if evaluation is None or state.mailbox.stop_wish():
        return
    yield ev.Progress(
        time=time.time(), stage="evaluate", message="evaluating", total=len(evaluation)
    )
    model = state.prepared.adapted.model
    model.eval()
    began = time.perf_counter()
    loss_sum, tokens = 0.0, 0
    try:
        for batch in evaluation:
            micro = MicroBatch(batch.tokens, batch.trained, range(len(batch.tokens)))
            loss_sum += number(state.prepared.stepper.loss(micro, state.mailbox))
            tokens += batch.trained_tokens
    except StepInterrupted:
        return
    finally:
        model.train()
    seconds = time.perf_counter() - began
    state.eta.add_evaluation(seconds)
    val_loss = loss_sum / max(tokens, 1)
    is_best = val_loss < state.best
    state.val_loss, state.best = val_loss, min(state.best, val_loss)
    yield ev.Evaluated(
        time=time.time(),
        iteration=state.iteration,
        val_loss=val_loss,
        best=is_best,
        seconds=seconds,
        tokens=tokens,
        memory=_memory(state),
    )


def _sample(state: State, *, is_base: bool = False) -> Iterator[ev.Event]:
    """Answer the fixed prompts."""
    config, adapted = state.prepared.config, state.prepared.adapted
    # Adapters that were loaded are no base model.
    if is_base and config.resume_adapter_file:
        return
    for prompt in config.sample_prompts:
        if state.mailbox.stop_wish():
            return
        yield ev.Progress(time=time.time(), stage="sample", message="answering a prompt")
        began = time.perf_counter()
        text = answer(
            adapted.model,
            adapted.tokenizer,
            prompt,
            config.sample_max_tokens,
            state.mailbox.should_stop,
        )
        yield ev.Sampled(
            time=time.time(),
            iteration=state.iteration,
            prompt=prompt,
            text=text,
            base=is_base,
            seconds=time.perf_counter() - began,
        )


def _save(state: State, reason: ev.CheckpointReason) -> Iterator[ev.Event]:
    """Write a checkpoint, unless this iteration has one."""
    if state.saved_iteration == state.iteration:
        return
    began = time.perf_counter()
    folder = state.directory.adapters
    path = save_adapters(folder, state.iteration, trainable(state.prepared.adapted.model))
    if state.prepared.config.adapter_path:
        publish(folder, Path(state.prepared.config.adapter_path).expanduser())
    seconds = time.perf_counter() - began
    state.saved_iteration = state.iteration
    state.eta.add_save(seconds)
    yield ev.CheckpointSaved(
        time=time.time(),
        iteration=state.iteration,
        path=str(path),
        reason=reason,
        seconds=seconds,
        bytes=path.stat().st_size,
        val_loss=state.val_loss,
    )


def _watch_numbers(state: State, step: ev.Step) -> Iterator[ev.Event]:
    """Say when a batch gave no finite numbers; the update was left out already.

    Raises:
        RunError: after several in a row.
    """
    norm = step.gradient_norm
    if math.isfinite(step.loss) and (norm is None or math.isfinite(norm)):
        state.skipped_in_a_row = 0
        return
    state.skipped_in_a_row += 1
    yield ev.Guard(
        time=time.time(),
        action="skip_batch",
        why="its loss or gradient is not a finite number",
        iteration=step.iteration,
    )
    if state.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
        raise RunError(
            f"{MOST_SKIPPED_IN_A_ROW} batches in a row gave no finite loss or gradient.",
            "Lower learning_rate, or set max_grad_norm: 1.0. What was saved before is intact.",
        )


def _end(state: State) -> Iterator[ev.Event]:
    """Save what was reached and say how it ended."""
    stop = state.mailbox.stop_wish()
    is_complete = state.iteration == state.prepared.config.iters
    if state.iteration:
        reason = "final" if is_complete or stop is None else stop.checkpoint_reason
        yield from _save(state, reason)
    if is_complete or stop is None:
        stop = Stop(f"all {state.iteration:,} iterations are done")
        yield _ended(state, "completed", stop)
    else:
        yield _ended(state, "stopped", stop)


def _ended(state: State, status: ev.EndStatus, stop: Stop) -> ev.Ended:
    where = (
        f"Adapters: {state.directory.adapters}" if state.iteration else "Nothing was trained yet."
    )
    return ev.Ended(
        time=time.time(),
        status=status,
        iteration=state.iteration,
        reason=stop.reason,
        exit_code=stop.exit_code if status == "stopped" else 0,
        hint=where,
    )


def _create(directory: RunDirectory, config: RunConfig) -> None:
    try:
        directory.path.mkdir(parents=True, exist_ok=True)
        write_text(directory.config_file, dump(config))
    except OSError as error:
        raise RunError(
            f"The run's folder {directory.path} cannot be written: {error}",
            "Free space there, or set LORA_TUI_HOME to another folder.",
        ) from error
    write_adapter_config(directory.adapters, config)


def _eta(prepared: Prepared) -> EtaEstimator:
    config = prepared.config
    iterations = np.arange(1, config.iters + 1)
    evaluated = (iterations % config.steps_per_eval == 0) | (iterations == config.iters)
    if prepared.evaluation is None:
        evaluated[:] = False
    return EtaEstimator(positions_of(prepared.plan), evaluated, config.save_every)


def _memory(state: State) -> ev.Memory:
    return ev.Memory(
        active=mx.get_active_memory(),
        peak=mx.get_peak_memory(),
        cache=mx.get_cache_memory(),
        footprint=state.footprint(),
    )
