"""Layers share a compiled function only where they compute the same of the same arrays."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest

from engine.layers import StepSettings
from engine.parts import Parts
from engine.step import LayerStep
from tests.architectures import odd
from tests.architectures.compare import difference, make_batch, reference, stepped
from tests.architectures.test_gradients import FALLBACKS, TRAINABLE
from tests.architectures.tiny import LEFT_ALONE, adapt, build

if TYPE_CHECKING:
    from collections.abc import Generator

    from engine.parts import Layer

LAYERED = [name for name in TRAINABLE if name not in FALLBACKS]
BATCH = make_batch(lengths=(12, 7), prompts=(2, 3))
FEW = {"num_hidden_layers": 2, "num_experts": 1}
COMPILED: dict[str, dict[str, Any]] = {
    # Alternately a window and full attention, told apart by a flag; told apart by the mask alone.
    "llama": {},
    "qwen2": {"num_hidden_layers": 2},
    # Two kinds of layers; keys that the second layer takes from the first.
    "jamba": {**FEW, "layers_block_type": ["mamba", "attention"]},
    "hunyuan": FEW,
}


@contextmanager
def lent(layer: Layer, other: Layer) -> Generator[None]:
    """Put another layer's arrays in a layer's places, as a compiled function they share does."""
    slots = (*layer.trainable, *layer.frozen)
    own = [slot.get() for slot in slots]
    for slot, source in zip(slots, (*other.trainable, *other.frozen), strict=True):
        slot.put(source.get())
    yield
    for slot, array in zip(slots, own, strict=True):
        slot.put(array)


@pytest.mark.parametrize("name", LAYERED)
def test_layers_of_one_structure_can_stand_in_for_one_another(name: str) -> None:
    parts = Parts(adapt(build(name), left_alone=LEFT_ALONE.get(name, ())))
    hidden, calls = parts.embed(mx.array(BATCH.tokens[:, :-1]))
    carried, first = [hidden], {}
    for index, (layer, call) in enumerate(zip(parts.layers, calls, strict=True)):
        expected = call.run(layer.module, carried, call.arrays)
        like = first.setdefault((layer.structure, call.static), index)
        with lent(parts.layers[like], layer):
            found = calls[like].run(parts.layers[like].module, carried, call.arrays)
            mx.eval(found)
        assert all(mx.array_equal(*pair).item() for pair in zip(found, expected, strict=True))
        carried = expected


def test_most_layers_are_of_few_structures() -> None:
    kinds = {name: structures(name) for name in ("llama", "qwen2", "qwen3", "gemma2", "qwen3_next")}
    assert kinds == {"llama": 2, "qwen2": 1, "qwen3": 1, "gemma2": 1, "qwen3_next": 2}


def structures(name: str) -> int:
    return len({layer.structure for layer in Parts(adapt(build(name))).layers})


def test_numbers_that_are_no_weights_tell_layers_apart() -> None:
    layers = Parts(adapt(odd.Tuned())).layers
    assert len({layer.structure for layer in layers}) == len(layers)


@pytest.mark.skipif(not shutil.which("g++"), reason="MLX compiles for the CPU with g++")
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_gradients_are_the_same(name: str) -> None:
    model = adapt(build(name, **COMPILED[name]))
    expected = reference(model, BATCH)
    mx.enable_compile()
    stepper = LayerStep(Parts(model), StepSettings(compiled=True))
    assert difference(stepped(stepper, BATCH), expected) < 1e-4
