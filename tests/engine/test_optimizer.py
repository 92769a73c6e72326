"""An update is that of ``mlx.optimizers`` with mlx-lm's settings, or none where numbers fail."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_unflatten
from mlx_lm.tuner.utils import build_schedule

from engine.config import RunConfig, validate
from engine.errors import ConfigError
from engine.optimizer import Updater
from engine.trees import flatten, trainable

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.usefixtures("uncompiled")

UPDATES = 6
COSINE = {"name": "cosine_decay", "arguments": [1e-2, 4, 1e-3], "warmup": 2, "warmup_init": 1e-4}
OPTIMIZERS: dict[str, tuple[type[optim.Optimizer], dict[str, Any]]] = {
    "adam": (optim.Adam, {"betas": [0.8, 0.95], "bias_correction": True}),
    "adamw": (optim.AdamW, {"weight_decay": 0.1}),
    "sgd": (optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
    "muon": (optim.Muon, {"momentum": 0.9}),
    "adafactor": (optim.Adafactor, {"relative_step": False, "beta_1": 0.9}),
}
WITHOUT_SETTINGS = [(name, {}) for name in OPTIMIZERS]
WITH_SETTINGS = [(name, settings) for name, (_, settings) in OPTIMIZERS.items()]


class Small(nn.Module):
    """Three layers of which the first is frozen, and a head outside of them."""

    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.layers = [nn.Linear(6, 6, bias=bias) for _ in range(3)]
        self.head = nn.Linear(6, 6, bias=False)


def small(*, bias: bool = True) -> Small:
    mx.random.seed(3)
    model = Small(bias=bias)
    model.layers[0].freeze()
    mx.eval(model.parameters())
    return model


def gradients_of(model: nn.Module, number: int, scale: float = 1.0) -> dict[str, mx.array]:
    rng = np.random.default_rng(number)
    return {
        name: mx.array(scale * rng.standard_normal(array.shape, np.float32))
        for name, array in trainable(model).items()
    }


def reference(config: RunConfig, count: int = UPDATES) -> list[tuple[dict[str, mx.array], float]]:
    """Parameters and learning rate after each update, as mlx-lm makes them."""
    rate: Any = config.learning_rate
    if config.lr_schedule:
        rate = build_schedule(config.lr_schedule.model_dump())
    kind: Any = OPTIMIZERS[config.optimizer][0]
    rule = kind(learning_rate=rate, **config.optimizer_config.get(config.optimizer, {}))
    model = small()
    found: list[tuple[dict[str, mx.array], float]] = []
    for number in range(count):
        gradients = gradients_of(model, number)
        if config.max_grad_norm:
            gradients, _ = optim.clip_grad_norm(gradients, config.max_grad_norm)
        rule.update(model, tree_unflatten(list(gradients.items())))
        mx.eval(model.parameters(), rule.state)
        found.append((flatten(model.parameters()), rule.learning_rate.item()))
    return found


def ours(
    config: RunConfig, tokens: int = 1, *, bias: bool = True, is_compiled: bool = False
) -> list[tuple[dict[str, mx.array], float]]:
    """The same by the engine, of gradients that are sums over tokens."""
    model = small(bias=bias)
    updater = Updater(model, config, is_compiled=is_compiled)
    found: list[tuple[dict[str, mx.array], float]] = []
    for number in range(UPDATES):
        gradients = gradients_of(model, number, scale=tokens)
        updater.apply(gradients, tokens)
        assert gradients == {}
        found.append((flatten(model.parameters()), updater.learning_rate))
    assert updater.updates == UPDATES
    return found


def settings_of(name: str, settings: dict[str, Any], **changes: Any) -> RunConfig:
    values = {"optimizer": name, "optimizer_config": {name: settings}, "learning_rate": 1e-2}
    return validate(values | changes)


def largest_difference(
    found: Sequence[tuple[dict[str, mx.array], float]],
    expected: Sequence[tuple[dict[str, mx.array], float]],
) -> float:
    differences = [
        mx.abs(a[name] - b[name]).max().item()
        for (a, _), (b, _) in zip(found, expected, strict=True)
        for name in b
    ]
    return float(np.array(differences).max())


@pytest.mark.parametrize("tokens", [1, 1024])
@pytest.mark.parametrize(("name", "settings"), WITHOUT_SETTINGS + WITH_SETTINGS)
def test_parameters_are_those_of_mlx(name: str, settings: dict[str, Any], tokens: int) -> None:
    config = settings_of(name, settings)
    expected = reference(config)
    # Powers of two divide without rounding, so that not even the last bit may differ.
    assert largest_difference(ours(config, tokens), expected) == 0.0
    assert (
        mx.abs(expected[-1][0]["head.weight"] - flatten(small().parameters())["head.weight"]).max()
        > 1e-3
    )


def test_the_mean_is_over_all_tokens() -> None:
    config = settings_of("sgd", {})
    assert largest_difference(ours(config, 37), reference(config)) < 1e-6


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rates_follow_the_schedule(name: str) -> None:
    settings = {"relative_step": False} if name == "adafactor" else {}
    config = settings_of(name, settings, lr_schedule=COSINE)
    found, expected = ours(config), reference(config)
    assert largest_difference(found, expected) == 0.0
    rates = [rate for _, rate in found]
    assert rates == [rate for _, rate in expected]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == rates[2] == pytest.approx(1e-2)
    assert rates[-1] < rates[-2] < rates[2]


def test_before_the_first_update_the_rate_is_the_first() -> None:
    assert Updater(small(), settings_of("adam", {})).learning_rate == pytest.approx(1e-2)
    scheduled = settings_of("adam", {}, lr_schedule=COSINE)
    assert Updater(small(), scheduled).learning_rate == pytest.approx(1e-4)


@pytest.mark.parametrize("limit", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_clipping_is_that_of_mlx(name: str, limit: float) -> None:
    config = settings_of(name, {}, max_grad_norm=limit)
    assert largest_difference(ours(config, 4), reference(config)) < 1e-5
    clips = largest_difference(reference(config), reference(settings_of("sgd", {}))) > 1e-3
    assert clips == (name != "sgd" or limit < 1e3)


@pytest.mark.parametrize("limit", [None, 0.5])
def test_the_norm_is_that_of_the_mean_gradient_before_clipping(limit: float | None) -> None:
    model = small()
    updater = Updater(model, settings_of("sgd", {}, max_grad_norm=limit))
    gradients = gradients_of(model, 0)
    _, expected = optim.clip_grad_norm(gradients, 1.0)
    norm = updater.apply({name: 8 * array for name, array in gradients.items()}, 8)
    assert norm == pytest.approx(mx.array(expected).item(), rel=1e-6)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["layers.1.weight", "layers.2.bias", "head.weight"])
def test_gradients_that_are_not_finite_change_nothing(number: float, place: str) -> None:
    config = settings_of("adam", {}, lr_schedule=COSINE)
    disturbed, plain = small(), small()
    updater, other = Updater(disturbed, config), Updater(plain, config)
    for updating in (updater, other):
        updating.apply(gradients_of(plain, 0), 1)
    bad = gradients_of(disturbed, 1)
    bad[place][..., 0] = number
    assert not math.isfinite(updater.apply(bad, 4))
    assert bad == {}
    assert (updater.updates, updater.learning_rate) == (1, other.learning_rate)
    # Moments too: the next update is the same as if there had been nothing.
    for updating in (updater, other):
        updating.apply(gradients_of(plain, 2), 1)
    before, after = flatten(plain.parameters()), flatten(disturbed.parameters())
    assert all(mx.array_equal(before[name], after[name]).item() for name in before)


@pytest.mark.skipif(not shutil.which("g++"), reason="MLX compiles for the CPU with g++")
@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_compiled_is_the_same(name: str) -> None:
    """A trace that kept a rate or a step would show here; Muon and Adafactor take g++ too long."""
    mx.enable_compile()
    config = settings_of(name, OPTIMIZERS[name][1], lr_schedule=COSINE, max_grad_norm=2.0)
    # Matrices alone: each further kind of array is seconds of C++ compiler.
    found, expected = ours(config, 3, bias=False, is_compiled=True), ours(config, 3, bias=False)
    assert largest_difference(found, expected) < 1e-5
    assert [rate for _, rate in found] == [rate for _, rate in expected]


@pytest.mark.parametrize(("name", "copies"), [("adam", 2), ("adamw", 2), ("muon", 1), ("sgd", 1)])
def test_moments_take_what_they_take(name: str, copies: int) -> None:
    model = small()
    size = sum(array.nbytes for array in trainable(model).values())
    moments = Updater(model, settings_of(name, {})).state_bytes
    # Beside them the step and the rate.
    assert copies * size < moments <= copies * size + 16


def test_frozen_parameters_stay() -> None:
    model = small()
    before = np.array(model.layers[0].weight)
    Updater(model, settings_of("adamw", {})).apply(gradients_of(model, 0), 1)
    assert np.array_equal(before, np.array(model.layers[0].weight))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"optimizer": "sgd", "optimizer_config": {"sgd": {"beta": 1}}},
            "optimizer_config.sgd: .*beta",
        ),
        (
            {"optimizer": "adam", "optimizer_config": {"adam": {"betas": [2.0, 0.9]}}},
            "optimizer_config.adam: .*beta",
        ),
        ({"lr_schedule": COSINE | {"arguments": []}}, "lr_schedule.arguments"),
        ({"lr_schedule": COSINE | {"arguments": [1e-3]}}, "lr_schedule.arguments: .*decay_steps"),
        (
            {"lr_schedule": COSINE | {"arguments": [1e-3, 0]}},
            "lr_schedule.arguments: .*decay_steps",
        ),
        (
            {"lr_schedule": COSINE | {"arguments": [1e-3, 9, 0, 1]}},
            "lr_schedule.arguments: .*argument",
        ),
    ],
)
def test_settings_that_do_not_suit(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Updater(small(), validate(changes))


def test_settings_of_another_optimizer_are_left_alone() -> None:
    config = validate({"optimizer": "adam", "optimizer_config": {"sgd": {"anything": 1}}})
    assert Updater(small(), config).updates == 0
