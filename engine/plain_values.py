"""Frozen dataclasses as JSON values, and back."""

from __future__ import annotations

import functools
import math
import types
import typing
from dataclasses import fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def plain_fields(value: Any) -> dict[str, Any]:
    """Return a dataclass's fields as JSON values; a number that is not finite becomes None."""
    return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value):
        return plain_fields(value)
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in typing.cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in typing.cast("list[Any]", value)]
    return value


def build(kind: type, values: dict[str, Any]) -> Any:
    """Build a dataclass from JSON values; fields that it does not know are left out.

    Raises:
        TypeError: when a field that has no default is missing.
    """
    names, readers = _readers(kind)
    given = {name: values[name] for name in names if name in values}
    for name, read in readers:
        if name in given:
            given[name] = read(given[name])
    return kind(**given)


@cache
def _readers(kind: type) -> tuple[tuple[str, ...], tuple[tuple[str, Callable[[Any], Any]], ...]]:
    """All fields' names, and what makes the values of those that are not as in JSON."""
    hints = typing.get_type_hints(kind)
    names = tuple(f.name for f in fields(kind))
    read = ((name, _reader(hints[name])) for name in names)
    return names, tuple((name, reader) for name, reader in read if reader is not None)


def _reader(hint: Any) -> Callable[[Any], Any] | None:
    if isinstance(hint, types.UnionType):
        return None
    if hint is float:
        return _float
    if is_dataclass(hint):
        return functools.partial(_built_or_none, typing.cast("type", hint))
    if typing.get_origin(hint) is tuple:
        return functools.partial(_tuple, _reader(typing.get_args(hint)[0]))
    return None


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _tuple(read: Callable[[Any], Any] | None, value: Any) -> tuple[Any, ...] | None:
    if value is None:
        return None
    return tuple(value) if read is None else tuple(map(read, value))


def _built_or_none(kind: type, value: Any) -> Any:
    return None if value is None else build(kind, value)
