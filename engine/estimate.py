"""Where a run's memory goes: exact for what is stored, from shapes for what a step needs.

One arithmetic for the plan made before anything is loaded and for the one that a run begins with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.events import MemoryPlan
from engine.trained import (
    adapted_linears,
    adapter_keys,
    first_trained_layer,
    optimizer_bytes,
    trained_tensors,
)

if TYPE_CHECKING:
    from engine.config import RunConfig
    from engine.events import StepMethod
    from engine.shapes import LayerShape, Linear, ModelShape

SCORE_ARRAYS = 4
"""Score-sized arrays that attention's backward pass holds at once."""
EAGER_ARRAYS, EAGER_SCORE_ARRAYS = 7, 2
"""Uncompiled, MLX makes arrays up to a hundred operations ahead of what is computed: so many more
of the widest output, while attention's are gone by then. Measured on a CPU with tiny Llamas in
float32 and float16, within 4 %."""
BLOCK_SCORE_BYTES = 64_000_000
"""What one block's scores may take where attention is worked in blocks."""
KEPT_SHARE = 0.9
"""Share of the budget that outputs kept for speed may fill; an estimate may be short."""
MOST_CACHE_BYTES = 512_000_000
"""Freed buffers kept for reuse, unless the settings say otherwise."""


@dataclass(frozen=True, slots=True)
class StepShape:
    """What decides the size of a step's temporary arrays."""

    layers: int
    """Layers whose input is kept: those from the first trained one on."""
    hidden: int
    vocabulary: int
    heads: int
    itemsize: int
    """Bytes of an activation's element."""
    backward_bytes: int
    """What the backward pass of the heaviest layer holds for a position."""
    retained_bytes: int
    """What the whole graph keeps of that layer for a position until its backward pass."""
    output_bytes: int
    """A position's linear outputs in that layer."""
    matrix_bytes: int
    """Matrices that the layer's backward pass makes, whatever the positions."""
    is_eager: bool = False
    """Whether nothing is compiled, as on a CPU."""


@dataclass(frozen=True, slots=True)
class StepSize:
    """How large a step is, and how it is evaluated."""

    batch: int
    """Rows."""
    width: int
    """Positions of the widest row."""
    chunk: int
    """Positions whose logits exist at once."""
    method: StepMethod
    score_bytes: int | None
    """What a block of attention scores may take; None is unbounded, 0 a kernel without scores."""


def stored(model: ModelShape, config: RunConfig) -> MemoryPlan:
    """Return what stays in memory all the time, exactly.

    Raises:
        ConfigError: when nothing would be trained, or a rank is larger than a module.
    """
    trained = trained_tensors(model, config)
    size = sum(tensor.nbytes for tensor in trained)
    is_inside = config.fine_tune_type == "full"
    base = model.base_bytes - (size if is_inside else 0)
    return stored_plan(base, size, optimizer_bytes(trained, config), config)


def stored_plan(base: int, trained: int, optimizer: int, config: RunConfig) -> MemoryPlan:
    """Return what stays in memory from its parts, all in bytes.

    While steps accumulate, a step's own gradients stand beside the sum of those before it.
    """
    sums = 2 if config.grad_accumulation_steps > 1 else 1
    return MemoryPlan(base=base, adapters=trained, gradients=sums * trained, optimizer=optimizer)


def step_shape(model: ModelShape, config: RunConfig, *, is_eager: bool = False) -> StepShape:
    """Return what decides the size of a step's temporary arrays.

    Args:
        model: the base model.
        config: what is trained of it, and how.
        is_eager: whether nothing is compiled, as on a CPU.
    """
    first = first_trained_layer(model, config)
    layers = model.layers[first:]
    heaviest = max(
        layers, key=lambda layer: _backward_bytes(layer, model, config, is_eager=is_eager)
    )
    outputs = sum(m.outputs * m.active for m in _matrices(heaviest))
    return StepShape(
        layers=len(layers),
        hidden=model.hidden,
        vocabulary=model.vocabulary,
        heads=model.heads,
        itemsize=model.itemsize,
        backward_bytes=_backward_bytes(heaviest, model, config, is_eager=is_eager),
        retained_bytes=_retained_bytes(heaviest, model, config),
        output_bytes=outputs * model.itemsize,
        matrix_bytes=_matrix_bytes(heaviest, model, config),
        is_eager=is_eager,
    )


def _matrices(layer: LayerShape) -> tuple[Linear, ...]:
    return tuple(m for m in layer.linears if not m.is_embedding)


def _adapted(layer: LayerShape, config: RunConfig) -> set[str]:
    if config.fine_tune_type == "full":
        return set()
    return {m.path for m in adapted_linears(layer, adapter_keys(config))}


def _backward_bytes(
    layer: LayerShape, model: ModelShape, config: RunConfig, *, is_eager: bool
) -> int:
    """What a layer's backward pass holds for a position.

    Of a linear module its output and the gradient of it; of LoRA its product and that one's
    gradient, and below float32 its input, all in float32. Measured for Qwen2.5-1.5B in float16 on a
    GPU: 16.7 bytes a position and output where this says 16. Dropout keeps a mask and what it let
    through (measured on a CPU: 3.2 bytes an input in float16), DoRA the outputs before they are
    scaled.
    """
    adapted = _adapted(layer, config)
    itemsize = model.itemsize
    total = 0
    for module in _matrices(layer):
        each = 2 * itemsize
        if module.path in adapted:
            each += 2 * 4 + (4 if itemsize < 4 else 0)
            each += itemsize if config.fine_tune_type == "dora" else 0
            total += 4 * config.lora_parameters.rank
            if config.lora_parameters.dropout:
                total += module.inputs * module.active * (1 + itemsize)
        total += module.outputs * module.active * each
    return total + (EAGER_ARRAYS * itemsize * _widest(layer) if is_eager else 0)


def _widest(layer: LayerShape) -> int:
    return max((m.outputs * m.active for m in _matrices(layer)), default=0)


def _retained_bytes(layer: LayerShape, model: ModelShape, config: RunConfig) -> int:
    """What the whole graph keeps of a layer: every module's input and output, and the gate's.

    Below float32 an adapted module's input is kept in float32 too. Measured on a CPU with a tiny
    Llama: 4 % more in float32, 9 % less in float16.
    """
    adapted = _adapted(layer, config)
    copies = 4 if model.itemsize < 4 else 0
    total = _widest(layer) * model.itemsize
    for module in _matrices(layer):
        total += (module.inputs + module.outputs) * module.active * model.itemsize
        total += module.inputs * module.active * copies if module.path in adapted else 0
    return total


def _matrix_bytes(layer: LayerShape, model: ModelShape, config: RunConfig) -> int:
    """DoRA adds its update to each matrix in float32; a quantised one is unpacked before."""
    if config.fine_tune_type != "dora":
        return 0
    adapted = _adapted(layer, config)
    own = [m for m in _matrices(layer) if m.path in adapted]
    unpacked = sum(m.size * model.itemsize for m in own if m.is_quantized)
    return unpacked + 2 * 4 * max((m.size for m in own), default=0)


def cache_limit(budget_bytes: int, asked_bytes: int | None) -> int:
    """Return what MLX may keep of freed buffers."""
    return min(budget_bytes // 8, MOST_CACHE_BYTES) if asked_bytes is None else asked_bytes


def with_step(plan: MemoryPlan, shape: StepShape, size: StepSize, rows: int) -> MemoryPlan:
    """Add what one micro-batch of this many rows needs at its widest.

    The tail runs while no layer does, so only what it needs beyond a layer adds to the peak. In a
    step of one micro-batch a layer's input is gone when its gradients appear, and there are none
    yet in the tail.
    """
    positions = rows * size.width
    scores = rows * shape.heads * size.width**2 * shape.itemsize
    if size.score_bytes is not None:
        scores = min(scores, size.score_bytes)
    score_arrays = EAGER_SCORE_ARRAYS if shape.is_eager else SCORE_ARRAYS
    layer = positions * shape.backward_bytes + score_arrays * scores + shape.matrix_bytes
    # Logits and their gradient, and the probabilities in float32; uncompiled, also a truth value.
    logit = 2 * shape.itemsize + 4 + shape.is_eager
    if size.method == "whole-graph":
        logits = positions * shape.vocabulary * logit
        held = (shape.layers - 1) * (positions * shape.retained_bytes + scores)
        return replace(plan, activations=held + layer, tail=max(0, logits - layer))
    inputs = shape.layers * positions * shape.hidden * shape.itemsize
    to_come = plan.adapters if rows >= size.batch else 0
    chunk = min(size.chunk, positions) * shape.vocabulary
    held = max(0, inputs - to_come) + layer
    return replace(plan, activations=held, tail=max(0, inputs - to_come + chunk * logit - held))


def largest_micro_batch(
    plan: MemoryPlan, shape: StepShape, size: StepSize, budget_bytes: int
) -> int:
    """Return the most rows at once that fit the budget, halving from the batch; at least 1."""
    rows = size.batch
    while rows > 1 and with_step(plan, shape, size, rows).peak > budget_bytes:
        rows = (rows + 1) // 2
    return rows


def kept_layers(plan: MemoryPlan, shape: StepShape, positions: int, budget_bytes: int) -> int:
    """Return how many layers' outputs the budget lets a step keep, not to compute them again."""
    spare = int(budget_bytes * KEPT_SHARE) - plan.peak
    each = positions * shape.output_bytes
    return max(0, min(shape.layers, spare // each)) if each else 0
