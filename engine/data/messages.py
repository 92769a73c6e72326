"""Checks conversations: the shape of every message, then who speaks when and whether they do."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

from engine.data.convert import Trouble, kind_of, quoted
from engine.errors import did_you_mean

if TYPE_CHECKING:
    from engine.data.convert import Message

ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
_FIRST_ROLES = ("system", "developer")
_SPEAKERS = ("user", "assistant")
_EMPTY_HINT = "Fill the turn or delete the row."
_ORDER_HINT = "Bring the turns into order or delete the row."
_ROLES_HINT = f"Roles are {', '.join(ROLES[:-1])} and {ROLES[-1]}."


def check_messages(value: object, key: str) -> list[Message] | Trouble:
    """Check the shape of what a row holds under ``key`` and return it without absent parts."""
    if not isinstance(value, list):
        return Trouble(f"'{key}' must be a list, not {kind_of(value)}.")
    if not value:
        return Trouble(f"'{key}' is empty.", "Give it messages or delete the line.")
    for number, message in enumerate(cast("list[object]", value), start=1):
        trouble = _check_message(message, f"message {number}")
        if trouble:
            return trouble
    # Hub tables fill absent keys with null, and templates ask whether a key is there.
    return [
        {key: part for key, part in message.items() if part is not None or key == "content"}
        for message in cast("list[Message]", value)
    ]


def check_conversation(messages: list[Message]) -> tuple[Message, ...] | Trouble:
    """Check that speakers take turns and say something; empty system turns are left out."""
    kept = tuple(m for m in messages if m["role"] not in _FIRST_ROLES or _says_something(m))
    for number, message in enumerate(kept, start=1):
        role = message["role"]
        if role in _SPEAKERS and not _says_something(message):
            return Trouble(f"turn {number}, the {role}'s, is empty.", _EMPTY_HINT)
        if role in _FIRST_ROLES and number > 1:
            return Trouble(f"the {role} turn is number {number}, not the first.", _ORDER_HINT)
    for number, (before, after) in enumerate(pairwise(kept), start=2):
        role = after["role"]
        if role in _SPEAKERS and before["role"] == role and not before.get("tool_calls"):
            return Trouble(f"turns {number - 1} and {number} are both the {role}'s.", _ORDER_HINT)
    if not kept:
        return Trouble("the conversation has no turns.", _EMPTY_HINT)
    return kept


def _says_something(message: Message) -> bool:
    content = message.get("content")
    return bool(content and content.strip()) or bool(message.get("tool_calls"))


def _check_message(value: object, name: str) -> Trouble | None:
    """The first thing wrong with one message."""
    if not isinstance(value, dict):
        return Trouble(f"{name} must be an object, not {kind_of(value)}.")
    message = cast("dict[str, object]", value)
    if "role" not in message:
        return Trouble(f"{name} has no 'role'; its keys are {quoted(message)}.")
    role = message["role"]
    if not isinstance(role, str):
        return Trouble(f"the 'role' of {name} must be a string, not {kind_of(role)}.", _ROLES_HINT)
    if role not in ROLES:
        nearest = did_you_mean(role, ROLES)
        return Trouble(f"the role '{role}' of {name} is unknown.{nearest}", _ROLES_HINT)
    if isinstance(message.get("content"), str):
        return None
    if message.get("content") is None and message.get("tool_calls"):
        return None
    if "content" not in message:
        return Trouble(f"{name} has no 'content'; its keys are {quoted(message)}.")
    content = kind_of(message["content"])
    return Trouble(f"the 'content' of {name} must be a string, not {content}.")
