"""One training step: a batch's loss and gradients, added up micro-batch by micro-batch.

``LayerStep`` evaluates layer by layer: going forward only the layers' inputs are kept, going
backward each layer is computed again from its input. What is alive at once is the base weights, the
layers' inputs, and one layer's work. ``WholeGraphStep`` evaluates everything at once and serves any
model. Both return the *sum* of the loss over trained tokens and the gradients of that sum, so that
the way a batch is split changes nothing but memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import mlx.core as mx
import numpy as np
from mlx.utils import tree_unflatten

from engine.layers import LayerFunctions, Pass
from engine.randomness import keyed_randomness, row_keys
from engine.tail import StepInterrupted, Tail, token_losses
from engine.trees import number, trainable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import mlx.nn as nn
    import numpy.typing as npt

    from engine.layers import StepSettings
    from engine.parts import Parts

    Gradients = dict[str, mx.array]


class ShrinkAsked(Exception):  # noqa: N818 - a signal, not an error
    """A smaller micro-batch was asked for inside one; its work so far is dropped."""

    def __init__(self, *, has_added: bool) -> None:
        """Say whether some of its gradients were added already."""
        super().__init__()
        self.has_added = has_added


class Control(Protocol):
    """What a step asks between layers."""

    def should_stop(self) -> bool:
        """Whether to drop this step at once."""
        ...

    def micro_batch(self) -> int:
        """How many rows to evaluate at once from now on."""
        ...


@dataclass(frozen=True)
class MicroBatch:
    """Some rows of a batch."""

    tokens: npt.NDArray[np.int32]
    """``[b, T + 1]``: inputs and, shifted by one, targets."""
    trained: npt.NDArray[np.bool_]
    """``[b, T]``: whether the target at this position counts."""
    places: Sequence[int]
    """Where the rows stand in the whole batch."""
    seed: int = 0
    iteration: int = 0

    @property
    def trained_tokens(self) -> int:
        """How many targets count."""
        return int(self.trained.sum())


class Stepper(Protocol):
    """A way of computing a micro-batch's loss and gradients."""

    method: str

    def add(self, batch: MicroBatch, gradients: Gradients, control: Control) -> mx.array:
        """Add a micro-batch's gradients to ``gradients`` and return its evaluated loss sum."""
        ...

    def loss(self, batch: MicroBatch, control: Control) -> mx.array:
        """Return a micro-batch's evaluated loss sum."""
        ...


class LayerStep:
    """Evaluates a model layer by layer."""

    method = "layers"

    def __init__(self, parts: Parts, settings: StepSettings) -> None:
        self.parts = parts
        self.settings = settings
        self._functions = LayerFunctions(parts.layers, settings)
        self._tail = Tail(parts, settings)
        trained = [i for i, layer in enumerate(parts.layers) if layer.is_trained]
        self._first_trained = trained[0] if trained else len(parts.layers)
        self._names = [
            [f"{layer.path}.{slot.path}" for slot in layer.trainable] for layer in parts.layers
        ]

    def keep_at_most(self, kept_bytes: int, rows: int = 1, width: int = 1) -> int:
        """Set what outputs kept for the backward pass may take, from the next micro-batch on.

        Returns:
            What a micro-batch of this many rows and positions will take of it.
        """
        self._functions.kept_bytes = kept_bytes
        return self._functions.kept_for(self._first_trained, rows * width)

    def read_frozen(self) -> None:
        """Take the model's frozen arrays anew, after others were put in their places."""
        self._functions.read_frozen()
        # Compiled, it holds on to the head's.
        self._tail = Tail(self.parts, self.settings)

    def add(self, batch: MicroBatch, gradients: Gradients, control: Control) -> mx.array:
        """Add a micro-batch's gradients and return its loss sum; see ``Stepper``.

        Raises:
            StepInterrupted: when a stop was asked for.
            ShrinkAsked: when a smaller micro-batch was asked for.
        """
        try:
            return self._add(batch, gradients, control)
        finally:
            # A step that is dropped halfway must not hold its arrays until the next.
            self._in_flight = None

    def _add(self, batch: MicroBatch, gradients: Gradients, control: Control) -> mx.array:
        passes, kept, hidden = self._forward(batch, control, keep=True)
        loss, cotangent = self._tail.loss_and_gradient(
            hidden, batch.tokens, batch.trained, control.should_stop
        )
        if control.micro_batch() < len(batch.places):
            raise ShrinkAsked(has_added=False)
        cotangents = [cotangent]
        del hidden, cotangent
        while passes:
            run, outputs = passes.pop(), kept.pop()
            needs_input = run.layer > self._first_trained
            added, cotangents = self._functions.backward(
                run, cotangents, outputs, needs_input=needs_input
            )
            names = self._names[run.layer]
            del run, outputs
            for name, gradient in zip(names, added, strict=True):
                gradients[name] = gradients[name] + gradient if name in gradients else gradient
            self._evaluate([gradients[name] for name in names], cotangents)
            if control.should_stop():
                raise StepInterrupted
            if passes and control.micro_batch() < len(batch.places):
                raise ShrinkAsked(has_added=True)
        mx.eval(loss, list(gradients.values()))
        return loss

    def loss(self, batch: MicroBatch, control: Control) -> mx.array:
        """Return a micro-batch's loss sum without gradients; see ``Stepper``."""
        _, _, hidden = self._forward(batch, control, keep=False)
        return self._tail.loss(hidden, batch.tokens, batch.trained, control.should_stop)

    def _forward(
        self, batch: MicroBatch, control: Control, *, keep: bool
    ) -> tuple[list[Pass], list[list[mx.array] | None], mx.array]:
        """Run all layers; return what the backward pass needs of the trained ones."""
        hidden, calls = self.parts.embed(mx.array(batch.tokens[:, :-1]))
        carried = [hidden]
        del hidden
        first_kept = len(calls)
        if keep:
            positions = batch.trained.size
            first_kept = self._functions.first_kept(self._first_trained, positions)
        passes: list[Pass] = []
        kept: list[list[mx.array] | None] = []
        for index, call in enumerate(calls):
            run = Pass(index, call, carried, self._keys(batch, index))
            carried, outputs = self._functions.forward(run, keep=index >= first_kept)
            if keep and index >= self._first_trained:
                passes.append(run)
                kept.append(outputs)
            self._evaluate(outputs or [], carried)
            if control.should_stop():
                raise StepInterrupted
            if keep and control.micro_batch() < len(batch.places):
                raise ShrinkAsked(has_added=False)
        return passes, kept, carried[0]

    def _evaluate(self, arrays: list[mx.array], carried: list[mx.array]) -> None:
        """Evaluate a layer's results; with pipelining, only wait for the layer before."""
        if not self.settings.pipelined:
            mx.eval(*arrays, *carried)
            return
        mx.async_eval(*arrays, *carried)
        if self._in_flight is not None:
            mx.eval(self._in_flight)
        self._in_flight = carried

    _in_flight: list[mx.array] | None = None

    def _keys(self, batch: MicroBatch, index: int) -> mx.array | None:
        layer = self.parts.layers[index]
        if not (layer.has_dropout and layer.module.training):
            return None
        return row_keys(batch.seed, batch.iteration, batch.places, index)


class WholeGraphStep:
    """Evaluates the whole model at once: correct for every model, at the price of memory."""

    method = "whole-graph"

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def add(self, batch: MicroBatch, gradients: Gradients, control: Control) -> mx.array:
        """Add a micro-batch's gradients and return its loss sum; see ``Stepper``."""
        flat = list(trainable(self.model).items())
        names = [name for name, _ in flat]
        keys = row_keys(batch.seed, batch.iteration, batch.places, 0)

        def loss_of(*values: mx.array) -> mx.array:
            self.model.update(tree_unflatten(list(zip(names, values, strict=True))))
            with keyed_randomness(keys if self.model.training else None):
                return self._loss_sum(batch)

        try:
            (loss,), added = mx.vjp(loss_of, [value for _, value in flat], [mx.array(1.0)])
        finally:
            self.model.update(tree_unflatten(flat))
        for name, gradient in zip(names, added, strict=True):
            gradients[name] = gradients[name] + gradient if name in gradients else gradient
        mx.eval(loss, list(gradients.values()))
        if control.should_stop():
            raise StepInterrupted
        return loss

    def loss(self, batch: MicroBatch, control: Control) -> mx.array:
        """Return a micro-batch's loss sum without gradients; see ``Stepper``."""
        del control
        loss = self._loss_sum(batch)
        mx.eval(loss)
        return loss

    def _loss_sum(self, batch: MicroBatch) -> mx.array:
        tokens = mx.array(batch.tokens)
        losses = token_losses(cast("Any", self.model)(tokens[:, :-1]), tokens[:, 1:])
        return (losses * mx.array(cast("Any", batch.trained))).sum()


def split(
    tokens: npt.NDArray[np.int32],
    trained: npt.NDArray[np.bool_],
    size: int,
    widths: Sequence[int],
    *,
    first: int = 0,
    seed: int = 0,
    iteration: int = 0,
) -> MicroBatch:
    """Cut the next micro-batch from a batch, padded no wider than its own rows need.

    Args:
        tokens: ``[B, T + 1]``.
        trained: ``[B, T]``.
        size: rows to take.
        widths: the widths that may occur, ascending.
        first: the first row to take.
        seed: the run's.
        iteration: the step's.
    """
    rows = slice(first, first + size)
    columns = np.flatnonzero(trained[rows].any(axis=0))
    needed = int(columns[-1]) + 1 if len(columns) else 1
    width = next((w for w in widths if w >= needed), trained.shape[1])
    width = min(width, trained.shape[1])
    return MicroBatch(
        tokens=tokens[rows, : width + 1],
        trained=trained[rows, :width],
        places=range(first, min(first + size, len(tokens))),
        seed=seed,
        iteration=iteration,
    )


def run_step(
    stepper: Stepper,
    tokens: npt.NDArray[np.int32],
    trained: npt.NDArray[np.bool_],
    gradients: dict[str, mx.array],
    control: Control,
    widths: Sequence[int],
    seed: int,
    iteration: int,
    on_micro_batch: Callable[[], None] | None = None,
) -> float:
    """Add a batch's gradients to ``gradients`` and return the batch's loss sum.

    The size of a micro-batch may change between any two; a shrink takes effect inside one, at the
    next layer. Where that layer's micro-batch had added something, the whole batch begins again.

    Args:
        stepper: how to evaluate.
        tokens: ``[B, T + 1]``.
        trained: ``[B, T]``.
        gradients: by path; emptied when the batch begins again.
        control: asked between layers.
        widths: the widths that may occur, ascending.
        seed: the run's.
        iteration: the step's.
        on_micro_batch: called after each.

    Raises:
        StepInterrupted: when a stop was asked for; ``gradients`` are then of no use.
    """
    total = 0.0
    first = 0
    while first < len(tokens):
        size = max(1, control.micro_batch())
        batch = split(tokens, trained, size, widths, first=first, seed=seed, iteration=iteration)
        if batch.trained_tokens:
            try:
                total += number(stepper.add(batch, gradients, control))
            except ShrinkAsked as shrink:
                if shrink.has_added:
                    gradients.clear()
                    total, first = 0.0, 0
                continue
        first += size
        if on_micro_batch:
            on_micro_batch()
    return total
