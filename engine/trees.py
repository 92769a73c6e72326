"""Typed ways through a model's nested parameters; MLX's own are without types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mlx import utils

if TYPE_CHECKING:
    import mlx.core as mx
    import mlx.nn as nn


def flatten(tree: Any) -> dict[str, mx.array]:
    """Return a tree's arrays by their path in it."""
    return dict(cast("list[tuple[str, mx.array]]", utils.tree_flatten(tree)))


def trainable(module: nn.Module) -> dict[str, mx.array]:
    """Return the trained arrays by their path in the module."""
    return flatten(module.trainable_parameters())


def number(array: mx.array) -> float:
    """Return the value of an array of one real number; this waits for it to be computed."""
    return float(cast("float", array.item()))
