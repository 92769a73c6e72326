"""Everything that has to be known before the first step. Writes nothing but the token cache."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np
import psutil

from engine import estimate, loaded
from engine import events as ev
from engine.answers import answer_shape, held_bytes, with_samples
from engine.data.encode import EncodedSplit, encoding
from engine.data.plan import BatchPlan, EvaluationBatches, evaluation_batches
from engine.data.preflight import preflight
from engine.data.rows import Features, Reading, read_data
from engine.errors import ConfigError, DataError, InputError
from engine.eta import EtaEstimator
from engine.fetch import fetch
from engine.layers import StepSettings
from engine.model import Adapted, choose_stepper, device_is_cpu, device_name, load_adapted
from engine.model_files import find_model
from engine.optimizer import Updater
from engine.runs import token_cache
from engine.sample import prompts_of
from engine.step import LayerStep

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from engine.answers import AnswerShape
    from engine.config import RunConfig
    from engine.data.rows import DataRows, Row
    from engine.model_files import ModelFiles
    from engine.runs import RunDirectory
    from engine.sample import Prompt
    from engine.shapes import ModelShape
    from engine.step import Stepper


@dataclass
class Prepared:
    """A run ready for its first step."""

    config: RunConfig
    adapted: Adapted
    stepper: Stepper
    step_reason: str
    updater: Updater
    train: EncodedSplit
    plan: BatchPlan
    evaluation: EvaluationBatches | None
    memory: ev.MemoryPlan
    micro_batch: int
    budget_bytes: int
    files: ModelFiles
    prompts: tuple[Prompt, ...]
    """What is answered at every evaluation."""
    test: EvaluationBatches | None
    """Measured at the end; None where that was not asked for."""
    fingerprints: dict[str, str]
    """What the run is made of: of each thing, something that changes when it does."""
    answers: AnswerShape
    """What decides the memory that an answer takes."""
    answer_bytes: int = 0
    """What the longest sample may take, beside what is held all the time."""
    kept_bytes: int = 0
    """What a step keeps only so as not to compute it twice."""

    @property
    def updates(self) -> int:
        """Optimiser updates that the whole run makes."""
        return self.config.iters // self.config.grad_accumulation_steps


def prepare(config: RunConfig) -> Generator[ev.Event, None, Prepared]:
    """Load, check and plan; yields what it is doing and returns the run ready to go.

    Raises:
        InputError: when settings, data and model do not fit together.
    """
    config = yield from fetch(config)
    rows = yield from _read(config)
    yield _progress("model", f"loading {Path(config.model).name}")
    files = find_model(config)
    adapted = load_adapted(config, files)
    train = yield from _encoded("train", rows.train, adapted, config)
    valid = None
    if rows.valid and config.val_batches != 0:
        valid = yield from _encoded("valid", rows.valid, adapted, config)
    for message in rows.warnings:
        yield ev.Warned(time=time.time(), message=message)
    yield _progress("plan", "planning the batches")
    plan = BatchPlan.of(train, config)
    _check_positions(plan, train, files)
    found = preflight(config, rows, train, plan, adapted.tokenizer)
    yield ev.DataRead(time=time.time(), preflight=found)
    evaluation = None
    if valid is not None:
        evaluation = evaluation_batches(valid, config.batch_size, config.val_batches, plan.widths)
    test = yield from _test_batches(rows.test, adapted, config, plan)
    yield _progress("check", "checking the step against the whole graph")
    adapted.model.train()
    settings = step_settings(config)
    stepper, reason = choose_stepper(adapted.model, config, settings)
    updater = Updater(adapted.model, config, is_compiled=settings.compiled)
    shape = loaded.model_shape(adapted.model, files.config)
    return _with_memory(
        Prepared(
            config=config,
            adapted=adapted,
            stepper=stepper,
            step_reason=reason,
            updater=updater,
            train=train,
            plan=plan,
            evaluation=evaluation,
            memory=ev.MemoryPlan(),
            micro_batch=1,
            budget_bytes=config.memory_budget_bytes or default_budget(),
            files=files,
            prompts=prompts_of(config, rows.valid),
            test=test,
            fingerprints=_fingerprints(files, train, valid),
            answers=answer_shape(shape, is_eager=not settings.compiled),
        ),
        shape,
        settings,
    )


def started(
    prepared: Prepared, directory: RunDirectory, iteration: int = 0, parent: str = ""
) -> ev.Started:
    """Say what the run will do.

    Args:
        prepared: the run.
        directory: its place.
        iteration: the last one already done.
        parent: the run and iteration that this one was forked from.
    """
    config, plan = prepared.config, prepared.plan
    return ev.Started(
        time=time.time(),
        name=directory.name,
        run_dir=str(directory.path),
        iteration=iteration,
        parent=parent,
        model=config.model,
        data=config.data,
        iterations=config.iters,
        updates=prepared.updates,
        epochs=float(plan.epoch[-1]),
        tokens=int(plan.trained_tokens.sum()),
        train_rows=len(prepared.train),
        valid_rows=len(prepared.evaluation.split) if prepared.evaluation else 0,
        batch_size=config.batch_size,
        grad_accumulation_steps=config.grad_accumulation_steps,
        micro_batch=prepared.micro_batch,
        widths=plan.widths,
        trainable_parameters=prepared.adapted.trainable_parameters,
        total_parameters=prepared.adapted.total_parameters,
        step="layers" if prepared.stepper.method == "layers" else "whole-graph",
        step_reason=prepared.step_reason,
        device=device_name(),
        budget=prepared.budget_bytes,
        plan=prepared.memory,
        working_set=recommended_working_set(),
        config=config.model_dump(mode="json"),
        versions=versions(),
    )


def step_settings(config: RunConfig) -> StepSettings:
    """Choose how to evaluate a step on this device."""
    on_cpu = device_is_cpu()
    has_fused_backward = mx.cuda.is_available()
    if config.attention == "fused" or (config.attention == "auto" and has_fused_backward):
        score_bytes = None
    else:
        score_bytes = estimate.BLOCK_SCORE_BYTES
    return StepSettings(
        tail_chunk=config.tail_chunk,
        compiled=not on_cpu,
        pipelined=not on_cpu,
        score_bytes=score_bytes,
    )


def has_fused_attention(settings: StepSettings) -> bool:
    """Whether attention's backward pass makes no scores at all here."""
    return settings.score_bytes is None and mx.cuda.is_available()


def recommended_working_set() -> int | None:
    """Return the bytes that the device recommends one process to use; None where it does not."""
    recommended = mx.device_info().get("max_recommended_working_set_size")
    return recommended if isinstance(recommended, int) and recommended > 0 else None


def default_budget() -> int:
    """Return what a run may use on this machine, in bytes.

    On Apple GPUs nine tenths of the recommended working set, elsewhere seven tenths of the memory.
    """
    if recommended := recommended_working_set():
        return recommended * 9 // 10
    memory = mx.device_info().get("memory_size") if not device_is_cpu() else None
    total = memory if isinstance(memory, int) else psutil.virtual_memory().total
    return total * 7 // 10


@contextmanager
def memory_limits(budget_bytes: int, cache_bytes: int | None = None) -> Generator[None]:
    """Let MLX wait for memory above the budget and keep little for reuse, until this ends."""
    before = mx.set_memory_limit(budget_bytes)
    cache_before = mx.set_cache_limit(estimate.cache_limit(budget_bytes, cache_bytes))
    try:
        yield
    finally:
        mx.set_memory_limit(before)
        mx.set_cache_limit(cache_before)


@contextmanager
def eager_on_cpu() -> Generator[None]:
    """Compile nothing on a CPU: MLX would call the system's C++ compiler while the run waits."""
    if not device_is_cpu():
        yield
        return
    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()


def _with_memory(prepared: Prepared, base: ModelShape, settings: StepSettings) -> Prepared:
    """Choose the micro-batch from the budget, and say where the memory will go."""
    config, model = prepared.config, prepared.adapted.model
    shape = estimate.step_shape(base, config, is_eager=not settings.compiled)
    plan = loaded.stored(model, prepared.updater.state_bytes, config)
    split = prepared.train
    data = split.tokens.nbytes + split.trained.nbytes + split.offsets.nbytes
    plan = replace(plan, data=data)
    size = estimate.StepSize(
        batch=config.batch_size,
        width=max(prepared.plan.widths),
        chunk=settings.tail_chunk,
        method="layers" if prepared.stepper.method == "layers" else "whole-graph",
        score_bytes=0 if has_fused_attention(settings) else settings.score_bytes,
    )
    budget = prepared.budget_bytes
    rows = config.micro_batch_size or estimate.largest_micro_batch(plan, shape, size, budget)
    prepared.micro_batch = min(rows, config.batch_size)
    prepared.memory = estimate.with_step(plan, shape, size, prepared.micro_batch)
    _keep_outputs(prepared)
    prepared.answer_bytes = _answer_bytes(prepared)
    prepared.memory = with_samples(prepared.memory, prepared.answer_bytes)
    return prepared


def _answer_bytes(prepared: Prepared) -> int:
    """What the longest of the run's samples takes, within the budget; 0 where none are asked."""
    lengths: list[int] = []
    for prompt in prepared.prompts:
        # One that the template refuses is said when it would be answered.
        with suppress(InputError):
            lengths.append(len(prompt.tokens(prepared.adapted.tokenizer)))
    if not lengths:
        return 0
    wanted = prepared.answers.needed_bytes(max(lengths), prepared.config.sample_max_tokens)
    return min(wanted, max(0, prepared.budget_bytes - held_bytes(prepared.memory)))


def _keep_outputs(prepared: Prepared) -> None:
    """Spend memory that the plan leaves over on not computing layers twice."""
    spare = int(prepared.budget_bytes * estimate.KEPT_SHARE) - prepared.memory.peak
    if isinstance(prepared.stepper, LayerStep) and spare > 0:
        used = prepared.stepper.keep_at_most(spare, prepared.micro_batch, max(prepared.plan.widths))
        prepared.kept_bytes = used
        prepared.memory = replace(prepared.memory, activations=prepared.memory.activations + used)


def _read(config: RunConfig) -> Generator[ev.Event, None, DataRows]:
    yield _progress("data", "reading the data")
    rows = read_data(config.data, Features.of(config), config.batch_size, Reading.of(config))
    for note in rows.notes:
        yield _progress("data", note)
    _check_test(config, rows.test)
    return rows


def _fingerprints(
    files: ModelFiles, train: EncodedSplit, valid: EncodedSplit | None
) -> dict[str, str]:
    return {
        "model": files.fingerprint(),
        "data": train.fingerprint(),
        "validation data": valid.fingerprint() if valid else "",
    }


def _check_test(config: RunConfig, rows: Sequence[Row]) -> None:
    if config.test and not rows:
        raise DataError(
            f"test: true, but {config.data} has no test rows.",
            hint="Add test.jsonl, or set test to false.",
        )


def _test_batches(
    rows: Sequence[Row], adapted: Adapted, config: RunConfig, plan: BatchPlan
) -> Generator[ev.Event, None, EvaluationBatches | None]:
    """What is measured at the end; nothing when that was not asked for."""
    if not config.test:
        return None
    split = yield from _encoded("test", rows, adapted, config)
    return evaluation_batches(split, config.batch_size, config.test_batches, plan.widths)


def _encoded(
    name: str, rows: Sequence[Row], adapted: Adapted, config: RunConfig
) -> Generator[ev.Event, None, EncodedSplit]:
    """Tokenise a split, or take it from the cache; says how far it is, and what became of rows."""
    total = len(rows)
    message = f"tokenising {total:,} rows of {name}"
    yield _progress("data", message, 0, total)
    encoder = encoding(
        rows, adapted.tokenizer, config.mask_prompt, config.max_seq_length, token_cache()
    )
    while True:
        try:
            yield _progress("data", message, next(encoder), total)
        except StopIteration as end:
            split: EncodedSplit = end.value
            break
    for warning in split.warnings(name):
        yield ev.Warned(time=time.time(), message=warning)
    return split


def _check_positions(plan: BatchPlan, train: EncodedSplit, files: ModelFiles) -> None:
    most = files.max_positions
    # Learned position tables end there; rotary ones were never trained beyond.
    if most and (longest := max(plan.widths)) > most + 7:
        row = int(train.lengths.argmax())
        too_long = int((train.lengths - 1 > most).sum())
        raise ConfigError(
            [
                f"max_seq_length: rows need {longest} positions, but the model has {most} "
                f"({too_long:,} of {len(train):,} rows are longer; the longest is number "
                f"{train.lines[row]:,} in its file)"
            ],
            hint=f"Set max_seq_length to {most} or less.",
        )


def versions() -> dict[str, str]:
    """Return the versions of what computes."""
    names = ("lora-tui", "mlx", "mlx-lm", "transformers", "numpy")
    return {
        "python": platform.python_version(),
        **{n: importlib.metadata.version(n) for n in names},
    }


def _progress(stage: ev.Stage, message: str, done: int = 0, total: int = 0) -> ev.Progress:
    return ev.Progress(time=time.time(), stage=stage, message=message, done=done, total=total)


def eta_of(prepared: Prepared) -> EtaEstimator:
    """Return what foresees the run's end, before anything of it is measured."""
    config, plan = prepared.config, prepared.plan
    iterations = np.arange(1, config.iters + 1)
    evaluated = (iterations % config.steps_per_eval == 0) | (iterations == config.iters)
    if prepared.evaluation is None:
        evaluated[:] = False
    positions = plan.width.astype(np.int64) * plan.batch_size
    return EtaEstimator(positions, evaluated, config.save_every, len(prepared.prompts))
