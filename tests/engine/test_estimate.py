"""What is stored is known to the byte; what a step needs decides how many rows fit at once."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest

from engine import estimate
from engine.config import validate
from engine.events import MemoryPlan
from engine.optimizer import Updater
from engine.trees import flatten, trainable
from tests.engine.stepping import LAYERS, VOCABULARY, tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG: dict[str, Any] = {"hidden_size": 32, "vocab_size": VOCABULARY, "num_attention_heads": 4}
KINDS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "DoRA": {"kind": "dora"},
    "all trained": {"kind": "full"},
    "4 bits": {"bits": 4},
    "two layers": {"num_layers": 2},
}


@pytest.fixture
def uncached() -> Iterator[None]:
    """What earlier tests freed would be given out again, up to twice as large as was asked for."""
    limit_bytes = mx.set_cache_limit(0)
    mx.clear_cache()
    yield
    mx.set_cache_limit(limit_bytes)


def active_bytes() -> int:
    """Return what is held once no thread has anything left to drop."""
    gc.collect()
    mx.synchronize()
    return mx.get_active_memory()


@pytest.mark.usefixtures("uncached")
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored_is_known_to_the_byte(kind: str) -> None:
    model = tiny_model(**KINDS[kind])
    updater = Updater(model, validate({"optimizer": "adamw"}))
    plan = estimate.stored(model, updater.state_bytes)
    arrays = flatten(model.parameters())
    assert plan.base + plan.adapters == sum(array.nbytes for array in arrays.values())
    assert plan.adapters == plan.gradients == sum(a.nbytes for a in trainable(model).values())
    assert plan.optimizer == updater.state_bytes
    held = active_bytes()
    del model, updater, arrays
    found = held - active_bytes()
    # A GPU may give out whole blocks only, so that small arrays take a little more.
    more = 0.0 if mx.default_device() == mx.Device(mx.cpu) else 0.1
    assert found == pytest.approx(plan.base + plan.adapters + plan.optimizer, rel=more, abs=0)


def test_shapes_are_read_from_the_model() -> None:
    shapes = estimate.shapes_of(tiny_model(), CONFIG)
    assert (shapes.layers, shapes.hidden, shapes.vocabulary) == (LAYERS, 32, VOCABULARY)
    assert (shapes.heads, shapes.itemsize) == (4, 4)


def test_shapes_under_other_names_and_inside_a_text_config() -> None:
    flat: dict[str, Any] = {"n_embd": 32, "vocab_size": VOCABULARY, "n_head": 4}
    nested: dict[str, Any] = {"text_config": CONFIG, "vocab_size": 5}
    for config in (flat, nested):
        shapes = estimate.shapes_of(tiny_model(), config)
        assert (shapes.hidden, shapes.vocabulary, shapes.heads) == (32, VOCABULARY, 4)


def test_only_trained_layers_keep_their_inputs() -> None:
    assert estimate.shapes_of(tiny_model(num_layers=1), CONFIG).layers == 1


SHAPES = estimate.Shapes(
    layers=28,
    hidden=1536,
    vocabulary=151_936,
    layer_width=23_552,
    heads=12,
    itemsize=2,
    layer_bytes=5_000_000,
)
"""Those of Qwen2.5-1.5B."""
STORED = MemoryPlan(base=3_087_000_000, adapters=148_000_000, gradients=148_000_000)


def needed(**changes: Any) -> MemoryPlan:
    values: dict[str, Any] = {
        "rows": 2,
        "width": 1024,
        "chunk": 256,
        "method": "layers",
        "score_bytes": None,
    }
    return estimate.with_step(STORED, SHAPES, **values | changes)


def test_a_step_adds_to_what_is_stored() -> None:
    plan = needed()
    assert (plan.base, plan.adapters, plan.gradients) == (3_087_000_000, 148_000_000, 148_000_000)
    assert plan.activations > 0
    assert plan.peak > STORED.peak


@pytest.mark.parametrize("more", [{"rows": 3}, {"width": 1032}])
def test_more_rows_and_wider_ones_need_more(more: dict[str, int]) -> None:
    for method in ("layers", "whole-graph"):
        assert needed(method=method, **more).peak > needed(method=method).peak


def test_layer_by_layer_needs_less_than_the_whole_graph() -> None:
    assert needed().peak - STORED.peak < 0.2 * (needed(method="whole-graph").peak - STORED.peak)


def test_bounded_scores_and_smaller_chunks_need_less() -> None:
    assert needed(score_bytes=1_000_000).peak < needed().peak
    assert needed(score_bytes=1 << 40) == needed()
    assert needed(rows=8, chunk=8192).peak > needed(rows=8, chunk=256).peak


def largest(budget_bytes: int, batch_size: int = 8) -> int:
    return estimate.largest_micro_batch(
        STORED,
        SHAPES,
        batch_size=batch_size,
        budget_bytes=budget_bytes,
        width=1024,
        chunk=256,
        method="layers",
        score_bytes=None,
    )


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_micro_batch_is_the_largest_half_that_fits(batch_size: int) -> None:
    """The budget is exactly what some rows need, or a byte less."""
    halves = [batch_size]
    while halves[-1] > 1:
        halves.append((halves[-1] + 1) // 2)
    for rows, fewer in zip(halves, [*halves[1:], 1], strict=True):
        budget = needed(rows=rows).peak
        assert largest(budget, batch_size) == rows
        assert largest(budget - 1, batch_size) == fewer


def test_one_row_is_tried_even_if_it_does_not_fit() -> None:
    assert largest(0) == 1
