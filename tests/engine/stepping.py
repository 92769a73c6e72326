"""A tiny Qwen2 in memory, batches for it, and its gradients as MLX alone computes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models import qwen2

from engine.config import validate
from engine.model import attach
from engine.step import MicroBatch, run_step
from engine.trees import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.step import Stepper

    Result = tuple[float, dict[str, mx.array]]

LAYERS, VOCABULARY, WIDTH = 4, 96, 24


class Steady:
    """A control that never stops a step and never changes the micro-batch."""

    def __init__(self, size: int = 64) -> None:
        self.size = size

    def should_stop(self) -> bool:
        return False

    def micro_batch(self) -> int:
        return self.size


def tiny_model(
    *, kind: str = "lora", dropout: float = 0.0, bits: int = 0, num_layers: int = -1
) -> Any:
    """Return a random model with random adapters, in training mode.

    Args:
        kind: lora, dora or full.
        dropout: the adapters'.
        bits: of the quantised base, in groups of 32; 0 leaves it in float32.
        num_layers: how many of the last layers are trained.
    """
    mx.random.seed(0)
    model = qwen2.Model(
        qwen2.ModelArgs(
            model_type="qwen2",
            hidden_size=32,
            num_hidden_layers=LAYERS,
            intermediate_size=64,
            num_attention_heads=4,
            num_key_value_heads=2,
            rms_norm_eps=1e-6,
            vocab_size=VOCABULARY,
        )
    )
    if bits:
        nn.quantize(model, group_size=32, bits=bits)
    model.freeze()
    lora = {"rank": 3, "scale": 2.0, "dropout": dropout}
    attach(
        model,
        validate({"fine_tune_type": kind, "num_layers": num_layers, "lora_parameters": lora}),
    )
    rng = np.random.default_rng(1)
    # Freshly made, half of the adapters are 0, and so are the gradients of the other half.
    moved = [
        (path, mx.array(0.1 * rng.standard_normal(array.shape, np.float32)))
        for path, array in dict(tree_flatten(model.trainable_parameters())).items()
        if "lora" in path
    ]
    model.load_weights(moved, strict=False)
    model.train()
    mx.eval(model.parameters())
    return model


def make_batch(
    lengths: Sequence[int] = (24, 9, 17, 5),
    prompts: Sequence[int] = (4, 2, 17, 0),
    seed: int = 0,
) -> MicroBatch:
    """Random tokens; a row counts from its prompt's end to its length, padding is token 0."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, VOCABULARY, (len(lengths), WIDTH + 1)).astype(np.int32)
    places = np.arange(WIDTH)[None]
    ends = np.array(lengths)[:, None]
    tokens[:, 1:][places >= ends] = 0
    trained = (places >= np.array(prompts)[:, None]) & (places < ends)
    return MicroBatch(tokens, trained, range(len(lengths)), seed=seed, iteration=1)


def reference(model: Any, batch: MicroBatch) -> Result:
    """The sum of the loss and its gradients by MLX alone, all at once."""
    trained: Any = batch.trained
    counts = mx.array(trained)

    def loss_of(model: Any) -> mx.array:
        tokens = mx.array(batch.tokens)
        losses = nn.losses.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:], reduction="none")
        return mx.where(counts, losses, 0).sum()

    loss, gradients = nn.value_and_grad(model, loss_of)(model)
    flat = dict(tree_flatten(gradients))
    mx.eval(loss, flat)
    return number(loss), flat


def stepped(
    stepper: Stepper, batch: MicroBatch, control: Any = None, widths: Sequence[int] = (WIDTH,)
) -> Result:
    """The same by one of the engine's ways of stepping."""
    gradients: dict[str, mx.array] = {}
    loss = run_step(
        stepper,
        batch.tokens,
        batch.trained,
        gradients,
        control or Steady(),
        widths,
        batch.seed,
        batch.iteration,
    )
    return loss, gradients


def difference(ours: Result, theirs: Result) -> float:
    """The largest difference relative to the largest gradient, or to the loss."""
    assert ours[1].keys() == theirs[1].keys()
    # Not max(): of a list that holds NaN it may return another number.
    scale = np.array([largest(gradient) for gradient in theirs[1].values()]).max()
    assert scale > 1e-3, "there is nothing to compare"
    off = [largest(ours[1][name] - theirs[1][name]) / scale for name in theirs[1]]
    return float(np.array([*off, abs(ours[0] - theirs[0]) / abs(theirs[0])]).max())


def largest(array: mx.array) -> float:
    """Return the largest absolute value; NaN if there is any."""
    return number(mx.abs(array).max())
