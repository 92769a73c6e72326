"""Looks at a run from outside: the loss on the validation rows, and answers to fixed prompts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import mlx.core as mx

from engine import events as ev
from engine.conversation import Sampling
from engine.errors import InputError
from engine.reply import reply
from engine.sample import sampling_within
from engine.score import score
from engine.step import StepInterrupted, split
from engine.trees import number

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from engine.conversation import Reply
    from engine.data.plan import Batch
    from engine.sample import Prompt
    from engine.score import Score
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
    # Adapters that were loaded are no base model.
    if is_base and state.prepared.config.resume_adapter_file:
        return
    for prompt in state.prepared.prompts:
        if state.mailbox.stop_wish():
            return
        yield ev.Progress(time=time.time(), stage="sample", message="answering a prompt")
        yield _answer(state, prompt, is_base=is_base)


def _answer(state: State, prompt: Prompt, *, is_base: bool) -> ev.Event:
    """Answer within the run's bounds of tokens, time and memory; nothing of the run changes."""
    prepared = state.prepared
    adapted = prepared.adapted
    began = time.perf_counter()
    try:
        tokens = prompt.tokens(adapted.tokenizer)
    except InputError as error:
        return ev.Warned(time=time.time(), message=f"{prompt.shown!r}: {error.message}")
    mx.reset_peak_memory()
    free = prepared.budget_bytes - mx.get_active_memory()
    config = prepared.config
    wanted = Sampling(max_tokens=config.sample_max_tokens, max_seconds=config.sample_max_seconds)
    sampling = sampling_within(wanted, prepared.answers, len(tokens), free)
    if sampling is None:
        message = f"No memory is left to answer {prompt.shown!r}; training goes on."
        return ev.Warned(time=time.time(), message=message)
    pieces = reply(
        adapted.model,
        adapted.tokenizer,
        tokens,
        sampling,
        state.heed.is_ending,
        max_positions=prepared.files.max_positions,
    )
    said: list[str] = []
    try:
        with state.pulse.phase("sampling"):
            while True:
                said.append(next(pieces))
    except StopIteration as end:
        taken: Reply = end.value
    except InputError as error:
        return ev.Warned(time=time.time(), message=f"{prompt.shown!r}: {error.message}")
    seconds = time.perf_counter() - began
    state.eta.add_sample(seconds)
    return ev.Sampled(
        time=time.time(),
        iteration=state.iteration,
        prompt=prompt.shown,
        text="".join(said).strip(),
        base=is_base,
        seconds=seconds,
        tokens=taken.tokens,
        cut=taken.ending in {"length", "time"},
        memory=memory_of(state),
    )


class _UntilStopped:
    """The last thing that a run does: only a stop ends it, not the guard's pause."""

    def __init__(self, state: State) -> None:
        self._mailbox = state.mailbox

    def should_stop(self) -> bool:
        """Whether somebody wants the run to end."""
        return self._mailbox.stop_wish() is not None

    def micro_batch(self) -> int:
        """One row at a time."""
        return 1


def test(state: State) -> Iterator[ev.Event]:
    """Measure the test rows with what was trained; a stop leaves it unsaid."""
    rows = state.prepared.test
    if rows is None or state.mailbox.stop_wish():
        return
    yield ev.Progress(time=time.time(), stage="test", message="measuring the test rows")
    prepared = state.prepared
    prepared.adapted.model.eval()
    try:
        measuring = score(prepared.stepper, rows, _UntilStopped(state), prepared.plan.widths)
        with state.pulse.phase("evaluating"):
            while True:
                next(measuring)
    except StopIteration as end:
        result: Score = end.value
    except StepInterrupted:
        return
    finally:
        prepared.adapted.model.train()
    yield ev.Tested(
        time=time.time(),
        iteration=state.iteration,
        test_loss=result.loss,
        perplexity=result.perplexity,
        loss_low=result.loss_low,
        loss_high=result.loss_high,
        rows=result.rows,
        tokens=result.tokens,
        seconds=result.seconds,
        tokens_per_second=result.tokens_per_second,
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
