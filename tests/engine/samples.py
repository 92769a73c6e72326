"""Makes an event of any kind with every field filled in, so that no new field is forgotten."""

from __future__ import annotations

import types
import typing
from dataclasses import fields, is_dataclass
from typing import Any, cast

if typing.TYPE_CHECKING:
    from engine.events import Event


def filled(kind: type[Any]) -> Any:
    """Return a dataclass of which every field holds something that its type allows."""
    hints = typing.get_type_hints(kind)
    return kind(**{f.name: _value(hints[f.name], i) for i, f in enumerate(fields(kind), start=1)})


def emptied(kind: type[Event]) -> Event:
    """Return an event of which every field that may be None is None."""
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {
        f.name: None if _may_be_none(hints[f.name]) else _value(hints[f.name], 1)
        for f in fields(kind)
    }
    return kind(**values)


def _may_be_none(hint: Any) -> bool:
    return _is_union(hint) and type(None) in typing.get_args(hint)


def _is_union(hint: Any) -> bool:
    # ``Literal[…] | None`` is of the older kind, ``float | None`` of the newer.
    return typing.get_origin(hint) in {types.UnionType, typing.Union}


def _tuple(inner: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    if inner[-1] is not Ellipsis:
        return tuple(_value(hint, number) for hint in inner)
    if inner[0] is int:
        return (8, 16, number)
    return (_value(inner[0], number), _value(inner[0], number + 1))


def _value(hint: Any, number: int) -> Any:
    if _is_union(hint):
        return _value(typing.get_args(hint)[0], number)
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)[-1]
    if typing.get_origin(hint) is tuple:
        return _tuple(typing.get_args(hint), number)
    if typing.get_origin(hint) is dict:
        return {"rate": 0.5} if float in typing.get_args(hint) else {"a": "b", "c": f"{number}"}
    if is_dataclass(hint):
        return filled(cast("type[Any]", hint))
    plain = {bool: True, int: number, float: number + 0.25, str: f'línea {number}\n\u2028\t"end"'}
    return plain[hint]
