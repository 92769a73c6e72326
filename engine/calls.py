"""Notes how a model calls its layers, so that the calls can be repeated with other arrays.

A recorder takes the layers' places. It returns arrays of the right form but without the values, and
knows them again when a later layer is given them: so it sees what is carried from layer to layer
besides the hidden state, such as keys that later layers share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import mlx.core as mx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import mlx.nn as nn

    Args = tuple[Any, ...]
    Arrays = Sequence[mx.array]
    Call = Callable[[int, Args, dict[str, Any]], Any]

ROWS, WIDTH = -1, -2
"""Stand for a batch's sizes in the shape of an array."""


class CannotTakeApartError(Exception):
    """This model cannot be evaluated layer by layer; the message says why."""


@dataclass(frozen=True)
class Hole:
    """Marks where an array was."""

    carried: bool
    """Whether it comes from the layers before; otherwise it does not depend on any layer."""
    place: int


@dataclass(frozen=True)
class LayerCall:
    """How the model calls one layer.

    What is carried between layers is a list of arrays: the hidden state, then whatever else an
    earlier layer returned and a later one is given.
    """

    arrays: tuple[mx.array, ...]
    """What it is given that depends on no layer, such as masks."""
    args: Args
    """Its positional arguments, with holes for arrays."""
    kwargs: dict[str, Any]
    """Its keyword arguments, with holes for arrays."""
    passes: tuple[int, ...]
    """Which of the arrays that it returns are carried on; the hidden state is its first."""
    keeps: tuple[int, ...]
    """Which of the arrays carried to it are carried on."""

    @property
    def static(self) -> str:
        """Describes all but the arrays; calls that agree here share a compiled function."""
        return repr((self.args, self.kwargs, self.passes, self.keeps))

    def run(self, module: nn.Module, carried: Arrays, arrays: Arrays) -> list[mx.array]:
        """Call a layer, or another of the same structure, and return what is carried on.

        Args:
            module: the layer.
            carried: what the layer before carried on.
            arrays: ``self.arrays``, or other values for them.
        """

        def fill(hole: Hole) -> mx.array:
            return (carried if hole.carried else arrays)[hole.place]

        args = replace(self.args, Hole, fill)
        kwargs = {name: replace(value, Hole, fill) for name, value in self.kwargs.items()}
        returned = arrays_in(cast("Any", module)(*args, **kwargs))
        return [returned[i] for i in self.passes] + [carried[i] for i in self.keeps]


@dataclass(frozen=True)
class Form:
    """The shape of an array for any batch, and its type."""

    shape: tuple[int, ...]
    dtype: mx.Dtype

    @classmethod
    def of(cls, array: mx.array, rows: int, width: int) -> Form:
        """Take the form of an array that a batch of some size gave."""
        names = {rows: ROWS, width: WIDTH}
        return cls(tuple(names.get(size, size) for size in array.shape), array.dtype)


class Source(NamedTuple):
    """Which layer made a carried array (the embedding is -1), and which of its arrays it is."""

    layer: int
    output: int


class Recorder:
    """Notes what each layer is given, and returns what can be recognised."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._first: mx.array | None = None
        # Holding an array keeps its identity from being given to another.
        self._made: dict[int, tuple[Source, mx.array]] = {}
        self._given: list[tuple[tuple[mx.array, ...], Args, dict[str, Any], set[Source]]] = []

    def __call__(self, index: int, args: Args, kwargs: dict[str, Any]) -> Any:
        """Stand in for one layer.

        Raises:
            CannotTakeApartError: for an order or an argument that cannot be repeated.
        """
        if index != len(self._given):
            raise CannotTakeApartError("its layers do not run once each, in order")
        arrays: list[mx.array] = []
        taken: set[Source] = set()

        def strip(array: mx.array) -> Hole | Source:
            if self._first is None:
                self._first = array
                self._made[id(array)] = Source(-1, 0), array
            source, _ = self._made.get(id(array), (None, None))
            # To later layers what the first one gets is a given like any other.
            if source is None or (source.layer < 0 and index):
                arrays.append(array)
                return Hole(carried=False, place=len(arrays) - 1)
            if not mx.issubdtype(array.dtype, mx.floating):
                raise CannotTakeApartError("its layers hand on integers")
            taken.add(source)
            return source

        held = replace(args, mx.array, strip, "are given")
        named = {k: replace(v, mx.array, strip, "are given") for k, v in kwargs.items()}
        if Source(index - 1, 0) not in taken:
            raise CannotTakeApartError(f"something changes the hidden state before layer {index}")
        self._given.append((tuple(arrays), held, named, taken))
        returned = self._call(index, args, kwargs)
        for output, array in enumerate(arrays_in(returned)):
            self._made[id(array)] = Source(index, output), array
        return returned

    def result(self, count: int) -> tuple[mx.array, list[LayerCall]]:
        """Return the first layer's input and every layer's call."""
        if self._first is None or len(self._given) != count:
            raise CannotTakeApartError(f"it ran {len(self._given)} of its {count} layers")
        last_use = {source: i for i, (*_, taken) in enumerate(self._given) for source in taken}
        calls: list[LayerCall] = []
        carried = [Source(-1, 0)]
        for index, (arrays, args, kwargs, _) in enumerate(self._given):
            holes = {source: Hole(carried=True, place=i) for i, source in enumerate(carried)}
            fill = holes.__getitem__
            more = sorted(s.output for s in last_use if s.layer == index and s.output)
            keeps = tuple(i for i, source in enumerate(carried) if last_use[source] > index)
            calls.append(
                LayerCall(
                    arrays=arrays,
                    args=replace(args, Source, fill),
                    kwargs={k: replace(v, Source, fill) for k, v in kwargs.items()},
                    passes=(0, *more),
                    keeps=keeps,
                )
            )
            carried = [Source(index, i) for i in (0, *more)] + [carried[i] for i in keeps]
        return self._first, calls

    def is_changed(self, value: float) -> bool:
        """Whether an array that a layer returned was changed in place before the next ran."""
        last = len(self._given) - 1
        arrays = [a for source, a in self._made.values() if 0 <= source.layer < last]
        arrays = [a for a in arrays if mx.issubdtype(a.dtype, mx.floating)]
        same = [mx.array_equal(a, mx.full(a.shape, value, a.dtype), equal_nan=True) for a in arrays]
        return not all(s.item() for s in same)


def replace(value: Any, kind: Any, by: Callable[[Any], Any], verb: str = "hold") -> Any:
    """Rebuild nested tuples with everything of a kind replaced.

    Raises:
        CannotTakeApartError: for what may hold state, such as a cache.
    """
    if isinstance(value, kind):
        return by(value)
    if type(value) is tuple:
        return tuple(replace(v, kind, by, verb) for v in cast("Args", value))
    if value is None or isinstance(value, str | int | float | bool | Hole):
        return value
    raise CannotTakeApartError(f"its layers {verb} a {type(value).__name__}")


def arrays_in(value: Any) -> list[mx.array]:
    """Return the arrays in nested tuples."""
    if isinstance(value, mx.array):
        return [value]
    if isinstance(value, tuple):
        return [array for part in cast("Args", value) for array in arrays_in(part)]
    return []


def filled(form: Any, rows: int, width: int, value: float = float("nan")) -> Any:
    """Make arrays of a form; not-a-number shows in whatever is computed from it."""
    sizes = {ROWS: rows, WIDTH: width}

    def array(form: Form) -> mx.array:
        shape = [sizes.get(size, size) for size in form.shape]
        return mx.full(shape, value if mx.issubdtype(form.dtype, mx.floating) else 0, form.dtype)

    return replace(form, Form, array)
