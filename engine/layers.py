"""Runs one layer forward, and backward from its input, sharing compiled functions between layers.

Layers that differ in their arrays alone share one compiled function that takes the arrays as inputs:
one trace per width, not one per layer and width.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from engine.attention import chunked_attention
from engine.parts import CannotTakeApartError
from engine.randomness import keyed_randomness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.parts import Layer, LayerCall, Slot

    Arrays = Sequence[mx.array]


@dataclass(frozen=True)
class StepSettings:
    """How a step is evaluated; none of it changes the result."""

    tail_chunk: int = 256
    """Positions whose logits exist at once."""
    compiled: bool = False
    """Whether to compile; on a CPU, MLX would call the system's C++ compiler at run time."""
    pipelined: bool = False
    """Whether to build the next layer while the device works on this one."""
    score_bytes: int | None = None
    """What one block of attention scores may take; None leaves attention to MLX."""


class LayerFunctions:
    """The forward and backward functions of a model's layers."""

    def __init__(self, layers: Sequence[Layer], settings: StepSettings) -> None:
        self._layers = layers
        self._settings = settings
        self._compiled: dict[Any, tuple[Callable[..., Any], Callable[..., Any]]] = {}
        self._frozen = [[slot.get() for slot in layer.frozen] for layer in layers]

    def frozen(self, index: int) -> list[mx.array]:
        """Return a layer's frozen arrays: the one place where a layer's weights come from."""
        return self._frozen[index]

    def forward(self, index: int, call: LayerCall, hidden: mx.array, keys: mx.array | None) -> mx.array:
        """Return a layer's output ``[b, T, H]``, not evaluated."""
        function, _ = self._functions(index, call, needs_input=True)
        return function(*self._arrays(index), hidden, call.arrays, keys)

    def backward(
        self,
        index: int,
        call: LayerCall,
        hidden: mx.array,
        cotangent: mx.array,
        keys: mx.array | None,
        needs_input: bool,
    ) -> tuple[list[mx.array], mx.array]:
        """Return the gradients of a layer's trained arrays and of its input, not evaluated.

        Args:
            index: the layer.
            call: what else it is called with.
            hidden: its input ``[b, T, H]``.
            cotangent: the gradient of its output ``[b, T, H]``.
            keys: one per row, where the layer drops out.
            needs_input: whether the gradient of the input is wanted; otherwise ``cotangent`` is
                returned in its place.
        """
        _, function = self._functions(index, call, needs_input=needs_input)
        gradients = function(*self._arrays(index), hidden, call.arrays, keys, cotangent)
        return (gradients[:-1], gradients[-1]) if needs_input else (gradients, cotangent)

    def _arrays(self, index: int) -> tuple[list[mx.array], list[mx.array]]:
        return [slot.get() for slot in self._layers[index].trainable], self.frozen(index)

    def _functions(
        self, index: int, call: LayerCall, *, needs_input: bool
    ) -> tuple[Callable[..., Any], Callable[..., Any]]:
        layer = self._layers[index]
        if not self._settings.compiled:
            return _layer_functions(layer, call, self._settings, needs_input=needs_input)
        kind = (layer.structure, call.static, layer.module.training, needs_input)
        if kind not in self._compiled:
            functions = _layer_functions(layer, call, self._settings, needs_input=needs_input)
            self._compiled[kind] = (mx.compile(functions[0]), mx.compile(functions[1]))
        return self._compiled[kind]


def _layer_functions(
    layer: Layer, call: LayerCall, settings: StepSettings, *, needs_input: bool
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Make a layer's functions of its arrays; any layer of the same structure may be run by them."""

    def forward(
        trained: Arrays, frozen: Arrays, hidden: mx.array, arrays: Arrays, keys: mx.array | None
    ) -> mx.array:
        with ExitStack() as stack:
            stack.enter_context(_holding(layer.trainable, trained))
            stack.enter_context(_holding(layer.frozen, frozen))
            stack.enter_context(keyed_randomness(keys))
            if settings.score_bytes:
                stack.enter_context(chunked_attention(settings.score_bytes))
            args, kwargs = call.build(tuple(arrays))
            output = layer.module(hidden, *args, **kwargs)
        if not isinstance(output, mx.array):
            raise CannotTakeApartError(f"a layer returns a {type(output).__name__}")
        return output

    def backward(
        trained: Arrays,
        frozen: Arrays,
        hidden: mx.array,
        arrays: Arrays,
        keys: mx.array | None,
        cotangent: mx.array,
    ) -> list[mx.array]:
        count = len(trained)

        def output_of(*inputs: mx.array) -> mx.array:
            given = inputs[count] if needs_input else hidden
            return forward(inputs[:count], frozen, given, arrays, keys)

        inputs = [*trained, hidden] if needs_input else [*trained]
        _, gradients = mx.vjp(output_of, inputs, [cotangent])
        return gradients

    return forward, backward


@contextmanager
def _holding(slots: Sequence[Slot], arrays: Arrays) -> Iterator[None]:
    """Put arrays in their places for a while, and the layer's own back afterwards."""
    own = [slot.get() for slot in slots]
    for slot, array in zip(slots, arrays, strict=True):
        slot.put(array)
    try:
        yield
    finally:
        for slot, array in zip(slots, own, strict=True):
            slot.put(array)
