"""What LoRA training must come to: the losses of the plainest loop over mlx-lm's own parts.

The whole graph at once, in float32, uncompiled, with mlx-lm's layers, schedules and optimisers.
Its loss is mlx-lm's but for one mended fault: the mask ends before the first pad token, not after.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import numpy.typing as npt
from mlx_lm import load
from mlx_lm.tuner.utils import build_schedule, linear_to_lora_layers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "adafactor": optim.Adafactor,
    "muon": optim.Muon,
    "sgd": optim.SGD,
}


@dataclass(frozen=True)
class Batch:
    """One batch as mlx-lm's `iterate_batches` yields it."""

    tokens: npt.NDArray[np.int32]
    """Shape [rows, width], padded with anything."""
    spans: npt.NDArray[np.int32]
    """Shape [rows, 2]: the first position that is learned, and the row's length without padding."""
    learned: npt.NDArray[np.bool_] | None = None
    """Shape [rows, width]: which tokens are learned, where that is not one span; None: the span."""


@dataclass(frozen=True)
class Lora:
    """mlx-lm's `lora_parameters` and `num_layers`."""

    rank: int = 8
    scale: float = 20.0
    dropout: float = 0.0
    keys: tuple[str, ...] | None = None
    """Modules within a layer; None: every one that can have LoRA."""
    num_layers: int = 16
    """Counted from the last; -1: all."""


@dataclass(frozen=True)
class Optimizer:
    """mlx-lm's `optimizer`, `optimizer_config`, `learning_rate` and `lr_schedule`."""

    name: str = "adam"
    learning_rate: float = 1e-5
    lr_schedule: dict[str, Any] | None = None
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    clip_norm: float | None = None
    """The global gradient norm's ceiling; mlx-lm has none."""


def stock_losses(
    model_folder: Path,
    batches: Sequence[Batch],
    lora: Lora,
    optimizer: Optimizer,
    seed: int,
) -> list[float]:
    """Train on the batches in their order and give each step's loss, taken before its update.

    It turns `mx.compile` off for the whole process, as the engine does on this back end too.
    """
    mx.disable_compile()
    model = _load_with_lora(model_folder, lora, seed)
    rule = _build_optimizer(optimizer)
    rule.init(model.trainable_parameters())
    loss_and_gradients = nn.value_and_grad(model, _loss)
    losses: list[float] = []
    for batch in batches:
        loss, gradients = loss_and_gradients(model, mx.array(batch.tokens), _mask(batch))
        if optimizer.clip_norm is not None:
            gradients, _ = optim.clip_grad_norm(gradients, optimizer.clip_norm)
        rule.update(model, gradients)
        mx.eval(model.trainable_parameters(), rule.state, loss)
        losses.append(loss.item())
    return losses


def _load_with_lora(model_folder: Path, lora: Lora, seed: int) -> nn.Module:
    """Load the base in float32, freeze it and attach adapters, in the order of `mlx_lm.lora`."""
    model: Any = load(str(model_folder))[0]
    model.set_dtype(mx.float32)
    # Building the base drew numbers of its own.
    mx.random.seed(seed)
    model.freeze()
    count = len(model.layers) if lora.num_layers == -1 else lora.num_layers
    parameters: dict[str, Any] = {
        "rank": lora.rank,
        "scale": lora.scale,
        "dropout": lora.dropout,
        "keys": None if lora.keys is None else set(lora.keys),
    }
    linear_to_lora_layers(model, count, parameters)
    model.train()
    mx.eval(model.parameters())
    return model


def _build_optimizer(settings: Optimizer) -> optim.Optimizer:
    """Build mlx-lm's optimiser, with its schedule if there is one."""
    rate = settings.learning_rate
    if settings.lr_schedule is not None:
        rate = build_schedule(settings.lr_schedule)
    return _OPTIMIZERS[settings.name](learning_rate=rate, **settings.config)


def _mask(batch: Batch) -> mx.array:
    """Mark the targets that are learned, shape [rows, width - 1]."""
    steps = np.arange(1, batch.tokens.shape[1])
    # mlx-lm says `steps <= length` here, which also learns the first pad token.
    mask = (steps >= batch.spans[:, 0:1]) & (steps < batch.spans[:, 1:2])
    if batch.learned is not None:
        mask &= batch.learned[:, 1:]
    return mx.array(mask)


def _loss(model: nn.Module, tokens: mx.array, mask: mx.array) -> mx.array:
    """Compute mlx-lm's `default_loss` over the masked targets."""
    losses = nn.losses.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]) * mask
    return losses.astype(mx.float32).sum() / mask.sum()
