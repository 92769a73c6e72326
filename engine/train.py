"""The training loop: a generator of events that reads top to bottom."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import mlx.core as mx

from engine import events as ev
from engine.attend import attend, measure
from engine.errors import RunError
from engine.guard import EXIT_CODE, Pulse
from engine.heed import Heed
from engine.journal import read_history
from engine.mailbox import Stop
from engine.measure import memory_of, sample, test
from engine.opening import create, find_beginning, go_to, restore_run
from engine.prepare import eager_on_cpu, eta_of, memory_limits, prepare, started
from engine.probe import probe
from engine.resume import Resume, find_point
from engine.saving import Saver, at_once, finish_saving, reason_to_save, save, settle
from engine.state import State
from engine.step import StepInterrupted, run_step
from engine.trouble import TroubleWatch, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from engine.config import RunConfig
    from engine.data.plan import Batch
    from engine.mailbox import Mailbox
    from engine.runs import RunDirectory
    from engine.saving import Written

MOST_SKIPPED_IN_A_ROW = 5
"""Batches without finite numbers after which a run stops."""


def train(
    config: RunConfig,
    directory: RunDirectory,
    mailbox: Mailbox,
    footprint: Callable[[], int | None] = lambda: None,
    *,
    resume: Resume | None = None,
    claim: Callable[[], None] = lambda: None,
    aside: Callable[[Callable[[], Written]], Future[Written]] = at_once,
    pulse: Pulse | None = None,
) -> Iterator[ev.Event]:
    """Train adapters; every fact of the run is yielded as an event, ``Ended`` last.

    Nothing is written before the first step is ready. All of MLX happens on the iterating thread.

    Args:
        config: the settings.
        directory: where the run's files go.
        mailbox: what others ask for.
        footprint: what the operating system charges this process with, in bytes.
        resume: the checkpoint to go on from; None begins a new run.
        claim: makes the directory, once it is there, this process's alone.
        aside: writes files on another thread.
        pulse: where the guard reads how the run stands.

    Raises:
        InputError: when settings, data and model do not fit together; nothing was created.
        RunError: when the run cannot go on.
    """
    with eager_on_cpu():
        point = yield from find_beginning(resume, config, directory, claim)
        prepared = yield from prepare(config)
        # What it was made of is settled now.
        config = prepared.config
        saver = Saver(directory.adapters, config, aside)
        pulse = pulse or Pulse()
        heed = Heed(mailbox, pulse, prepared.stepper)
        state = State(prepared, directory, mailbox, saver, eta_of(prepared), footprint, pulse, heed)
        mailbox.set_micro_batch(prepared.micro_batch)
        if point is not None:
            yield from restore_run(state, point)
        create(state, claim, point)
        parent = resume.parent if resume else ""
        begun = started(prepared, directory, state.iteration, parent)
        past = () if parent or resume is None else read_history(directory.journal_file, 0)
        watch = TroubleWatch((*past, begun))
        yield begun
        if not parent:
            yield from finish_saving(state, past)
        if config.resume_adapter_file and point is None:
            message = (
                f"Begins with the weights of {config.resume_adapter_file}. This is no resume: "
                "optimiser and position start afresh."
            )
            yield ev.Warned(time=time.time(), message=message)
        with memory_limits(prepared.budget_bytes, config.cache_limit_bytes):
            pulse.is_ready(is_metal=mx.metal.is_available())
            yield from probe(state)
            pulse.keeps(prepared.kept_bytes)
            yield from told(_iterate(state), watch)


def _iterate(state: State) -> Iterator[ev.Event]:
    """Go through the plan, from the first iteration to the last or to a stop."""
    config, mailbox = state.prepared.config, state.mailbox
    if state.iteration == 0:
        yield from sample(state, is_base=True)
        yield from _measure(state)
    elif _is_evaluated_at(state) and state.position.evaluated_iteration != state.iteration:
        yield from _look(state)
    while state.iteration < config.iters:
        yield from settle(state, is_awaited=False)
        yield from attend(state)
        if mailbox.stop_wish():
            break
        state.pulse.begin_step(int(state.prepared.plan.width[state.iteration]))
        try:
            step, is_good = _step(state, state.iteration + 1)
        except StepInterrupted:
            state.pulse.drop_step()
            continue
        state.pulse.end_step(step.iteration, step.seconds)
        yield step
        yield from _watch_numbers(state, is_good=is_good)
        if _is_evaluated_at(state):
            yield from _look(state)
        if (reason := reason_to_save(state)) == "scheduled":
            yield from save(state, reason)
    yield from _end(state)


def _is_evaluated_at(state: State) -> bool:
    config, iteration = state.prepared.config, state.iteration
    return iteration % config.steps_per_eval == 0 or iteration == config.iters


def _look(state: State) -> Iterator[ev.Event]:
    """Evaluate and sample, and end a run that gains no more."""
    yield from _measure(state)
    yield from sample(state)
    position, patience = state.position, state.prepared.config.early_stopping
    if patience and position.evaluations_without_gain >= patience:
        best = f"{position.best_val_loss:.3f} at {position.best_iteration:,}"
        words = f"{patience} evaluations without gain, the best is {best}"
        state.mailbox.stop(Stop(words))


def _measure(state: State) -> Iterator[ev.Event]:
    """Evaluate, after a pause of the guard's again if it came between."""
    while not (yield from measure(state)):
        yield from attend(state)


def _step(state: State, iteration: int) -> tuple[ev.Step, bool]:
    """Train one batch, and update when enough gradients are accumulated.

    Returns:
        The step, and whether its numbers were finite and changed something.

    Raises:
        StepInterrupted: when the run is to end or the guard wants it to stand still; the step is
            as if it had not begun.
    """
    prepared, position = state.prepared, state.position
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
        state.heed,
        prepared.plan.widths,
        prepared.config.seed,
        iteration,
    )
    norm, is_good = _learn(state, iteration, loss_sum, fresh, batch.trained_tokens)
    seconds = time.perf_counter() - began
    position.iteration = iteration
    position.trained_tokens += batch.trained_tokens
    state.eta.add_step(iteration, seconds)
    loss = loss_sum / batch.trained_tokens if batch.trained_tokens else math.nan
    return _reported(state, batch, loss, norm, seconds), is_good


def _learn(
    state: State, iteration: int, loss_sum: float, fresh: dict[str, mx.array], tokens: int
) -> tuple[float | None, bool]:
    """Add a batch's gradients to those before, and update when there are enough.

    Returns:
        The gradient's norm at an update, else None; and whether all numbers were finite.
    """
    config, updater, position = state.prepared.config, state.prepared.updater, state.position
    # A bad batch must not spoil those that it is added to; alone, the update looks at it.
    is_alone = config.grad_accumulation_steps == 1
    is_good = math.isfinite(loss_sum) and (is_alone or updater.is_finite(fresh))
    if is_good:
        _accumulate(state, fresh, tokens)
    if iteration % config.grad_accumulation_steps or not position.gradient_tokens:
        return None, is_good
    # A checkpoint on its way holds on to the arrays that are replaced now.
    state.saver.wait()
    norm = updater.apply(state.gradients, position.gradient_tokens)
    state.gradients, position.gradient_tokens = {}, 0
    return norm, is_good and math.isfinite(norm)


def _reported(
    state: State, batch: Batch, loss: float, norm: float | None, seconds: float
) -> ev.Step:
    """Say what a step was like."""
    position, updater = state.position, state.prepared.updater
    eta = state.eta.remaining(position.iteration)
    return ev.Step(
        time=time.time(),
        iteration=position.iteration,
        loss=loss,
        learning_rate=updater.learning_rate,
        tokens=batch.trained_tokens,
        seconds=seconds,
        tokens_per_second=batch.trained_tokens / seconds,
        iterations_per_second=1 / seconds,
        trained_tokens=position.trained_tokens,
        memory=memory_of(state),
        eta_seconds=eta.seconds if eta else None,
        eta_low_seconds=eta.low if eta else None,
        eta_high_seconds=eta.high if eta else None,
        gradient_norm=norm,
        updates=updater.updates,
        width=batch.width,
        micro_batch=state.mailbox.micro_batch(),
        epoch=batch.epoch,
    )


def _accumulate(state: State, fresh: dict[str, mx.array], tokens: int) -> None:
    state.position.gradient_tokens += tokens
    if not state.gradients:
        state.gradients = fresh
        return
    for name in list(fresh):
        state.gradients[name] = state.gradients[name] + fresh.pop(name)
    mx.eval(state.gradients)


def _watch_numbers(state: State, *, is_good: bool) -> Iterator[ev.Event]:
    """Say when a batch gave no finite numbers; it was left out already.

    Several in a row may mean that the weights are spoilt: the run goes back to its last checkpoint,
    and ends when it comes to the same point again.

    Raises:
        RunError: when going back did not help.
    """
    position = state.position
    if is_good:
        position.skipped_in_a_row = 0
        if position.gone_wrong_at and position.iteration > position.gone_wrong_at:
            position.gone_wrong_at = None
        return
    position.skipped_in_a_row += 1
    position.skipped_batches += 1
    yield ev.Guard(
        time=time.time(),
        action="skip_batch",
        why="its loss or gradient is not a finite number",
        iteration=position.iteration,
    )
    if position.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
        yield from _go_back(state)


def _go_back(state: State) -> Iterator[ev.Event]:
    yield from settle(state, is_awaited=True)
    before = state.position
    point = find_point(Resume(state.directory.adapters))
    if point is None or before.gone_wrong_at is not None:
        raise RunError(
            f"{MOST_SKIPPED_IN_A_ROW} batches in a row gave no finite loss or gradient.",
            "Lower learning_rate, or set max_grad_norm: 1.0. What was saved before is intact.",
        )
    go_to(state, point)
    position = state.position
    position.gone_wrong_at, position.skipped_in_a_row = before.iteration, 0
    position.skipped_batches = before.skipped_batches
    why = f"{MOST_SKIPPED_IN_A_ROW} batches in a row gave no finite loss or gradient"
    yield ev.Guard(time=time.time(), action="reload", why=why, iteration=point.iteration)


def _end(state: State) -> Iterator[ev.Event]:
    """Save what was reached and say how it ended."""
    yield from state.heed.done(state.iteration)
    stop = state.mailbox.stop_wish()
    is_complete = state.iteration == state.prepared.config.iters
    if state.iteration:
        reason = "final" if is_complete or stop is None else stop.checkpoint_reason
        yield from save(state, reason)
    if is_complete or stop is None:
        yield from test(state)
        stop = Stop(f"all {state.iteration:,} iterations are done")
        yield _ended(state, "completed", stop)
    else:
        yield _ended(state, "aborted" if stop.exit_code == EXIT_CODE else "stopped", stop)


def _ended(state: State, status: ev.EndStatus, stop: Stop) -> ev.Ended:
    where = (
        f"Adapters: {state.directory.adapters}" if state.iteration else "Nothing was trained yet."
    )
    return ev.Ended(
        time=time.time(),
        status=status,
        iteration=state.iteration,
        reason=stop.reason,
        exit_code=0 if status == "completed" else stop.exit_code,
        hint=where,
    )
