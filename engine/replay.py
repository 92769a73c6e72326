"""Keeps what a layer's linear modules return, so that its backward pass need not compute it again.

Recomputing a layer from its input costs a whole forward pass, nearly all of it in linear modules.
Where memory allows, their outputs are kept from the forward pass and given back in the
recomputation; each module's gradients are still its own, by MLX's own differentiation.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.tuner.dora import DoRALinear
from mlx_lm.tuner.lora import LoRALinear

from engine.parts import children_of
from engine.randomness import drawing_for

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from engine.parts import Slot

_KINDS = (LoRALinear, DoRALinear, nn.Linear, nn.QuantizedLinear)


class Linear(NamedTuple):
    """A linear module, adapted or not, and its place in the layer."""

    module: Any
    container: Any
    key: Any
    slots: tuple[Slot, ...]
    """The places of its arrays."""
    is_trained: tuple[bool, ...]
    outputs: int
    """Features a position."""


@dataclass
class Outputs:
    """The outputs of a layer's linear modules, in the order in which they are called."""

    arrays: list[mx.array]
    is_replay: bool
    """Whether they are given back, or collected."""


def find_linears(module: nn.Module, slots: Sequence[Slot], trained: set[str]) -> tuple[Linear, ...]:
    """Find a layer's linear modules; what is inside an adapted one belongs to it."""
    return tuple(_find(module, "", slots, trained))


def _find(
    container: Any, prefix: str, slots: Sequence[Slot], trained: set[str]
) -> Iterator[Linear]:
    for key, value in children_of(container):
        path = f"{prefix}{key}"
        if isinstance(value, _KINDS):
            own = tuple(s for s in slots if s.path.startswith(f"{path}."))
            inner = cast("Any", value.get("linear", value))
            yield Linear(
                module=value,
                container=container,
                key=key,
                slots=own,
                is_trained=tuple(s.path in trained for s in own),
                outputs=inner.weight.shape[0],
            )
        elif isinstance(value, dict | list):
            yield from _find(value, f"{path}.", slots, trained)


@contextmanager
def intercepted(linears: Sequence[Linear], outputs: Outputs | None) -> Generator[None]:
    """Put stand-ins in the linear modules' places that collect outputs or give them back.

    Also without ``outputs`` a module's random draws are numbered by its place among the calls, so
    that keeping outputs or not never changes them.
    """
    calls = _Calls(outputs)
    for linear in linears:
        _place(linear, _StandIn(linear, calls))
    try:
        yield
    finally:
        for linear in linears:
            _place(linear, linear.module)


def _place(linear: Linear, value: Any) -> None:
    if isinstance(linear.container, dict):
        dict.__setitem__(linear.container, linear.key, value)
    else:
        linear.container[linear.key] = value


@dataclass
class _Calls:
    """Counts the calls of one pass through a layer."""

    outputs: Outputs | None
    count: int = 0


class _StandIn:
    """Takes a linear module's place for one pass."""

    def __init__(self, linear: Linear, calls: _Calls) -> None:
        self._linear = linear
        self._calls = calls

    def __call__(self, x: mx.array) -> mx.array:
        calls, outputs = self._calls, self._calls.outputs
        number = calls.count
        calls.count += 1
        if outputs is not None and outputs.is_replay:
            return _replay(self._linear, number, x, outputs.arrays[number])
        with drawing_for(number):
            result: mx.array = self._linear.module(x)
        if outputs is not None:
            outputs.arrays.append(result)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._linear.module, name)

    def __contains__(self, name: str) -> bool:
        return name in self._linear.module

    def __getitem__(self, name: str) -> Any:
        return self._linear.module[name]


def _replay(linear: Linear, number: int, x: mx.array, output: mx.array) -> mx.array:
    """Return a kept output whose gradients are those of the module that made it."""
    values = [slot.get() for slot in linear.slots]
    wanted = [i for i, is_trained in enumerate(linear.is_trained) if is_trained]

    @mx.custom_function
    def given(x: mx.array, *trained: mx.array) -> mx.array:
        del x, trained
        return output

    @given.vjp  # pyright: ignore[reportUntypedFunctionDecorator] - MLX gives no type
    def given_vjp(primals: Any, cotangent: mx.array, _: mx.array) -> Any:
        def module_of(x: mx.array, *trained: mx.array) -> mx.array:
            held = list(values)
            for index, value in zip(wanted, trained, strict=True):
                held[index] = value
            with holding(linear.slots, held), drawing_for(number):
                return linear.module(x)

        # MLX passes a single input bare, and wants a single gradient so.
        inputs = cast("list[mx.array]", list(primals) if wanted else [primals])
        gradients = mx.vjp(module_of, inputs, [cotangent])[1]
        return tuple(gradients) if wanted else gradients[0]

    return cast("mx.array", given(x, *(values[i] for i in wanted)))


@contextmanager
def holding(slots: Sequence[Slot], arrays: Sequence[mx.array]) -> Generator[None]:
    """Put arrays in their places for a while, and the module's own back afterwards."""
    own = [slot.get() for slot in slots]
    for slot, array in zip(slots, arrays, strict=True):
        slot.put(array)
    try:
        yield
    finally:
        for slot, array in zip(slots, own, strict=True):
            slot.put(array)
