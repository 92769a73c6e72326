"""Computes a batch's loss and gradients without the engine, and compares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from engine.step import MicroBatch, run_step
from tests.architectures.tiny import VOCABULARY

if TYPE_CHECKING:
    from engine.step import Stepper

    Result = tuple[float, dict[str, mx.array]]

WIDTH = 12


class Steady:
    """A control that never stops a step and never changes the micro-batch."""

    def __init__(self, size: int = 64) -> None:
        self.size = size

    def should_stop(self) -> bool:
        return False

    def micro_batch(self) -> int:
        return self.size


def make_batch(lengths: tuple[int, ...], prompts: tuple[int, ...], seed: int = 0) -> MicroBatch:
    """Random tokens; a row counts from its prompt's end to its length."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, VOCABULARY, (len(lengths), WIDTH + 1)).astype(np.int32)
    places = np.arange(WIDTH)[None]
    trained = (places >= np.array(prompts)[:, None]) & (places < np.array(lengths)[:, None])
    tokens[:, 1:][~trained & (places >= np.array(lengths)[:, None])] = 0
    return MicroBatch(tokens, trained, range(len(lengths)))


def reference(model: nn.Module, batch: MicroBatch) -> Result:
    """The sum of the loss and its gradients by MLX alone, all at once."""

    def loss_of(model: nn.Module) -> mx.array:
        tokens = mx.array(batch.tokens)
        logits = model(tokens[:, :-1]).astype(mx.float32)
        losses = nn.losses.cross_entropy(logits, tokens[:, 1:], reduction="none")
        return mx.where(mx.array(batch.trained.tolist()), losses, 0).sum()

    loss, gradients = nn.value_and_grad(model, loss_of)(model)
    flat = dict(tree_flatten(gradients))
    mx.eval(loss, flat)
    return loss.item(), flat


def stepped(stepper: Stepper, batch: MicroBatch, size: int = 64, widths: Any = (WIDTH,)) -> Result:
    """The same by one of the engine's ways of stepping, in micro-batches."""
    gradients: dict[str, mx.array] = {}
    loss = run_step(
        stepper, batch.tokens, batch.trained, gradients, Steady(size), widths, batch.seed, 1
    )
    return loss, gradients


def difference(ours: Result, theirs: Result) -> float:
    """The largest difference of gradients relative to the largest, or that of the losses."""
    assert ours[1].keys() == theirs[1].keys()
    scale = max(_largest(gradient) for gradient in theirs[1].values())
    assert scale > 1e-3, "there is nothing to compare"
    off = [_largest(ours[1][name] - theirs[1][name]) / scale for name in theirs[1]]
    # Unlike Python's, this maximum is not-a-number if one of them is.
    return float(np.max([*off, abs(ours[0] - theirs[0]) / abs(theirs[0])]))


def _largest(array: mx.array) -> float:
    return float(np.max(np.abs(np.array(array))))
