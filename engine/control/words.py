"""What may be said over the control socket. Pure."""

from __future__ import annotations

import json
import typing
from dataclasses import dataclass
from typing import Any, Literal, cast

from engine.events import Policy

Verb = Literal[
    "subscribe", "pause", "resume", "checkpoint", "evaluate", "sample", "policy", "stop", "hello"
]
VERBS: tuple[Verb, ...] = typing.get_args(Verb)
POLICIES: tuple[Policy, ...] = typing.get_args(Policy)
MOST_BYTES = 4096
"""A longer line is no command."""
_MOST_ID = 64
_OWN_KEYS: dict[str, str] = {"subscribe": "from", "policy": "policy"}


@dataclass(frozen=True, slots=True)
class Command:
    """One thing that somebody wants of the run."""

    verb: Verb
    id: str | int | None = None
    """What the answer is marked with."""
    start: int = 0
    """The journal's line that a subscription begins with; -1 for what happens from now on."""
    policy: Policy | None = None


def parse_command(line: bytes) -> Command:
    """Read a command.

    Raises:
        ValueError: with what is wrong, in words.
    """
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("this is no line of JSON") from None
    if not isinstance(values, dict):
        raise ValueError('a command is an object such as {"do": "pause"}')
    given = cast("dict[str, Any]", values)
    verb, name = given.get("do"), given.get("id")
    if verb not in VERBS:
        raise ValueError(f"'do' is none of {', '.join(VERBS)}")
    own = _OWN_KEYS.get(verb)
    if unknown := given.keys() - {"do", "id", own}:
        raise ValueError(f"{verb} knows no '{min(unknown)[:40]}'")
    is_number = isinstance(name, int) and not isinstance(name, bool) and abs(name) < 2**53
    is_text = isinstance(name, str) and len(name) <= _MOST_ID
    if name is not None and not is_number and not is_text:
        raise ValueError(f"'id' is not a short text or a number (at most {_MOST_ID} characters)")
    if verb == "subscribe":
        return Command(verb, name, start=_start(given.get("from", 0)))
    if verb == "policy":
        policy = given.get("policy")
        if policy not in POLICIES:
            raise ValueError(f"'policy' is none of {', '.join(POLICIES)}")
        return Command(verb, name, policy=policy)
    return Command(verb, name)


def reply_to(command: Command, **facts: Any) -> bytes:
    """Return the answer to a command that was carried out."""
    name = {} if command.id is None else {"id": command.id}
    return _line({"reply": command.verb, **name, **facts})


def refusal(why: str) -> bytes:
    """Return the answer to what is no command."""
    return _line({"error": why})


def request(verb: Verb, **values: Any) -> bytes:
    """Return a command as a line."""
    return _line({"do": verb, **values})


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=True).encode() + b"\n"


def _start(value: Any) -> int:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not -1 <= value < 2**53:
        raise ValueError("'from' is not a line's number, or -1 for the end")
    return value
