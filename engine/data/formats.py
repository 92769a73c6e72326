"""What a row may look like: mlx-lm's three formats, and what is wrong with one that fits none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from engine.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Format = Literal["prompt/completion", "chat", "text"]
Message = dict[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")
_SHAREGPT_HINT = (
    "Rename 'from' to 'role' and 'value' to 'content', and the roles 'human' to 'user' "
    "and 'gpt' to 'assistant'."
)


@dataclass(frozen=True, slots=True)
class Features:
    """The names that rows keep their parts under: mlx-lm's settings of the same names."""

    prompt: str = "prompt"
    completion: str = "completion"
    chat: str = "messages"
    text: str = "text"

    def keys(self, row_format: Format) -> tuple[str, ...]:
        """Return the keys that a row of this format must have."""
        if row_format == "prompt/completion":
            return (self.prompt, self.completion)
        return (self.chat,) if row_format == "chat" else (self.text,)

    def detect(self, row: dict[str, object]) -> Format | None:
        """Return the first format whose keys the row has, in mlx-lm's order of preference."""
        formats: tuple[Format, ...] = ("prompt/completion", "chat", "text")
        for row_format in formats:
            if all(key in row for key in self.keys(row_format)):
                return row_format
        return None

    @property
    def hint(self) -> str:
        """The accepted formats, in words and braces."""
        return (
            f'A row is one of {{"{self.chat}": [{{"role": "user", "content": "…"}}, …]}}, '
            f'{{"{self.prompt}": "…", "{self.completion}": "…"}} or {{"{self.text}": "…"}}.'
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One checked row."""

    format: Format
    path: Path
    """Its file, or a hub dataset's name and split."""
    line: int
    """From 1."""
    messages: tuple[Message, ...] = ()
    """Chat and prompt/completion rows; empty for text."""
    tools: tuple[Any, ...] | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one line, and what to do about it."""

    line: int
    message: str
    hint: str


def parse_row(
    value: object, features: Features, expected: Format | None, path: Path, line: int
) -> Row | Problem:
    """Check one decoded line against the format of its file.

    Args:
        value: What the line decoded to.
        features: The names of the parts.
        expected: The format of the lines before; None for the first.
        path: The file, for the row.
        line: From 1.
    """
    if not isinstance(value, dict):
        message = f"the line holds {_kind(value)}, not an object."
        return Problem(line, message, features.hint)
    row = cast("dict[str, object]", value)
    row_format = expected or features.detect(row)
    if row_format is None:
        return Problem(line, *_unknown_format(row, features))
    missing = [key for key in features.keys(row_format) if key not in row]
    if missing:
        message = f"the row has no {_quoted(missing)}; its keys are {_quoted(row)}."
        return Problem(line, message + _nearest(row, missing), features.hint)
    trouble = _check(row, features, row_format)
    if trouble:
        return Problem(line, *trouble)
    return _build(row, features, row_format, path, line)


def _build(
    row: dict[str, object], features: Features, row_format: Format, path: Path, line: int
) -> Row:
    """A row that was found good."""
    if row_format == "text":
        return Row(row_format, path, line, text=cast("str", row[features.text]))
    tools = cast("list[Any] | None", row.get("tools"))
    if row_format == "chat":
        given = cast("list[Message]", row[features.chat])
        # Hub tables fill absent keys with null, and templates ask whether a key is there.
        messages = tuple(
            {key: part for key, part in message.items() if part is not None or key == "content"}
            for message in given
        )
    else:
        messages = (
            {"role": "user", "content": row[features.prompt]},
            {"role": "assistant", "content": row[features.completion]},
        )
    return Row(row_format, path, line, messages, tuple(tools) if tools else None)


def _check(
    row: dict[str, object], features: Features, row_format: Format
) -> tuple[str, str] | None:
    """The first thing wrong with a row's values: what, and what to do."""
    tools = row.get("tools")
    if row_format != "text" and tools is not None and not isinstance(tools, list):
        return f"'tools' must be a list, not {_kind(tools)}.", "Leave it out if there are none."
    if row_format == "chat":
        return _check_messages(row[features.chat], features)
    for key in features.keys(row_format):
        if not isinstance(row[key], str):
            return f"'{key}' must be a string, not {_kind(row[key])}.", features.hint
    return None


def _check_messages(value: object, features: Features) -> tuple[str, str] | None:
    """The first thing wrong with a conversation."""
    if not isinstance(value, list):
        return f"'{features.chat}' must be a list, not {_kind(value)}.", features.hint
    if not value:
        return f"'{features.chat}' is empty.", "Give it messages or delete the line."
    for number, message in enumerate(cast("list[object]", value), start=1):
        trouble = _check_message(message, f"message {number}", features)
        if trouble:
            return trouble
    return None


def _check_message(value: object, name: str, features: Features) -> tuple[str, str] | None:
    """The first thing wrong with one message."""
    if not isinstance(value, dict):
        return f"{name} must be an object, not {_kind(value)}.", features.hint
    message = cast("dict[str, object]", value)
    if "role" not in message:
        hint = _SHAREGPT_HINT if {"from", "value"} <= message.keys() else features.hint
        return f"{name} has no 'role'; its keys are {_quoted(message)}.", hint
    role = message["role"]
    if not isinstance(role, str):
        return f"the 'role' of {name} must be a string, not {_kind(role)}.", _roles_hint()
    if role not in ROLES:
        nearest = did_you_mean(role, ROLES)
        return f"the role '{role}' of {name} is unknown.{nearest}", _roles_hint()
    if isinstance(message.get("content"), str):
        return None
    if message.get("content") is None and message.get("tool_calls"):
        return None
    if "content" not in message:
        return f"{name} has no 'content'; its keys are {_quoted(message)}.", features.hint
    content = _kind(message["content"])
    return f"the 'content' of {name} must be a string, not {content}.", features.hint


def _unknown_format(row: dict[str, object], features: Features) -> tuple[str, str]:
    """What to say of a row that fits no format."""
    message = f"the row is in no known format; its keys are {_quoted(row)}."
    if {"instruction", "output"} <= row.keys():
        joined = " and join 'input' to it" if "input" in row else ""
        return message, (
            "These look like Alpaca rows: set prompt_feature to 'instruction'"
            f"{joined}, and completion_feature to 'output'."
        )
    if "conversations" in row:
        return message, "Set chat_feature to 'conversations'; each needs a 'role' and a 'content'."
    accepted = (features.chat, features.prompt, features.completion, features.text)
    return message + _nearest(row, accepted), features.hint


def _nearest(row: Iterable[str], accepted: Iterable[str]) -> str:
    """A guess at a misspelt key, or nothing."""
    known = tuple(accepted)
    guesses = (did_you_mean(key, known) for key in row if key not in known)
    return next((guess for guess in guesses if guess), "")


def _roles_hint() -> str:
    return f"Roles are {', '.join(ROLES[:-1])} and {ROLES[-1]}."


def _quoted(names: Iterable[str], most: int = 8) -> str:
    """The names in quotes; the rest of a long list as a count."""
    quoted = [f"'{name}'" for name in names]
    if not quoted:
        return "none"
    rest = f" and {len(quoted) - most} more" if len(quoted) > most else ""
    return ", ".join(quoted[:most]) + rest


def _kind(value: object) -> str:
    """What JSON calls this value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list) else "an object"
