"""Takes any mlx-lm model apart into embedding, layers and tail, without code for any architecture.

The model's own forward pass is run with its layers replaced: by recorders, which note what each layer
is called with, or by a stand-in that hands the tail a given hidden state. Where a model does something
that this cannot see through, ``CannotTakeApartError`` says what, and the whole graph is evaluated.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Args = tuple[Any, ...]


class CannotTakeApartError(Exception):
    """This model cannot be evaluated layer by layer; the message says why."""


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
class LayerCall:
    """What the model passes to a layer besides the hidden state."""

    arrays: tuple[mx.array, ...]
    build: Callable[[tuple[mx.array, ...]], tuple[Args, dict[str, Any]]]
    """Puts arrays back in their places: positional and keyword arguments."""
    static: str
    """Describes everything that is not an array; calls that agree here share a compiled function."""


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
        self.model = model
        modules = _layer_modules(model)
        self._owner, self._attribute, listed = _find_list(model, modules)
        names = {id(module): name for name, module in model.named_modules()}
        self.layers = [_describe(module, names[id(module)]) for module in modules]
        self._positions = {id(m): i for i, m in enumerate(modules)}
        self._listed = listed
        self._check_rest_is_frozen()

    def embed(self, tokens: mx.array) -> tuple[mx.array, list[LayerCall]]:
        """Return the hidden state that the first layer gets, and how each layer is called.

        Args:
            tokens: ``[B, T]``.

        Returns:
            ``[B, T, H]`` not evaluated, and one call per layer.

        Raises:
            CannotTakeApartError: when a layer's input is not what the layer before returned.
        """
        recorder = _Recorder(len(self.layers))
        with self._replaced(recorder.layer):
            self.model(tokens)
        return recorder.result()

    def tail(self, hidden: mx.array) -> mx.array:
        """Return the logits of hidden states that left the last layer.

        Args:
            hidden: ``[1, C, H]``; positions must not depend on one another in the tail.

        Returns:
            ``[1, C, V]``.
        """
        last = len(self.layers) - 1

        def stand_in(index: int, h: mx.array, args: Args, kwargs: dict[str, Any]) -> mx.array:
            del args, kwargs
            return hidden if index == last else h

        tokens = mx.zeros(hidden.shape[:2], mx.int32)
        with self._replaced(stand_in):
            logits = self.model(tokens)
        if not isinstance(logits, mx.array):
            raise CannotTakeApartError(f"it returns a {type(logits).__name__}, not logits")
        return logits

    @contextmanager
    def _replaced(
        self, call: Callable[[int, mx.array, Args, dict[str, Any]], Any]
    ) -> Iterator[None]:
        """Put stand-ins in the layers' list for a while."""
        stand_ins = [
            _StandIn(module, self._positions[id(module)], call)
            if id(module) in self._positions
            else module
            for module in self._listed
        ]
        dict.__setitem__(self._owner, self._attribute, stand_ins)
        try:
            yield
        finally:
            dict.__setitem__(self._owner, self._attribute, self._listed)

    def _check_rest_is_frozen(self) -> None:
        inside = {id(slot.get()) for layer in self.layers for slot in layer.trainable}
        for path, array in cast(
            "list[tuple[str, mx.array]]", tree_flatten(self.model.trainable_parameters())
        ):
            if id(array) not in inside:
                raise CannotTakeApartError(f"{path} is trained and lies outside the layers")


class _StandIn:
    """Takes a layer's place in the model's own loop, and otherwise answers as that layer would."""

    def __init__(
        self,
        layer: nn.Module,
        index: int,
        call: Callable[[int, mx.array, Args, dict[str, Any]], Any],
    ) -> None:
        self._layer = layer
        self._index = index
        self._call = call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not args or not isinstance(args[0], mx.array):
            raise CannotTakeApartError("its layers do not take the hidden state first")
        return self._call(self._index, args[0], args[1:], kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __contains__(self, name: str) -> bool:
        return name in self._layer

    def __getitem__(self, name: str) -> Any:
        return self._layer[name]


class _Recorder:
    """Notes how each layer is called, and gives each a hidden state that can be recognised."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._first: mx.array | None = None
        self._given: mx.array | None = None
        self._calls: list[LayerCall] = []

    def layer(self, index: int, h: mx.array, args: Args, kwargs: dict[str, Any]) -> mx.array:
        """Stand in for one layer."""
        if index != len(self._calls):
            raise CannotTakeApartError("its layers do not run once each, in order")
        if self._given is None:
            self._first = h
        elif h is not self._given:
            raise CannotTakeApartError(f"something changes the hidden state before layer {index}")
        self._calls.append(_describe_call(args, kwargs))
        self._given = mx.zeros_like(h)
        return self._given

    def result(self) -> tuple[mx.array, list[LayerCall]]:
        """Return the first layer's input and every layer's call."""
        if self._first is None or len(self._calls) != self._count:
            raise CannotTakeApartError(f"it ran {len(self._calls)} of its {self._count} layers")
        return self._first, self._calls


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


def _find_list(model: nn.Module, modules: list[nn.Module]) -> tuple[nn.Module, str, list[Any]]:
    """Find the list that the model's forward pass iterates; ``model.layers`` may be a copy of it."""
    wanted = {id(module) for module in modules}
    for _, owner in model.named_modules():
        for key, value in owner.items():
            if isinstance(value, list) and wanted <= {
                id(item) for item in cast("list[Any]", value)
            }:
                return owner, key, cast("list[Any]", value)
    raise CannotTakeApartError("its list of layers is not an attribute of any module")


def _describe(module: nn.Module, path: str) -> Layer:
    trained = {
        name
        for name, _ in cast(
            "list[tuple[str, mx.array]]", tree_flatten(module.trainable_parameters())
        )
    }
    slots = slots_of(module)
    return Layer(
        module=module,
        path=path,
        trainable=tuple(slot for slot in slots if slot.path in trained),
        frozen=tuple(slot for slot in slots if slot.path not in trained),
        structure=(_structure(module), tuple(sorted(trained))),
        has_dropout=any(
            isinstance(m, nn.Dropout | nn.Dropout2d | nn.Dropout3d) and vars(m).get("_p_1", 1) < 1
            for _, m in module.named_modules()
        ),
    )


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


def _structure(value: Any) -> Any:
    """Describe everything about a module but the values of its arrays."""
    if isinstance(value, mx.array):
        return (tuple(value.shape), str(value.dtype))
    if isinstance(value, nn.Module):
        attributes = {k: v for k, v in vars(value).items() if k != "_no_grad"}
        return (
            id(type(value)),
            tuple((k, _structure(v)) for k, v in value.items()),
            tuple((k, _structure(v)) for k, v in sorted(attributes.items())),
        )
    if isinstance(value, dict):
        return tuple((str(k), _structure(v)) for k, v in cast("dict[Any, Any]", value).items())
    if isinstance(value, list | tuple):
        return tuple(_structure(v) for v in cast("list[Any]", value))
    if isinstance(value, str | int | float | bool | None):
        return value
    return id(value)


def _describe_call(args: Args, kwargs: dict[str, Any]) -> LayerCall:
    """Separate a call's arrays from the rest.

    Raises:
        CannotTakeApartError: for an argument that may hold state, such as a cache.
    """
    arrays: list[mx.array] = []

    def strip(value: Any) -> Any:
        if isinstance(value, mx.array):
            arrays.append(value)
            return _Hole(len(arrays) - 1)
        if isinstance(value, tuple):
            return tuple(strip(v) for v in cast("Args", value))
        if isinstance(value, str | int | float | bool | None):
            return value
        raise CannotTakeApartError(f"its layers are given a {type(value).__name__}")

    held_args = tuple(strip(a) for a in args)
    held_kwargs = {k: strip(v) for k, v in kwargs.items()}

    def fill(value: Any, given: tuple[mx.array, ...]) -> Any:
        if isinstance(value, _Hole):
            return given[value.index]
        if isinstance(value, tuple):
            return tuple(fill(v, given) for v in cast("Args", value))
        return value

    def build(given: tuple[mx.array, ...]) -> tuple[Args, dict[str, Any]]:
        return (
            tuple(fill(a, given) for a in held_args),
            {k: fill(v, given) for k, v in held_kwargs.items()},
        )

    return LayerCall(tuple(arrays), build, repr((held_args, held_kwargs)))


@dataclass(frozen=True)
class _Hole:
    """Marks where an array was."""

    index: int
