"""What a run will take, before anything is downloaded or loaded: memory, time, what it trains."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from engine import estimate, trained, work
from engine.answers import answer_shape, guessed_prompt_tokens, held_bytes, with_samples
from engine.data.glance import glance
from engine.lengths import batches_by_width, find_lengths
from engine.model_shape import find_shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.config import RunConfig
    from engine.data.glance import Glance
    from engine.events import MemoryPlan, StepMethod
    from engine.lengths import Lengths
    from engine.machine import Machine
    from engine.shapes import ModelShape

FASTEST, SLOWEST = 0.8, 1.35
"""What steps take of the time that the measured speed promises: large models use a device better
than the small one that was measured, a warm laptop uses it worse."""
_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True, slots=True)
class Seconds:
    """A time and its bounds."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run will take."""

    config: RunConfig
    model: ModelShape
    machine: Machine
    lengths: Lengths
    trainable_parameters: int
    adapter_bytes: int
    memory: MemoryPlan
    budget: int
    micro_batch: int
    step: StepMethod
    step_reason: str
    seconds: Seconds | None
    """None where this machine's speed is not known."""
    updates: int
    epochs: float | None
    """Passes over the rows; None when nobody knows how many there are."""
    tokens: int | None
    """Positions of all iterations; None when nobody knows how long rows are."""
    seen: Glance | None = None
    """The training rows as far as they were looked at; None where they are not here."""

    @property
    def needed_bytes(self) -> int:
        """The planned peak, and what the settings want to be kept for reuse beyond it.

        What MLX keeps without being asked to, it gives back when a step needs it.
        """
        return self.memory.peak + (self.config.cache_limit_bytes or 0)

    @property
    def fits(self) -> bool:
        """Whether what is needed is within the budget."""
        return self.needed_bytes <= self.budget

    def as_json(self) -> dict[str, Any]:
        """Return the plan as ``lora-tui plan --json`` prints it."""
        return {
            "trainable_parameters": self.trainable_parameters,
            "adapter_bytes": self.adapter_bytes,
            "memory": asdict(self.memory) | {"peak": self.memory.peak},
            "budget": self.budget,
            "fits": self.fits,
            "cache_limit": estimate.cache_limit(self.budget, self.config.cache_limit_bytes),
            "micro_batch": self.micro_batch,
            "step": self.step,
            "step_reason": self.step_reason,
            "seconds": asdict(self.seconds) if self.seconds else None,
            "iterations": self.config.iters,
            "updates": self.updates,
            "epochs": self.epochs,
            "tokens": self.tokens,
            "lengths": self.lengths.basis,
            "data": self._data_json(),
            "total_parameters": self.model.parameters,
            "device": self.machine.device,
            "flops_per_second": self.machine.flops_per_second,
        }

    def _data_json(self) -> dict[str, Any] | None:
        if self.seen is None:
            return None
        return {
            "found": self.seen.found,
            "train_rows": self.seen.train_rows,
            "held_out_rows": self.seen.held_out,
            "is_whole": self.seen.is_whole,
            "dropped": self.seen.dropped,
            "problem": self.seen.problem,
        }


def make_plan(
    config: RunConfig,
    machine: Machine,
    *,
    model: ModelShape | None = None,
    lengths: Lengths | None = None,
    seen: Glance | None = None,
) -> RunPlan:
    """Plan a run.

    Args:
        config: its settings.
        machine: what would train it.
        model: the base model's shape; None finds it out.
        lengths: of the training rows; None finds out what can be told cheaply.
        seen: the training rows as they were looked at; None looks at them.

    Raises:
        ModelError: when nothing is known of the model.
        ConfigError: when the adapters do not suit it.
    """
    model = model or find_shape(config.model, weights_dtype(config, machine))
    seen = seen or glance(config)
    lengths = lengths or find_lengths(seen, config.max_seq_length)
    tensors = trained.trained_tensors(model, config)
    budget = config.memory_budget_bytes or machine.budget_bytes
    size = step_size(config, machine, lengths)
    fitted = _within(budget, model, config, size, is_eager=machine.is_cpu)
    memory = fitted.memory
    if prompt_tokens := guessed_prompt_tokens(config, lengths):
        answers = answer_shape(model, is_eager=machine.is_cpu)
        needed = answers.needed_bytes(prompt_tokens, config.sample_max_tokens)
        memory = with_samples(memory, min(needed, max(0, budget - held_bytes(memory))))
    per_epoch = max(1, lengths.rows // config.batch_size) if lengths.rows else None
    return RunPlan(
        config=config,
        model=model,
        machine=machine,
        lengths=lengths,
        trainable_parameters=sum(tensor.size for tensor in tensors),
        adapter_bytes=trained.adapter_file_bytes(tensors, config.iters),
        memory=memory,
        budget=budget,
        micro_batch=fitted.micro_batch,
        step=size.method,
        step_reason=_STEP_REASONS[size.method],
        seconds=_seconds(model, config, machine, lengths, fitted),
        updates=config.iters // config.grad_accumulation_steps,
        epochs=config.iters / per_epoch if per_epoch else None,
        tokens=_tokens(config, lengths) if lengths.rows else None,
        seen=seen,
    )


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A step as the budget lets it be."""

    memory: MemoryPlan
    micro_batch: int
    kept_layers: int


def _within(
    budget: int, model: ModelShape, config: RunConfig, size: estimate.StepSize, *, is_eager: bool
) -> _Fitted:
    """Choose the rows worked at once, and what is kept for speed, as the budget allows."""
    shape = estimate.step_shape(model, config, is_eager=is_eager)
    stored = estimate.stored(model, config)
    largest = config.micro_batch_size or estimate.largest_micro_batch(stored, shape, size, budget)
    micro_batch = min(largest, config.batch_size)
    memory = estimate.with_step(stored, shape, size, micro_batch)
    if size.method != "layers":
        return _Fitted(memory, micro_batch, 0)
    positions = micro_batch * size.width
    kept = estimate.kept_layers(memory, shape, positions, budget)
    activations = memory.activations + kept * positions * shape.output_bytes
    return _Fitted(replace(memory, activations=activations), micro_batch, kept)


_STEP_REASONS: dict[StepMethod, str] = {
    "layers": "layer by layer, if the check at the start agrees",
    "whole-graph": "the whole graph at once, as asked",
}


def step_size(config: RunConfig, machine: Machine, lengths: Lengths) -> estimate.StepSize:
    """Return how large a step is at its widest on this machine, and how it is evaluated."""
    longest = min(max(lengths.high), config.max_seq_length)
    is_blocked = config.attention == "chunked" or (
        config.attention == "auto" and not machine.has_fused_attention
    )
    unblocked = 0 if machine.has_fused_attention else None
    return estimate.StepSize(
        batch=config.batch_size,
        width=-(-(longest - 1) // 8) * 8,
        chunk=config.tail_chunk,
        method="whole-graph" if config.step == "whole-graph" else "layers",
        score_bytes=estimate.BLOCK_SCORE_BYTES if is_blocked else unblocked,
    )


def weights_dtype(config: RunConfig, machine: Machine) -> str | None:
    """Return the type that weights are cast to; on a CPU it is float32 unless asked otherwise."""
    if config.dtype == "auto":
        return "F32" if machine.is_cpu else None
    return _DTYPES[config.dtype]


def _seconds(
    model: ModelShape,
    config: RunConfig,
    machine: Machine,
    lengths: Lengths,
    fitted: _Fitted,
) -> Seconds | None:
    """The arithmetic of all steps and evaluations at the speed that was measured."""
    if not machine.flops_per_second:
        return None
    micro_batches = -(-config.batch_size // fitted.micro_batch)
    bounds: list[float] = []
    for tokens, factor in ((lengths.low, FASTEST), (lengths.high, SLOWEST)):
        widths = batches_by_width(
            [min(n, config.max_seq_length) for n in tokens], config.batch_size
        )
        steps = config.iters * sum(
            share
            * work.step_flops(
                model,
                config,
                config.batch_size,
                width,
                kept_layers=fitted.kept_layers,
                micro_batches=micro_batches,
            )
            for width, share in widths.items()
        )
        evaluations = evaluations_of(config) * _evaluation_flops(model, config, widths)
        calls = config.iters * micro_batches * len(model.layers)
        computing = (steps + evaluations) / machine.flops_per_second
        bounds.append(factor * (computing + calls * machine.layer_seconds))
    return Seconds(*bounds)


def evaluations_of(config: RunConfig) -> int:
    """Return how often a run measures: before the first step, every so many, and at the end."""
    return 1 + -(-config.iters // config.steps_per_eval)


def _evaluation_flops(model: ModelShape, config: RunConfig, widths: Mapping[int, float]) -> float:
    # How many rows there are to evaluate on is not known where all of them are wanted.
    batches = config.val_batches if config.val_batches >= 0 else _USUAL_BATCHES
    return batches * sum(
        share * work.evaluation_flops(model, config.batch_size, width)
        for width, share in widths.items()
    )


_USUAL_BATCHES = 25
"""mlx-lm's own default."""


def _tokens(config: RunConfig, lengths: Lengths) -> int:
    middle = (sum(lengths.low) + sum(lengths.high)) / 2 / len(lengths.low)
    return round(config.iters * config.batch_size * (middle - 1))
