"""A model that cannot be taken apart is evaluated as a whole, with a reason, and never wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten, tree_map
from mlx_lm.tuner.lora import LoRALinear

from engine.config import RunConfig
from engine.errors import ModelError
from engine.layers import StepSettings
from engine.model import choose_stepper
from engine.parts import CannotTakeApartError, Parts
from engine.step import LayerStep
from tests.architectures import odd
from tests.architectures.compare import difference, make_batch, reference, stepped
from tests.architectures.tiny import LEFT_ALONE, adapt, build, quantise

if TYPE_CHECKING:
    import mlx.nn as nn

    from engine.step import Stepper

APART = [
    odd.Model,
    odd.CurvedHead,
    odd.HandsOnTuples,
    odd.SkipsAcross,
    odd.CallsByKeyword,
    odd.AsksForTheClass,
    odd.InSegments,
    odd.Tuned,
]
WHOLE: dict[type[nn.Module], str] = {
    odd.ScalesBetween: "something changes the hidden state before layer 1",
    odd.ChangesInPlace: "something changes what a layer returned",
    odd.MasksByResult: "layer 1 is given what was made of another's result",
    odd.ChoosesByResult: "taken apart, its loss is",
    odd.EndsWithEmbedding: "taken apart, its loss is",
    odd.EndsWithAllResults: "taken apart, its loss is nan",
    odd.MixesPositionsInTail: "taken apart, its loss is",
    odd.PassesState: "its layers are given a Notes",
    odd.PassesDict: "its layers are given a dict",
    odd.RunsTwice: "its layers do not run once each, in order",
    odd.RunsBackwards: "its layers do not run once each, in order",
    odd.LeavesOneOut: "it ran 2 of its 3 layers",
    odd.RepeatsALayer: "it uses a layer more than once",
    odd.SharesAModule: "taken apart, the gradient of",
    odd.TrainsItsHead: "head.lora_a is trained and lies outside the layers",
    odd.FlatStates: "what its layers return depends on the batch's size",
    odd.ChangesItsInput: "something changes what a layer returned",
}
BATCH = make_batch(lengths=(12, 7), prompts=(2, 3))


def make(kind: type[nn.Module]) -> nn.Module:
    mx.random.seed(1)
    model = kind()
    # Louder, so that nothing is too small to show.
    model.update(tree_map(lambda a: a * 1.5, model.parameters()))
    # What layers share can only be trained as it is: each layer gets an adapter of its own.
    model = adapt(model, full=kind in (odd.RepeatsALayer, odd.SharesAModule))
    if kind is odd.TrainsItsHead:
        model.head = LoRALinear.from_base(model.head, r=2)
    return model


def choose(model: nn.Module) -> tuple[Stepper, str]:
    return choose_stepper(model, RunConfig(model="", data=""), StepSettings())


@pytest.mark.parametrize("kind", APART)
def test_odd_but_layered(kind: type[nn.Module]) -> None:
    model = make(kind)
    stepper, reason = choose(model)
    assert (stepper.method, reason) == ("layers", "layer by layer")
    assert difference(stepped(stepper, BATCH), reference(model, BATCH)) < 1e-4


@pytest.mark.parametrize("kind", WHOLE)
def test_the_whole_graph_at_once_with_a_reason(kind: type[nn.Module]) -> None:
    model = make(kind)
    stepper, reason = choose(model)
    assert stepper.method == "whole-graph"
    assert WHOLE[kind] in reason
    assert difference(stepped(stepper, BATCH), reference(model, BATCH)) < 1e-4


def test_layers_that_draw_their_own_random_numbers() -> None:
    stepper, reason = choose(make(odd.DrawsItsOwnNumbers))
    assert stepper.method == "whole-graph"
    assert "it draws random numbers of its own" in reason


def test_logits_must_come_alone() -> None:
    model = make(odd.ReturnsMore)
    with pytest.raises(CannotTakeApartError, match="it returns a tuple, not logits"):
        Parts(model)
    with pytest.raises(ModelError, match="This model cannot be trained"):
        choose(model)


def test_loops_over_its_layers() -> None:
    model = adapt(build("nanbeige", num_loops=2))
    stepper, reason = choose(model)
    assert (stepper.method, "its layers do not run once each" in reason) == ("whole-graph", True)
    assert difference(stepped(stepper, BATCH), reference(model, BATCH)) < 1e-4


@pytest.mark.parametrize("mode", ["mxfp4", "mxfp8", "nvfp4"])
def test_other_quantisations_have_the_right_gradient(mode: str) -> None:
    bits, group = {"mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}[mode]
    model = build("llama", hidden_size=64, intermediate_size=64, head_dim=16)
    model = adapt(quantise(model, bits, group, mode))
    stepper, _ = choose(model)
    assert stepper.method == "layers"
    assert difference(stepped(stepper, BATCH), reference(model, BATCH)) < 1e-4


@pytest.mark.parametrize("name", ["llama", "gemma3n", "gemma4_text", "jamba", "gpt_oss"])
def test_the_model_stays_as_it_is(name: str) -> None:
    model = adapt(build(name), dropout=0.5, left_alone=LEFT_ALONE.get(name, ()))
    before, layers = dict(tree_flatten(model)), [id(layer) for layer in model.layers]
    random_state = cast("Any", mx.random.state)[0]
    stepped(LayerStep(Parts(model), StepSettings()), BATCH)
    after = dict(tree_flatten(model))
    assert before.keys() == after.keys()
    assert all(before[path] is after[path] for path in before)
    assert [id(layer) for layer in model.layers] == layers
    assert mx.array_equal(random_state, cast("Any", mx.random.state)[0]).item()
