"""A step adds up to the whole graph's gradients, however it is cut, and ends when it is told to."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models import qwen2

from engine.layers import StepSettings
from engine.parts import Parts
from engine.step import LayerStep, MicroBatch, WholeGraphStep, run_step, split
from engine.tail import StepInterrupted
from tests.engine.stepping import (
    LAYERS,
    WIDTH,
    Steady,
    difference,
    make_batch,
    reference,
    stepped,
    tiny_model,
)

if TYPE_CHECKING:
    from engine.step import Stepper

pytestmark = pytest.mark.usefixtures("uncompiled")

BATCH = make_batch()


def layer_step(model: Any, **settings: Any) -> LayerStep:
    return LayerStep(Parts(model), StepSettings(**settings))


KINDS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "two layers": {"num_layers": 2},
    "DoRA": {"kind": "dora"},
    "all trained": {"kind": "full"},
    "4 bits": {"bits": 4},
    "8-bit DoRA": {"bits": 8, "kind": "dora"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_whole_graph(kind: str) -> None:
    model = tiny_model(**KINDS[kind])
    expected = reference(model, BATCH)
    assert difference(stepped(layer_step(model), BATCH), expected) < 1e-4
    assert difference(stepped(WholeGraphStep(model), BATCH), expected) < 1e-4


@pytest.mark.parametrize(
    "settings",
    [
        {"tail_chunk": 1},
        {"tail_chunk": 7},
        {"score_bytes": 1},
        {"pipelined": True},
        {"kept_bytes": 1 << 30, "pipelined": True, "tail_chunk": 7},
    ],
)
def test_how_a_step_is_evaluated_does_not_show(settings: dict[str, Any]) -> None:
    model = tiny_model()
    assert difference(stepped(layer_step(model, **settings), BATCH), reference(model, BATCH)) < 1e-4


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("method", [layer_step, WholeGraphStep])
def test_a_batch_in_parts_is_the_batch(size: int, method: Any) -> None:
    stepper: Stepper = method(tiny_model())
    whole = stepped(stepper, BATCH)
    assert difference(stepped(stepper, BATCH, Steady(size)), whole) < 1e-5


def test_several_batches_add_up_by_their_tokens() -> None:
    """Batches of 35 and 17 trained tokens, one after the other, are one batch of 52."""
    model = tiny_model()
    stepper = layer_step(model)
    gradients: dict[str, mx.array] = {}
    loss, tokens = 0.0, 0
    for first in (0, 2):
        part = split(BATCH.tokens, BATCH.trained, 2, (WIDTH,), first=first)
        loss += run_step(stepper, part.tokens, part.trained, gradients, Steady(), (WIDTH,), 0, 1)
        tokens += part.trained_tokens
    assert tokens == BATCH.trained_tokens
    assert difference((loss, gradients), reference(model, BATCH)) < 1e-5


def test_rows_of_which_nothing_counts_change_nothing() -> None:
    model = tiny_model()
    stepper = layer_step(model)
    silent = MicroBatch(BATCH.tokens[2:3], BATCH.trained[2:3], range(1))
    assert silent.trained_tokens == 0
    assert stepped(stepper, silent) == (0.0, {})
    others = np.array([0, 1, 3])
    without = MicroBatch(BATCH.tokens[others], BATCH.trained[others], range(3))
    assert difference(stepped(stepper, BATCH), reference(model, without)) < 1e-4


def test_what_stands_in_the_padding_does_not_matter() -> None:
    model = tiny_model()
    stepper = layer_step(model)
    tokens = BATCH.tokens.copy()
    tokens[1, 10:] = 7
    other = MicroBatch(tokens, BATCH.trained, BATCH.places)
    assert difference(stepped(stepper, other), stepped(stepper, BATCH)) < 1e-6


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_narrower_micro_batches_change_nothing(dropout: float) -> None:
    stepper = layer_step(tiny_model(dropout=dropout))
    wide = stepped(stepper, BATCH, Steady(1), widths=(WIDTH,))
    narrow = stepped(stepper, BATCH, Steady(1), widths=(8, 16, WIDTH))
    assert difference(narrow, wide) < 1e-5


def test_a_micro_batch_is_as_wide_as_its_own_rows_need() -> None:
    widths = [
        split(BATCH.tokens, BATCH.trained, 1, (8, 16, WIDTH), first=row).trained.shape[1]
        for row in range(4)
    ]
    assert widths == [24, 16, 8, 8]
    both = split(BATCH.tokens, BATCH.trained, 2, (8, 16, WIDTH), first=1, seed=3, iteration=5)
    assert (both.tokens.shape, both.trained.shape) == ((2, 17), (2, 16))
    assert list(both.places) == [1, 2]
    assert (both.seed, both.iteration) == (3, 5)
    assert split(BATCH.tokens, BATCH.trained, 8, (8,), first=3).places == range(3, 4)


def test_a_row_wider_than_every_width_keeps_its_own() -> None:
    assert split(BATCH.tokens, BATCH.trained, 1, (8, 16)).trained.shape[1] == WIDTH
    assert split(BATCH.tokens, BATCH.trained, 1, (8, 32)).trained.shape[1] == WIDTH


def test_the_loss_alone_is_that_of_the_step() -> None:
    for dropout in (0.0, 0.5):
        stepper = layer_step(tiny_model(dropout=dropout))
        loss = stepper.loss(BATCH, Steady()).item()
        assert loss == pytest.approx(stepped(stepper, BATCH)[0], rel=1e-6)


def test_dropout_differs_from_step_to_step_and_with_the_seed() -> None:
    stepper = layer_step(tiny_model(dropout=0.5))
    first = stepped(stepper, BATCH)
    assert difference(stepped(stepper, BATCH), first) == 0.0
    for changes in ({"seed": 1, "iteration": 1}, {"seed": 0, "iteration": 2}):
        other = MicroBatch(BATCH.tokens, BATCH.trained, BATCH.places, **changes)
        assert difference(stepped(stepper, other), first) > 1e-2


class Changing:
    """A control that changes its mind when it has been asked so many times."""

    def __init__(self, stop_at: int = 1 << 30, shrink_at: int = 1 << 30, to: int = 1) -> None:
        self.stop_at = stop_at
        self.shrink_at = shrink_at
        self.to = to
        self.asked = 0
        self.sizes: list[int] = []

    def should_stop(self) -> bool:
        self.asked += 1
        return self.asked >= self.stop_at

    def micro_batch(self) -> int:
        return self.to if self.asked >= self.shrink_at else 4


class Counted:
    """Notes how many rows each pass through a layer had."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[int] = []
        call = qwen2.TransformerBlock.__call__

        def counted(block: Any, x: mx.array, *args: Any, **kwargs: Any) -> mx.array:
            self.rows.append(x.shape[0])
            return call(block, x, *args, **kwargs)

        monkeypatch.setattr(qwen2.TransformerBlock, "__call__", counted)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.mark.parametrize("layer", range(1, LAYERS + 1))
def test_a_shrink_begins_at_the_next_layer(layer: int, passes: Counted) -> None:
    model = tiny_model()
    stepper = layer_step(model)
    whole = stepped(stepper, BATCH)
    passes.rows.clear()
    shrunk = stepped(stepper, BATCH, Changing(shrink_at=layer))
    # Forward in one until then, and from the start in parts of one; the third row counts nowhere.
    assert passes.rows == [4] * layer + [1] * 3 * 2 * LAYERS
    assert difference(shrunk, whole) < 1e-5


@pytest.mark.parametrize("layer", range(1, LAYERS))
def test_a_shrink_on_the_way_back_begins_the_batch_again(layer: int, passes: Counted) -> None:
    stepper = layer_step(tiny_model())
    whole = stepped(stepper, BATCH)
    passes.rows.clear()
    # The tail is one chunk here.
    shrunk = stepped(stepper, BATCH, Changing(shrink_at=LAYERS + 1 + layer))
    assert passes.rows == [4] * (LAYERS + layer) + [1] * 3 * 2 * LAYERS
    assert difference(shrunk, whole) < 1e-5


def test_a_shrink_that_comes_when_all_is_added_changes_nothing(passes: Counted) -> None:
    stepper = layer_step(tiny_model())
    whole = stepped(stepper, BATCH)
    passes.rows.clear()
    shrunk = stepped(stepper, BATCH, Changing(shrink_at=2 * LAYERS + 1))
    assert passes.rows == [4] * 2 * LAYERS
    assert difference(shrunk, whole) == 0.0


def test_a_micro_batch_may_grow_again(passes: Counted) -> None:
    stepper = layer_step(tiny_model())
    whole = stepped(stepper, BATCH)
    passes.rows.clear()
    control = Steady(1)
    gradients: dict[str, mx.array] = {}

    def grow() -> None:
        control.size = 3

    loss = run_step(stepper, BATCH.tokens, BATCH.trained, gradients, control, (WIDTH,), 0, 1, grow)
    assert passes.rows == [1] * 2 * LAYERS + [3] * 2 * LAYERS
    assert difference((loss, gradients), whole) < 1e-5


def asks_of_a_step(stepper: Stepper) -> int:
    control = Changing()
    stepped(stepper, BATCH, control)
    return control.asked


def test_a_stop_is_heeded_within_one_layer(passes: Counted) -> None:
    stepper = layer_step(tiny_model(), tail_chunk=16)
    asks = asks_of_a_step(stepper)
    # Each layer twice, and each chunk of the tail.
    assert asks == 2 * LAYERS + -(-BATCH.trained_tokens // 16)
    for stop_at in range(1, asks + 1):
        passes.rows.clear()
        control = Changing(stop_at=stop_at)
        with pytest.raises(StepInterrupted):
            stepped(stepper, BATCH, control)
        assert control.asked == stop_at
        chunks = asks - 2 * LAYERS
        assert len(passes.rows) == min(stop_at, LAYERS) + max(0, stop_at - LAYERS - chunks)


def test_a_stop_is_heeded_by_an_evaluation(passes: Counted) -> None:
    stepper = layer_step(tiny_model())
    passes.rows.clear()
    with pytest.raises(StepInterrupted):
        stepper.loss(BATCH, Changing(stop_at=2))
    assert len(passes.rows) == 2


def test_the_whole_graph_is_dropped_when_it_is_through() -> None:
    with pytest.raises(StepInterrupted):
        stepped(WholeGraphStep(tiny_model()), BATCH, Changing(stop_at=1))


@pytest.mark.parametrize("stop_at", [1, LAYERS + 1, 2 * LAYERS])
def test_an_interrupted_step_leaves_the_model_as_it_was(stop_at: int) -> None:
    model = tiny_model()
    stepper = layer_step(model, kept_bytes=1 << 30)
    before = {name: np.array(value) for name, value in flat_parameters(model).items()}
    kinds = [type(layer) for layer in model.layers]
    with pytest.raises(StepInterrupted):
        stepped(stepper, BATCH, Changing(stop_at=stop_at))
    assert [type(layer) for layer in model.layers] == kinds
    after = flat_parameters(model)
    assert after.keys() == before.keys()
    assert all(np.array_equal(before[name], np.array(after[name])) for name in before)
    assert difference(stepped(stepper, BATCH), reference(model, BATCH)) < 1e-4


def flat_parameters(model: Any) -> dict[str, mx.array]:
    from engine.trees import flatten

    return flatten(model.parameters())


def test_a_step_holds_less_than_the_whole_graph() -> None:
    """The reason for all this; at a batch that is large beside the weights."""
    model = tiny_model()
    batch = make_batch(lengths=(WIDTH,) * 32, prompts=(0,) * 32)
    peaks: dict[str, int] = {}
    gc.collect()
    for stepper in (layer_step(model, tail_chunk=32), WholeGraphStep(model)):
        stepped(stepper, batch)
        mx.reset_peak_memory()
        stepped(stepper, batch)
        peaks[stepper.method] = mx.get_peak_memory()
    assert peaks["layers"] < 0.6 * peaks["whole-graph"]
