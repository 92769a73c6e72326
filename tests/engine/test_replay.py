"""Keeping what linear modules returned saves work and changes nothing."""

from __future__ import annotations

import io
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner.lora import LoRALinear

from engine.layers import StepSettings
from engine.parts import Parts
from engine.step import LayerStep
from tests.engine.stepping import (
    LAYERS,
    Steady,
    difference,
    make_batch,
    reference,
    stepped,
    tiny_model,
)

pytestmark = pytest.mark.usefixtures("uncompiled")

BATCH = make_batch()
ALL = 1 << 30
POSITIONS = 4 * 24
KINDS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "two layers": {"num_layers": 2},
    "DoRA": {"kind": "dora"},
    "all trained": {"kind": "full"},
    "4 bits": {"bits": 4},
    "8-bit DoRA": {"bits": 8, "kind": "dora"},
}


def layer_step(model: Any, kept_bytes: int) -> LayerStep:
    return LayerStep(Parts(model), StepSettings(kept_bytes=kept_bytes))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_same(kind: str) -> None:
    model = tiny_model(**KINDS[kind])
    without = stepped(layer_step(model, 0), BATCH)
    kept = stepped(layer_step(model, ALL), BATCH)
    assert difference(kept, without) < 1e-5
    assert difference(kept, reference(model, BATCH)) < 1e-4


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("bits", [0, 4])
def test_dropout_draws_the_same_masks(kind: str, bits: int) -> None:
    """Masks that differ would change the gradients by far more."""
    model = tiny_model(kind=kind, dropout=0.5, bits=bits)
    without = stepped(layer_step(model, 0), BATCH)
    assert difference(stepped(layer_step(model, ALL), BATCH), without) < 1e-5
    for size in (1, 2):
        assert difference(stepped(layer_step(model, ALL), BATCH, Steady(size)), without) < 1e-5
    model.eval()
    assert difference(stepped(layer_step(model, ALL), BATCH), without) > 1e-2


def kept_layer_bytes(stepper: LayerStep) -> int:
    """What one layer's outputs of the batch take."""
    everything = stepper.keep_at_most(ALL, *BATCH.trained.shape)
    assert everything % LAYERS == 0
    return everything // LAYERS


def test_what_is_kept_is_what_linear_modules_return() -> None:
    """In float32: q 32, k and v 16 each, o 32, gate and up 64 each, down 32."""
    stepper = layer_step(tiny_model(), 0)
    assert kept_layer_bytes(stepper) == POSITIONS * (32 + 16 + 16 + 32 + 64 + 64 + 32) * 4


@pytest.mark.parametrize("layers", range(LAYERS + 1))
def test_as_many_of_the_last_layers_are_kept_as_may_be(
    layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted by the adapted modules that run: seven a layer, forward and again backward."""
    stepper = layer_step(tiny_model(), 0)
    whole = stepped(stepper, BATCH)
    a_layer = kept_layer_bytes(stepper)
    for allowed, expected in ((layers * a_layer, layers), (layers * a_layer - 1, layers - 1)):
        used = stepper.keep_at_most(allowed, *BATCH.trained.shape)
        assert used == max(expected, 0) * a_layer
    stepper.keep_at_most(layers * a_layer)
    calls: list[int] = []
    call = LoRALinear.__call__

    def counted(module: LoRALinear, x: mx.array) -> mx.array:
        calls.append(x.shape[0])
        return call(module, x)

    monkeypatch.setattr(LoRALinear, "__call__", counted)
    assert difference(stepped(stepper, BATCH), whole) < 1e-5
    # Given back or not, each module runs once more for its own gradients.
    assert len(calls) == 2 * 7 * LAYERS


def test_frozen_layers_keep_nothing() -> None:
    stepper = layer_step(tiny_model(num_layers=1), 0)
    one = stepper.keep_at_most(ALL, *BATCH.trained.shape)
    every = layer_step(tiny_model(), 0).keep_at_most(ALL, *BATCH.trained.shape)
    assert (one > 0, every) == (True, LAYERS * one)


def test_outputs_given_back_are_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a layer's seven products with a frozen matrix goes forward once instead of twice."""
    model = tiny_model()
    computed = {kept: products_of_a_step(layer_step(model, kept), monkeypatch) for kept in (0, ALL)}
    assert computed[0] - computed[ALL] >= 7 * LAYERS


def products_of_a_step(stepper: LayerStep, monkeypatch: pytest.MonkeyPatch) -> int:
    """Count the matrix products that a step makes the device work."""
    counts: list[int] = []
    evaluate = mx.eval

    def counting(*given: Any) -> None:
        graph = io.StringIO()
        mx.export_to_dot(graph, *(array for _, array in tree_flatten(given)))
        counts.append(sum(graph.getvalue().count(f'"{name}"') for name in ("Matmul", "AddMM")))
        evaluate(*given)

    with monkeypatch.context() as patch:
        patch.setattr(mx, "eval", counting)
        stepped(stepper, BATCH)
    return sum(counts)
