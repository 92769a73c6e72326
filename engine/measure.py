"""Looks at a run from outside: the loss on the validation rows, and answers to fixed prompts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import mlx.core as mx

from engine import events as ev
from engine.sample import answer
from engine.step import StepInterrupted, split
from engine.trees import number

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from engine.data.plan import Batch
    from engine.state import State


def evaluate(state: State) -> Generator[ev.Event, None, bool]:
    """Measure the loss on the validation rows; a stop leaves it unfinished and unsaid.

    Returns:
        False when the guard's pause left it unfinished, so that it has to be done again.
    """
    evaluation = state.prepared.evaluation
    if evaluation is None or state.mailbox.stop_wish():
        return True
    yield ev.Progress(
        time=time.time(), stage="evaluate", message="evaluating", total=len(evaluation)
    )
    model = state.prepared.adapted.model
    model.eval()
    began = time.perf_counter()
    loss_sum, tokens = 0.0, 0
    try:
        with state.pulse.phase("evaluating"):
            for batch in evaluation:
                loss_sum += _loss_sum(state, batch)
                tokens += batch.trained_tokens
    except StepInterrupted:
        return state.mailbox.stop_wish() is not None
    finally:
        model.train()
    seconds = time.perf_counter() - began
    state.eta.add_evaluation(seconds)
    val_loss = loss_sum / max(tokens, 1)
    yield ev.Evaluated(
        time=time.time(),
        iteration=state.iteration,
        val_loss=val_loss,
        best=_note(state, val_loss),
        seconds=seconds,
        tokens=tokens,
        memory=memory_of(state),
    )
    return True


def sample(state: State, *, is_base: bool = False) -> Iterator[ev.Event]:
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
        with state.pulse.phase("sampling"):
            text = answer(
                adapted.model,
                adapted.tokenizer,
                prompt,
                config.sample_max_tokens,
                state.heed.is_ending,
            )
        seconds = time.perf_counter() - began
        state.eta.add_sample(seconds)
        yield ev.Sampled(
            time=time.time(),
            iteration=state.iteration,
            prompt=prompt,
            text=text,
            base=is_base,
            seconds=seconds,
        )


def memory_of(state: State) -> ev.Memory:
    """Return MLX's own counters and the process's footprint."""
    return ev.Memory(
        active=mx.get_active_memory(),
        peak=mx.get_peak_memory(),
        cache=mx.get_cache_memory(),
        footprint=state.footprint(),
    )


def _loss_sum(state: State, batch: Batch) -> float:
    """Sum a batch's losses in micro-batches: no more memory than a step takes.

    Raises:
        StepInterrupted: when a stop was asked for.
    """
    prepared = state.prepared
    total = 0.0
    first = 0
    while first < len(batch.tokens):
        size = max(1, state.mailbox.micro_batch())
        micro = split(batch.tokens, batch.trained, size, prepared.plan.widths, first=first)
        if micro.trained_tokens:
            total += number(prepared.stepper.loss(micro, state.heed))
        first += size
    return total


def _note(state: State, val_loss: float) -> bool:
    """Remember a validation loss; return whether it is the best so far."""
    position = state.position
    is_best = position.best_val_loss is None or val_loss < position.best_val_loss
    # Asked for twice at one iteration, it counts once.
    if is_best:
        position.best_val_loss, position.best_iteration = val_loss, position.iteration
        position.evaluations_without_gain = 0
    elif position.evaluated_iteration != position.iteration:
        position.evaluations_without_gain += 1
    position.val_loss, position.evaluated_iteration = val_loss, position.iteration
    return is_best
