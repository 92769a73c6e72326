"""Every architecture of mlx-lm: layer by layer where that works, and always the right gradients."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import pytest

from engine.config import RunConfig
from engine.errors import ModelError
from engine.layers import StepSettings
from engine.model import choose_stepper
from engine.parts import Parts
from engine.step import LayerStep
from tests.architectures.compare import difference, make_batch, reference, stepped
from tests.architectures.tiny import LEFT_ALONE, adapt, build, walk

NAMES, OTHERS = walk()

FALLBACKS = {
    "afm7": "its layers are given a ConcatenateKVCache",
    "iquestloopcoder": "it ran 0 of its 4 layers",
    "kimi_k3": "its layers are given a ResidualBlocks",
}
"""The architectures that need the whole graph, and why."""

UNTRAINABLE = {
    "bitnet": (RuntimeError, "No Metal back-end"),
    "deepseek_v41": (ValueError, "Cannot calculate VJP with respect to indices"),
    "muse_spark": (RuntimeError, "No Metal back-end"),
    "recurrent_gemma": (AttributeError, "_no_grad"),
}
"""The architectures without a gradient here, whichever way: a kernel for Metal alone, an index that
mlx-lm does not keep out of the gradient, a constructor that forgets its base class."""

NO_MODEL = {
    "activations", "base", "bitlinear_layers", "cache", "gated_delta", "mla", "pipeline",
    "rope_utils", "ssm", "switch_layers",
}  # fmt: skip
NOT_IMPORTABLE = {"olmo"}

TOLERANCE = 1e-4
TRAINABLE = [name for name in NAMES if name not in UNTRAINABLE]


class Report(NamedTuple):
    """How one architecture is stepped."""

    method: str
    reason: str
    error: float
    """Relative to the largest gradient."""
    error_keeping: float
    """The same where linear modules' outputs are kept for the backward pass."""


@cache
def report(name: str) -> Report:
    """Build an architecture, adapt it and step it."""
    model = adapt(build(name), left_alone=LEFT_ALONE.get(name, ()))
    batch = make_batch(lengths=(12, 7), prompts=(2, 3))
    expected = reference(model, batch)
    stepper, reason = choose_stepper(model, RunConfig(model="", data=""), StepSettings())
    error = difference(stepped(stepper, batch), expected)
    if stepper.method == "layers":
        stepper = LayerStep(Parts(model), StepSettings(tail_chunk=5, kept_bytes=1 << 30))
    return Report(stepper.method, reason, error, difference(stepped(stepper, batch), expected))


@pytest.mark.parametrize("name", TRAINABLE)
def test_gradients_are_those_of_the_whole_graph(name: str) -> None:
    found = report(name)
    assert found.error < TOLERANCE
    assert found.error_keeping < TOLERANCE
    if name in FALLBACKS:
        assert found.method == "whole-graph"
        assert FALLBACKS[name] in found.reason
    else:
        assert (found.method, found.reason) == ("layers", "layer by layer")


@pytest.mark.parametrize("name", UNTRAINABLE)
def test_what_cannot_be_trained_says_so(name: str) -> None:
    kind, words = UNTRAINABLE[name]
    with pytest.raises(kind, match=words):
        report(name)


def test_a_model_without_a_gradient_is_one_clear_error() -> None:
    model = adapt(build("deepseek_v41"))
    with pytest.raises(ModelError, match=r"This model cannot be trained: .* VJP"):
        choose_stepper(model, RunConfig(model="", data=""), StepSettings())


def test_nearly_all_architectures_step_layer_by_layer() -> None:
    reports = {name: report(name) for name in TRAINABLE}
    for name, found in reports.items():
        print(f"{name:24} {found.error:8.1e} {found.error_keeping:8.1e}  {found.reason}")
    for name, (_, words) in UNTRAINABLE.items():
        print(f"{name:24} {'-':>8} {'-':>8}  {words}")
    layered = sum(found.method == "layers" for found in reports.values())
    share = layered / len(reports)
    print(f"{len(NAMES)} architectures, {len(reports)} stepped, {share:.1%} layer by layer")
    assert len(reports) >= 60
    assert share >= 0.95
    assert {name for name, why in OTHERS.items() if why == "holds no model"} == NO_MODEL
    assert {name for name, why in OTHERS.items() if why != "holds no model"} == NOT_IMPORTABLE
