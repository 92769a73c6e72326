"""Turns what others call a row into messages: pairs, Alpaca, ShareGPT and Llama-2's own text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

Message = dict[str, Any]

# The names that ShareGPT collections give the speakers, and the roles that templates know.
_SPEAKERS = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
}
_LLAMA2_START = re.compile(r"\s*(?:<s>)?\s*\[INST\].*?\[/INST\]", re.DOTALL)
_LLAMA2_TURN = re.compile(
    r"\s*(?:<s>)?\s*\[INST\](?P<user>.*?)\[/INST\](?P<assistant>.*?)"
    r"(?:</s>\s*)?(?=(?:<s>)?\s*\[INST\]|\Z)",
    re.DOTALL,
)
_LLAMA2_SYSTEM = re.compile(r"\s*<<SYS>>(?P<system>.*?)<</SYS>>(?P<user>.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a row's values, and what to do; no hint means the accepted formats."""

    message: str
    hint: str = ""


def pair_messages(row: dict[str, object], prompt: str, completion: str) -> list[Message] | Trouble:
    """Return a prompt and its completion as two turns."""
    for key in (prompt, completion):
        trouble = _not_a_string(row, key)
        if trouble:
            return trouble
    return [
        {"role": "user", "content": row[prompt]},
        {"role": "assistant", "content": row[completion]},
    ]


def alpaca_messages(row: dict[str, object]) -> list[Message] | Trouble:
    """Return an Alpaca row as two turns; its input follows the instruction after a blank line."""
    for key in ("instruction", "output", "input", "system"):
        if key in row and not (row[key] is None and key in {"input", "system"}):
            trouble = _not_a_string(row, key)
            if trouble:
                return trouble
    parts = [cast("str", row[key]) for key in ("instruction", "input") if row.get(key)]
    asked = "\n\n".join(part.strip() for part in parts if part.strip())
    messages: list[Message] = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": row["output"]},
    ]
    if row.get("system"):
        messages.insert(0, {"role": "system", "content": row["system"]})
    return messages


def sharegpt_messages(row: dict[str, object], key: str) -> list[Message] | Trouble:
    """Return a ShareGPT row's turns, a system text beside them first."""
    turns = row[key]
    if not isinstance(turns, list):
        return Trouble(f"'{key}' must be a list, not {kind_of(turns)}.")
    messages: list[Message] = []
    if row.get("system"):
        trouble = _not_a_string(row, "system")
        if trouble:
            return trouble
        messages.append({"role": "system", "content": row["system"]})
    for number, turn in enumerate(cast("list[object]", turns), start=1):
        message = _sharegpt_message(turn, f"'{key}' {number}")
        if isinstance(message, Trouble):
            return message
        messages.append(message)
    return messages


def _sharegpt_message(turn: object, name: str) -> Message | Trouble:
    """One turn with the names that templates know."""
    if not isinstance(turn, dict):
        return Trouble(f"{name} must be an object, not {kind_of(turn)}.")
    values = cast("dict[str, object]", turn)
    speaker = values.get("from", values.get("role"))
    said = values.get("value", values.get("content"))
    if not isinstance(speaker, str):
        return Trouble(f"the 'from' of {name} must be a string, not {kind_of(speaker)}.")
    if speaker.lower() not in _SPEAKERS:
        return Trouble(
            f"the speaker '{speaker}' of {name} is unknown.",
            f"Speakers are {', '.join(_SPEAKERS)}.",
        )
    if not isinstance(said, str):
        return Trouble(f"the 'value' of {name} must be a string, not {kind_of(said)}.")
    return {"role": _SPEAKERS[speaker.lower()], "content": said}


def is_llama2(text: object) -> bool:
    """Whether a text is a conversation already in Llama 2's own template."""
    return isinstance(text, str) and _LLAMA2_START.match(text) is not None


def llama2_messages(text: object, key: str) -> list[Message] | Trouble:
    """Return the turns inside a text like ``<s>[INST] question [/INST] answer </s>``.

    The markers are those of Meta's reference code for Llama 2 (``llama/generation.py``); the system
    text stands between ``<<SYS>>`` and ``<</SYS>>`` in the first question.
    """
    if not isinstance(text, str):
        return Trouble(f"'{key}' must be a string, not {kind_of(text)}.")
    messages: list[Message] = []
    end = 0
    for turn in _LLAMA2_TURN.finditer(text):
        if turn.start() != end:
            break
        end = turn.end()
        user, assistant = turn["user"], turn["assistant"].strip().removesuffix("</s>")
        system = None if messages else _LLAMA2_SYSTEM.match(user)
        if system:
            messages.append({"role": "system", "content": system["system"].strip()})
            user = system["user"]
        messages.append({"role": "user", "content": user.strip()})
        if assistant.strip():
            messages.append({"role": "assistant", "content": assistant.strip()})
    if not messages or text[end:].strip():
        return Trouble(
            f"'{key}' is not whole turns of [INST] … [/INST].",
            "Mend the row, or set data_format to text to train on the texts as they are.",
        )
    return messages


def kind_of(value: object) -> str:
    """Return what JSON calls this value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"


def quoted(names: Iterable[str], most: int = 8) -> str:
    """Return the names in quotes, the rest of a long list as a count."""
    shown = [f"'{name}'" for name in names]
    if not shown:
        return "none"
    rest = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + rest


def _not_a_string(row: dict[str, object], key: str) -> Trouble | None:
    value = row[key]
    return (
        None
        if isinstance(value, str)
        else Trouble(f"'{key}' must be a string, not {kind_of(value)}.")
    )
