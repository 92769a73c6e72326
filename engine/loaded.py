"""What a loaded model consists of, and what it takes: read from its arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx

from engine import estimate
from engine.shapes import Tensor, shape_of
from engine.trees import flatten, trainable

if TYPE_CHECKING:
    import mlx.nn as nn

    from engine.config import RunConfig
    from engine.events import MemoryPlan
    from engine.shapes import ModelShape

_DTYPES = {
    mx.float32: "F32",
    mx.float16: "F16",
    mx.bfloat16: "BF16",
    mx.uint32: "U32",
    mx.uint8: "U8",
    mx.int32: "I32",
}
_ADAPTER_LEAVES = {"lora_a", "lora_b"}


def tensors_of(model: nn.Module) -> list[Tensor]:
    """Return a model's tensors as they were before adapters were attached."""
    arrays = flatten(model.parameters())
    adapted = {n.rpartition(".")[0] for n in arrays if n.rpartition(".")[2] in _ADAPTER_LEAVES}
    found: list[Tensor] = []
    for name, array in arrays.items():
        path, _, leaf = name.rpartition(".")
        if path in adapted:
            continue
        owner, _, inner = path.rpartition(".")
        if owner in adapted and inner in {"linear", "embedding"}:
            path = owner
        found.append(Tensor(f"{path}.{leaf}", tuple(array.shape), _DTYPES.get(array.dtype, "U8")))
    return found


def model_shape(model: nn.Module, config: dict[str, Any]) -> ModelShape:
    """Return a loaded model's shape; ``config`` is what its ``config.json`` says."""
    return shape_of(tensors_of(model), config)


def stored(model: nn.Module, optimizer_bytes: int, config: RunConfig) -> MemoryPlan:
    """Return what stays in memory all the time, counted."""
    trained = sum(a.nbytes for a in trainable(model).values())
    everything = sum(a.nbytes for a in flatten(model.parameters()).values())
    return estimate.stored_plan(everything - trained, trained, optimizer_bytes, config)
