"""What a row may look like: seven formats, and what is wrong with one that fits none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from engine.config import Format
from engine.data.convert import (
    Trouble,
    alpaca_messages,
    is_llama2,
    kind_of,
    llama2_messages,
    pair_messages,
    quoted,
    sharegpt_messages,
)
from engine.data.messages import check_conversation, check_messages
from engine.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from engine.config import HubDataset, RunConfig
    from engine.data.convert import Message

__all__ = ["Features", "Format", "Problem", "Row", "parse_row"]

SHAREGPT_KEYS = ("conversations", "conversation")
TREE_KEYS = ("message_id", "parent_id", "role", "text")


@dataclass(frozen=True, slots=True)
class Features:
    """The names that rows keep their parts under: mlx-lm's settings of the same names."""

    prompt: str = "prompt"
    completion: str = "completion"
    chat: str = "messages"
    text: str = "text"

    @classmethod
    def of(cls, config: RunConfig | HubDataset) -> Features:
        """Return the names that settings give."""
        return cls(
            config.prompt_feature,
            config.completion_feature,
            config.chat_feature,
            config.text_feature,
        )

    def keys(self, row_format: Format) -> tuple[str, ...]:
        """Return the keys that a row of this format must have."""
        match row_format:
            case "prompt/completion":
                return (self.prompt, self.completion)
            case "chat":
                return (self.chat,)
            case "alpaca":
                return ("instruction", "output")
            case "sharegpt":
                return SHAREGPT_KEYS[:1]
            case "oasst":
                return TREE_KEYS
            case "text" | "llama-2":
                return (self.text,)

    def detect(self, row: dict[str, object]) -> Format | None:
        """Return the first format that the row fits.

        mlx-lm's formats go in mlx-lm's order, but rows of a richer format that also have a text
        are of the richer one: Alpaca's text is its three parts again, and that of a tree's message
        is one turn alone.
        """
        if self.prompt in row and self.completion in row:
            return "prompt/completion"
        if self.chat in row:
            return "sharegpt" if _speaks_sharegpt(row[self.chat]) else "chat"
        if all(key in row for key in TREE_KEYS):
            return "oasst"
        if self.conversation_key(row):
            return "sharegpt"
        if "instruction" in row and "output" in row:
            return "alpaca"
        if self.text in row:
            return "llama-2" if is_llama2(row[self.text]) else "text"
        return None

    def conversation_key(self, row: dict[str, object]) -> str:
        """Return the key that a ShareGPT row keeps its turns under, or nothing."""
        named = (key for key in (self.chat, *SHAREGPT_KEYS) if _speaks_sharegpt(row.get(key)))
        any_list = (key for key in SHAREGPT_KEYS if key in row)
        return next(named, "") or next(any_list, "")

    @property
    def hint(self) -> str:
        """The accepted formats, in words and braces."""
        return (
            f'A row is one of {{"{self.chat}": [{{"role": "user", "content": "…"}}, …]}}, '
            f'{{"{self.prompt}": "…", "{self.completion}": "…"}} or {{"{self.text}": "…"}}; '
            "Alpaca, ShareGPT and OpenAssistant rows are known too."
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One checked row."""

    format: Format
    """What it was given as."""
    path: Path
    """Its file, or a hub dataset's name and split."""
    line: int
    """From 1."""
    messages: tuple[Message, ...] = ()
    """The conversation; empty for text."""
    tools: tuple[Any, ...] | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one row, and what to do about it."""

    path: Path
    line: int
    message: str
    hint: str
    can_drop: bool = False
    """Whether the others are good without it; if not, reading stops."""


def parse_row(
    value: object, features: Features, expected: Format | None, path: Path, line: int
) -> Row | Problem:
    """Check one decoded row against the format of its split.

    Args:
        value: What the line decoded to.
        features: The names of the parts.
        expected: The format of the rows before, or the one that was asked for; None detects it.
        path: The file.
        line: From 1.
    """
    if not isinstance(value, dict):
        message = f"the line holds {kind_of(value)}, not an object."
        return Problem(path, line, message, features.hint)
    row = cast("dict[str, object]", value)
    row_format = expected or features.detect(row)
    if row_format is None:
        return Problem(path, line, *_unknown_format(row, features))
    missing = [key for key in features.keys(row_format) if key not in row]
    if missing and not (row_format == "sharegpt" and features.conversation_key(row)):
        message = f"the row has no {quoted(missing)}; its keys are {quoted(row)}."
        return Problem(path, line, message + _nearest(row, missing), features.hint)
    if row_format == "text":
        text = row[features.text]
        if isinstance(text, str):
            return Row(row_format, path, line, text=text)
        message = f"'{features.text}' must be a string, not {kind_of(text)}."
        return Problem(path, line, message, features.hint, can_drop=True)
    return _parse_conversation(row, features, row_format, path, line)


def _parse_conversation(
    row: dict[str, object], features: Features, row_format: Format, path: Path, line: int
) -> Row | Problem:
    """A row of any format that becomes messages."""
    tools = row.get("tools")
    if tools is not None and not isinstance(tools, list):
        message = f"'tools' must be a list, not {kind_of(tools)}."
        return Problem(path, line, message, "Leave it out if there are none.", can_drop=True)
    messages = _messages(row, features, row_format)
    if not isinstance(messages, Trouble):
        messages = check_conversation(messages)
    if isinstance(messages, Trouble):
        hint = messages.hint or features.hint
        return Problem(path, line, messages.message, hint, can_drop=True)
    return Row(row_format, path, line, messages, tuple(cast("list[Any]", tools)) if tools else None)


def _messages(
    row: dict[str, object], features: Features, row_format: Format
) -> list[Message] | Trouble:
    """The row's conversation, or what is wrong with its values."""
    match row_format:
        case "chat":
            return check_messages(row[features.chat], features.chat)
        case "sharegpt":
            return sharegpt_messages(row, features.conversation_key(row))
        case "alpaca":
            return alpaca_messages(row)
        case "llama-2":
            return llama2_messages(row[features.text], features.text)
        case _:
            return pair_messages(row, features.prompt, features.completion)


def _speaks_sharegpt(value: object) -> bool:
    """Whether turns have a 'from' and a 'value'."""
    first = cast("list[object]", value)[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and {"from", "value"} <= cast("dict[str, object]", first).keys()


def _unknown_format(row: dict[str, object], features: Features) -> tuple[str, str]:
    """What to say of a row that fits no format."""
    message = f"the row is in no known format; its keys are {quoted(row)}."
    accepted = (
        features.chat, features.prompt, features.completion, features.text,
        "instruction", "output", "conversations",
    )  # fmt: skip
    return message + _nearest(row, accepted), features.hint


def _nearest(row: Iterable[str], accepted: Iterable[str]) -> str:
    """A guess at a misspelt key, or nothing."""
    known = tuple(accepted)
    guesses = (did_you_mean(key, known) for key in row if key not in known)
    return next((guess for guess in guesses if guess), "")
