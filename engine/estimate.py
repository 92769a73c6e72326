"""Where a run's memory goes: exact for what is stored, from shapes for what a step needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from engine.events import MemoryPlan
from engine.trees import flatten, trainable

if TYPE_CHECKING:
    import mlx.nn as nn

    from engine.events import StepMethod


@dataclass(frozen=True, slots=True)
class Shapes:
    """What decides the size of a step's temporary arrays."""

    layers: int
    """Layers whose input is kept."""
    hidden: int
    vocabulary: int
    layer_width: int
    """Outputs of all linear modules of the widest layer together."""
    heads: int
    itemsize: int
    """Bytes of an activation."""
    layer_bytes: int
    """Trained arrays of the largest layer."""


def shapes_of(model: nn.Module, config: dict[str, object]) -> Shapes:
    """Read the shapes from a loaded model and its config."""
    layers = cast("list[nn.Module]", getattr(model, "layers", []))
    text = cast("dict[str, object]", config.get("text_config") or config)

    def number(*names: str, default: int = 0) -> int:
        return next((v for n in names if isinstance(v := text.get(n), int)), default)

    arrays = [flatten(layer.parameters()) for layer in layers]
    outputs = [
        sum(a.shape[0] for n, a in arrays_.items() if n.endswith(".weight") and a.ndim == 2)
        for arrays_ in arrays
    ]
    norms = [a for x in arrays for n, a in x.items() if "norm" in n and a.ndim == 1]
    trained = [sum(a.nbytes for a in trainable(layer).values()) for layer in layers]
    return Shapes(
        layers=sum(size > 0 for size in trained),
        hidden=number("hidden_size", "n_embd", "d_model", "dim"),
        vocabulary=number("vocab_size"),
        layer_width=max(outputs, default=0),
        heads=number("num_attention_heads", "n_head", "num_heads", default=1),
        itemsize=norms[0].itemsize if norms else 4,
        layer_bytes=max(trained, default=0),
    )


def stored(model: nn.Module, optimizer_bytes: int) -> MemoryPlan:
    """Return what stays in memory all the time, exactly."""
    trained = sum(a.nbytes for a in trainable(model).values())
    everything = sum(a.nbytes for a in flatten(model.parameters()).values())
    return MemoryPlan(
        base=everything - trained, adapters=trained, gradients=trained, optimizer=optimizer_bytes
    )


def with_step(
    plan: MemoryPlan,
    shapes: Shapes,
    *,
    rows: int,
    width: int,
    chunk: int,
    method: StepMethod,
    score_bytes: int | None,
) -> MemoryPlan:
    """Add what one micro-batch needs at its widest.

    A layer's backward pass holds each linear module's output and its gradient and, below float32,
    LoRA's float32 copies of input, product and gradient; and four score-sized arrays of attention.
    Measured for Qwen2.5-1.5B in float16: 16.7 bytes a position and output where this says 16. The
    tail runs while no layer does, so only what it needs beyond a layer adds to the peak.
    """
    positions = rows * width
    copies = 3 * 4 if shapes.itemsize < 4 else shapes.itemsize
    linear = positions * shapes.layer_width * (2 * shapes.itemsize + copies)
    scores = rows * shapes.heads * width * width * shapes.itemsize
    layer = linear + 4 * (min(scores, score_bytes) if score_bytes else scores)
    if method == "whole-graph":
        logits = positions * shapes.vocabulary * (2 * shapes.itemsize + 4)
        return replace(plan, activations=shapes.layers * layer, tail=logits)
    inputs = shapes.layers * positions * shapes.hidden * shapes.itemsize
    logits = min(chunk, positions) * shapes.vocabulary * (2 * shapes.itemsize + 4)
    return replace(plan, activations=inputs + layer, tail=max(0, logits - layer))


def largest_micro_batch(
    plan: MemoryPlan,
    shapes: Shapes,
    *,
    batch_size: int,
    budget_bytes: int,
    width: int,
    chunk: int,
    method: StepMethod,
    score_bytes: int | None,
) -> int:
    """Return the most rows at once that fit the budget, halving from the batch; at least 1."""
    rows = batch_size
    while rows > 1:
        needed = with_step(
            plan,
            shapes,
            rows=rows,
            width=width,
            chunk=chunk,
            method=method,
            score_bytes=score_bytes,
        )
        if needed.peak <= budget_bytes:
            break
        rows = (rows + 1) // 2
    return rows
