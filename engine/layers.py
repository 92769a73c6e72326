"""Runs one layer forward, and backward from its input, sharing compiled functions between layers.

Layers that differ in their arrays alone share one compiled function that takes the arrays as
inputs: one trace per width, not one per layer and width.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import mlx.core as mx

from engine.attention import chunked_attention
from engine.randomness import keyed_randomness
from engine.replay import Outputs, find_linears, holding, intercepted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from engine.parts import Layer, LayerCall

    Arrays = Sequence[mx.array]


@dataclass(frozen=True)
class StepSettings:
    """How a step is evaluated; none of it changes the result."""

    tail_chunk: int = 512
    """Positions whose logits exist at once."""
    compiled: bool = False
    """Whether to compile; on a CPU, MLX would call the system's C++ compiler at run time."""
    pipelined: bool = False
    """Whether to build the next layer while the device works on this one."""
    score_bytes: int | None = None
    """What one block of attention scores may take; None leaves attention to MLX."""
    kept_bytes: int = 0
    """What outputs kept for the backward pass may take, so that they are not computed again."""


class Pass(NamedTuple):
    """What a layer needs to run besides its own arrays."""

    layer: int
    """Its place among the layers."""
    call: LayerCall
    carried: Arrays
    """``[b, T, H]``, and what else earlier layers hand on to it."""
    keys: mx.array | None
    """``[b, 2]``, where the layer drops out."""


class _Functions(NamedTuple):
    """A kind of layer's functions."""

    forward: Callable[..., list[mx.array]]
    forward_keeping: Callable[..., tuple[list[mx.array], list[mx.array]]]
    backward: Callable[..., list[mx.array]]


class LayerFunctions:
    """The forward and backward functions of a model's layers."""

    def __init__(self, layers: Sequence[Layer], settings: StepSettings) -> None:
        self.kept_bytes = settings.kept_bytes
        self._layers = layers
        self._settings = settings
        self._compiled: dict[Any, _Functions] = {}
        self._frozen: list[list[mx.array]] = []
        self.read_frozen()
        self._linears = [
            find_linears(
                layer.module,
                [*layer.trainable, *layer.frozen],
                {slot.path for slot in layer.trainable},
            )
            for layer in layers
        ]
        self._output_bytes = [
            sum(linear.outputs for linear in linears) * _itemsize(layer)
            for layer, linears in zip(layers, self._linears, strict=True)
        ]
        """A position's linear outputs."""
        kinds: dict[Any, int] = {}
        self._kinds = [kinds.setdefault(layer.structure, len(kinds)) for layer in layers]

    def read_frozen(self) -> None:
        """Take the layers' frozen arrays from where they are now."""
        self._frozen = [[slot.get() for slot in layer.frozen] for layer in self._layers]

    def frozen(self, index: int) -> list[mx.array]:
        """Return a layer's frozen arrays: the one place where a layer's weights come from."""
        return self._frozen[index]

    def first_kept(self, first_trained: int, positions: int) -> int:
        """Return the first layer whose linear outputs are kept: as many of the last as may be.

        Args:
            first_trained: the first layer that has a backward pass.
            positions: rows times width of the micro-batch.
        """
        left = self.kept_bytes
        first = len(self._layers)
        while first > first_trained:
            left -= positions * self._output_bytes[first - 1]
            if left < 0:
                break
            first -= 1
        return first

    def kept_for(self, first_trained: int, positions: int) -> int:
        """Return the bytes that the kept outputs of a micro-batch take."""
        first = self.first_kept(first_trained, positions)
        return positions * sum(self._output_bytes[first:])

    def forward(self, run: Pass, *, keep: bool) -> tuple[list[mx.array], list[mx.array] | None]:
        """Return what a layer hands on and what is to be kept of it, not evaluated."""
        functions = self._functions(run, needs_input=True)
        arguments = (*self._arrays(run.layer), [*run.carried], run.call.arrays, run.keys)
        if keep:
            return functions.forward_keeping(*arguments)
        return functions.forward(*arguments), None

    def backward(
        self, run: Pass, cotangents: Arrays, kept: list[mx.array] | None, *, needs_input: bool
    ) -> tuple[list[mx.array], list[mx.array]]:
        """Return the gradients of a layer's trained arrays and of its inputs, not evaluated.

        Args:
            run: the layer as it was run forward.
            cotangents: the gradients of what it handed on.
            kept: what the forward pass kept.
            needs_input: whether the gradients of its inputs are wanted; otherwise there are none.
        """
        functions = self._functions(run, needs_input=needs_input)
        gradients = functions.backward(
            *self._arrays(run.layer),
            [*run.carried],
            run.call.arrays,
            run.keys,
            [*cotangents],
            kept,
        )
        count = len(self._layers[run.layer].trainable)
        return gradients[:count], gradients[count:]

    def _arrays(self, index: int) -> tuple[list[mx.array], list[mx.array]]:
        return [slot.get() for slot in self._layers[index].trainable], self.frozen(index)

    def _functions(self, run: Pass, *, needs_input: bool) -> _Functions:
        layer = self._layers[run.layer]
        kind = (self._kinds[run.layer], run.call.static, layer.module.training, needs_input)
        if not self._settings.compiled:
            kind = (run.layer, run.call.static, needs_input)
        if kind not in self._compiled:
            # The first call's own arrays are not to live as long as the function.
            call = replace(run.call, arrays=())
            made = _LayerRunner(layer, call, self._linears[run.layer], self._settings, needs_input)
            compile_: Callable[[Any], Any] = mx.compile if self._settings.compiled else lambda f: f
            self._compiled[kind] = _Functions(
                compile_(made.forward), compile_(made.forward_keeping), compile_(made.backward)
            )
        return self._compiled[kind]


def _itemsize(layer: Layer) -> int:
    """Bytes of an activation: those of the layer's frozen vectors, its norms and biases."""
    sizes = [slot.get().itemsize for slot in layer.frozen if slot.get().ndim == 1]
    return min(sizes, default=4)


@dataclass(frozen=True)
class _LayerRunner:
    """Runs any layer of one structure, given its arrays."""

    layer: Layer
    call: LayerCall
    linears: Sequence[Any]
    settings: StepSettings
    needs_input: bool

    def forward(
        self,
        trained: Arrays,
        frozen: Arrays,
        carried: Arrays,
        arrays: Arrays,
        keys: mx.array | None,
    ) -> list[mx.array]:
        with self._settled(keys):
            return self._run(trained, frozen, carried, arrays, None)

    def forward_keeping(
        self,
        trained: Arrays,
        frozen: Arrays,
        carried: Arrays,
        arrays: Arrays,
        keys: mx.array | None,
    ) -> tuple[list[mx.array], list[mx.array]]:
        outputs = Outputs([], is_replay=False)
        with self._settled(keys):
            return self._run(trained, frozen, carried, arrays, outputs), outputs.arrays

    def backward(
        self,
        trained: Arrays,
        frozen: Arrays,
        carried: Arrays,
        arrays: Arrays,
        keys: mx.array | None,
        cotangents: Arrays,
        kept: list[mx.array] | None,
    ) -> list[mx.array]:
        count = len(trained)
        outputs = None if kept is None else Outputs(kept, is_replay=True)

        def handed_on(*inputs: mx.array) -> list[mx.array]:
            given = inputs[count:] if self.needs_input else carried
            return self._run(inputs[:count], frozen, given, arrays, outputs)

        inputs = [*trained, *carried] if self.needs_input else [*trained]
        # Open around the whole: replayed modules run when their gradients are asked for.
        with self._settled(keys):
            _, gradients = mx.vjp(handed_on, inputs, [*cotangents])
        return gradients

    @contextmanager
    def _settled(self, keys: mx.array | None) -> Generator[None]:
        if self.settings.score_bytes is None:
            with keyed_randomness(keys):
                yield
            return
        with keyed_randomness(keys), chunked_attention(self.settings.score_bytes):
            yield

    def _run(
        self,
        trained: Arrays,
        frozen: Arrays,
        carried: Arrays,
        arrays: Arrays,
        outputs: Outputs | None,
    ) -> list[mx.array]:
        with (
            holding(self.layer.trainable, trained),
            holding(self.layer.frozen, frozen),
            intercepted(self.linears, outputs),
        ):
            return self.call.run(self.layer.module, carried, arrays)
