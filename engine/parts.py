"""Takes any mlx-lm model apart into embedding, layers and tail, without code for any architecture.

The model's own forward pass is run with its layers replaced: by a recorder, which notes what each
layer is given, or by stand-ins that hand the tail a given hidden state. Where a model does what
this cannot see through, ``CannotTakeApartError`` says what, and the whole graph is evaluated.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import mlx.core as mx
import mlx.nn as nn

from engine.calls import (
    ROWS,
    WIDTH,
    CannotTakeApartError,
    Form,
    LayerCall,
    Recorder,
    arrays_in,
    filled,
    replace,
)
from engine.randomness import keyed_randomness
from engine.trees import trainable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from engine.calls import Args, Call

    _List = tuple[nn.Module, str, list[Any]]

__all__ = ["CannotTakeApartError", "Layer", "LayerCall", "Parts", "Slot"]

PROBES = ((13, 23), (11, 17))
"""Rows and positions of two batches that show the forms of what a model's layers return."""


class Slot(NamedTuple):
    """The place of one array inside a module."""

    path: str
    container: Any
    """The dict or list that holds the array."""
    key: Any

    def get(self) -> mx.array:
        """Return the array that is there now."""
        return self.container[self.key]

    def put(self, value: mx.array) -> None:
        """Put another array there."""
        self.container[self.key] = value


@dataclass(frozen=True)
class Layer:
    """One layer: its module and the places of its arrays."""

    module: nn.Module
    path: str
    trainable: tuple[Slot, ...]
    frozen: tuple[Slot, ...]
    structure: tuple[Any, ...]
    """Layers that agree here differ in their arrays alone."""
    has_dropout: bool

    @property
    def is_trained(self) -> bool:
        """Whether any of its parameters is trained."""
        return bool(self.trainable)


class Parts:
    """A model taken apart; the model itself stays as it is.

    Raises:
        CannotTakeApartError: when its layers or what lies around them cannot be separated.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = cast("Any", model)
        modules = _layer_modules(model)
        self._lists = _find_lists(model, modules)
        names = {id(module): name for name, module in _named(model)}
        self.layers = [_describe(module, names[id(module)]) for module in modules]
        self._positions = {id(m): i for i, m in enumerate(modules)}
        self._check_rest_is_frozen()
        # Not-a-number shows in what is made of it, another number in what is done to it in place.
        self._returned, self.vocabulary = self._probe(*PROBES[0], value=float("nan"))
        if self._probe(*PROBES[1], value=0.7)[0] != self._returned:
            raise CannotTakeApartError("what its layers return depends on the batch's size")
        self._to_positions, self._from_positions = _layout(self._returned[-1])

    def embed(self, tokens: mx.array) -> tuple[mx.array, list[LayerCall]]:
        """Return what the first layer gets as its hidden state, and how each layer is called.

        Args:
            tokens: ``[B, T]``.

        Returns:
            ``[B, T, H]`` or as the model lays it out, not evaluated, and one call per layer.

        Raises:
            CannotTakeApartError: when a layer's input is not what the layer before returned.
        """
        rows, width = tokens.shape

        def call(index: int, *_: Any) -> Any:
            return filled(self._returned[index], rows, width)

        recorder = Recorder(call)
        with self._replaced(recorder):
            self.model(tokens)
        return recorder.result(len(self.layers))

    def tail(self, hidden: mx.array) -> mx.array:
        """Return the logits of hidden states that left the last layer.

        Args:
            hidden: ``[1, C, H]`` by position; positions must not depend on one another in the tail.

        Returns:
            ``[1, C, V]``.
        """
        last = len(self.layers) - 1
        laid_out = hidden.transpose(self._from_positions)

        def stand_in(index: int, *_: Any) -> Any:
            returned = filled(self._returned[index], *hidden.shape[:2])
            if index < last:
                return returned
            first = arrays_in(returned)[0]
            return replace(returned, mx.array, lambda a: laid_out if a is first else a)

        with self._replaced(stand_in):
            return self.model(mx.zeros(hidden.shape[:2], mx.int32))

    def by_position(self, hidden: mx.array) -> mx.array:
        """Lay a hidden state out as ``[B·T, H]``, or with more axes behind the positions."""
        hidden = hidden.transpose(self._to_positions)
        return hidden.reshape(-1, *hidden.shape[2:])

    def as_hidden(self, flat: mx.array, rows: int) -> mx.array:
        """Undo ``by_position``."""
        return flat.reshape(rows, -1, *flat.shape[1:]).transpose(self._from_positions)

    def _probe(self, rows: int, width: int, *, value: float) -> tuple[list[Any], int]:
        """Return the form of what each layer returns, and how many logits a position has."""
        returned: list[Any] = []
        before = _random_state()

        def call(index: int, args: Args, kwargs: dict[str, Any]) -> Any:
            # Nothing of this is evaluated.
            result = _call_untouched(self.layers[index], args, kwargs)
            form = replace(result, mx.array, lambda a: Form.of(a, rows, width), "return")
            returned.append(form)
            return filled(form, rows, width, value)

        recorder = Recorder(call)
        with self._replaced(recorder):
            logits: Any = self.model(mx.zeros((rows, width), mx.int32))
        _, calls = recorder.result(len(self.layers))
        if not mx.array_equal(before, _random_state()).item():
            raise CannotTakeApartError("it draws random numbers of its own")
        if recorder.is_changed(value):
            raise CannotTakeApartError("something changes what a layer returned")
        for index, given in enumerate(calls):
            floats = [a for a in given.arrays if mx.issubdtype(a.dtype, mx.floating)]
            if any(mx.isnan(a).any().item() for a in floats):
                raise CannotTakeApartError(
                    f"layer {index} is given what was made of another's result"
                )
        if not isinstance(logits, mx.array) or tuple(logits.shape[:-1]) != (rows, width):
            raise CannotTakeApartError(f"it returns a {type(logits).__name__}, not logits")
        return returned, logits.shape[-1]

    @contextmanager
    def _replaced(self, call: Call) -> Generator[None]:
        """Put stand-ins in the layers' lists for a while."""
        for owner, attribute, listed in self._lists:
            places = [self._positions.get(id(item)) for item in listed]
            stand_ins = [
                item if place is None else _StandIn(item, place, call)
                for item, place in zip(listed, places, strict=True)
            ]
            dict.__setitem__(owner, attribute, stand_ins)
        try:
            yield
        finally:
            for owner, attribute, listed in self._lists:
                dict.__setitem__(owner, attribute, listed)

    def _check_rest_is_frozen(self) -> None:
        inside = {id(slot.get()) for layer in self.layers for slot in layer.trainable}
        for path, array in trainable(self.model).items():
            if id(array) not in inside:
                raise CannotTakeApartError(f"{path} is trained and lies outside the layers")


class _StandIn:
    """Takes a layer's place in the model's own loop, and otherwise answers as that layer would."""

    def __init__(self, layer: nn.Module, index: int, call: Call) -> None:
        self._layer = layer
        self._index = index
        self._call = call

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]
        # Some models ask what class a layer has to choose its mask.
        return type(self._layer)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(self._index, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __contains__(self, name: str) -> bool:
        return name in self._layer

    def __getitem__(self, name: str) -> Any:
        return cast("Any", self._layer)[name]


def _random_state() -> mx.array:
    return cast("Any", mx.random.state)[0]


def _call_untouched(layer: Layer, args: Args, kwargs: dict[str, Any]) -> Any:
    """Call a layer without using MLX's random numbers, and put back what it changes of itself."""
    slots = (*layer.trainable, *layer.frozen)
    own = [slot.get() for slot in slots]
    with keyed_randomness(mx.zeros((1, 2), mx.uint32)):
        result = cast("Any", layer.module)(*args, **kwargs)
    for slot, array in zip(slots, own, strict=True):
        slot.put(array)
    return result


def _layout(returned: Any) -> tuple[list[int], list[int]]:
    """Return how to bring a hidden state's rows and positions to the front, and the way back."""
    forms: list[Form] = []
    replace(returned, Form, forms.append)
    shape = forms[0].shape if forms else ()
    if shape.count(ROWS) != 1 or shape.count(WIDTH) != 1:
        raise CannotTakeApartError("its hidden state has no axis of rows or of positions")
    front = [shape.index(ROWS), shape.index(WIDTH)]
    there = front + [axis for axis in range(len(shape)) if axis not in front]
    return there, [there.index(axis) for axis in range(len(shape))]


def _layer_modules(model: nn.Module) -> list[nn.Module]:
    layers = getattr(model, "layers", None)
    if not isinstance(layers, list | tuple) or not layers:
        raise CannotTakeApartError("it has no list of layers")
    modules = list(cast("list[Any]", layers))
    if not all(isinstance(module, nn.Module) for module in modules):
        raise CannotTakeApartError("its list of layers holds something else")
    if len({id(module) for module in modules}) != len(modules):
        raise CannotTakeApartError("it uses a layer more than once")
    return modules


def _find_lists(model: nn.Module, modules: list[nn.Module]) -> list[_List]:
    """Find the lists that the model iterates; ``model.layers`` may be a copy or a sum of them."""
    wanted = {id(module) for module in modules}
    found: list[_List] = []
    for _, owner in _named(model):
        for key, value in children_of(owner):
            if isinstance(value, list) and wanted & {id(item) for item in cast("list[Any]", value)}:
                found.append((owner, key, cast("list[Any]", value)))
    if wanted - {id(item) for _, _, listed in found for item in listed}:
        raise CannotTakeApartError("its list of layers is not an attribute of any module")
    return found


def _describe(module: nn.Module, path: str) -> Layer:
    trained = set(trainable(module))
    slots = slots_of(module)
    return Layer(
        module=module,
        path=path,
        trainable=tuple(slot for slot in slots if slot.path in trained),
        frozen=tuple(slot for slot in slots if slot.path not in trained),
        structure=(_structure(module), tuple(sorted(trained))),
        has_dropout=any(
            isinstance(m, nn.Dropout | nn.Dropout2d | nn.Dropout3d) and vars(m).get("_p_1", 1) < 1
            for _, m in _named(module)
        ),
    )


def _named(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return cast("list[tuple[str, nn.Module]]", module.named_modules())


def slots_of(module: nn.Module) -> list[Slot]:
    """Return the places of all arrays below a module."""
    return list(_slots(module, ""))


def children_of(container: Any) -> list[tuple[Any, Any]]:
    """Return what a module, dict or list holds, by key or place."""
    if isinstance(container, dict):
        return list(cast("dict[Any, Any]", container).items())
    return list(enumerate(cast("list[Any]", container)))


def _slots(container: Any, prefix: str) -> Iterator[Slot]:
    """Every array below a module, private ones too: they may differ between layers."""
    for key, value in children_of(container):
        path = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, mx.array):
            yield Slot(path, container, key)
        elif isinstance(value, dict | list):
            yield from _slots(value, path)


def _structure(value: Any, *, is_slot: bool = True) -> Any:
    """Describe everything about a module but the values of the arrays in its slots."""
    if isinstance(value, mx.array):
        return (tuple(value.shape), str(value.dtype)) if is_slot else id(value)
    if isinstance(value, nn.Module):
        attributes = {k: v for k, v in vars(value).items() if k != "_no_grad"}
        return (
            id(type(value)),
            tuple((k, _structure(v, is_slot=is_slot)) for k, v in children_of(value)),
            tuple((k, _structure(v, is_slot=False)) for k, v in sorted(attributes.items())),
        )
    if isinstance(value, dict):
        return tuple((repr(k), _structure(v, is_slot=is_slot)) for k, v in children_of(value))
    if isinstance(value, list | tuple):
        is_slot = is_slot and isinstance(value, list)
        return tuple(_structure(v, is_slot=is_slot) for v in cast("list[Any]", value))
    if value is None or isinstance(value, str | int | float | bool):
        return repr(value)
    return id(value)
