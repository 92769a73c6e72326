"""Finds the tokens that the assistant wrote in a rendered conversation.

A turn is what the rendering of the messages up to and with it adds to the rendering of those before
it, as long as both are prefixes of the whole rendering. Templates that render a turn differently
once it lies in the past (Qwen3 drops its thinking) break that; there a turn is the tokens of the
whole rendering that change when the turn is replaced by something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from jinja2 import TemplateError

from engine.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.data.formats import Message, Row

# Unlike each other at both ends, so that one of them differs from any turn there.
_REPLACEMENTS = ("Quartz J", "Zebra X")


class Tokenizer(Protocol):
    """What the data room needs of a tokenizer; mlx-lm's wrapper and transformers' own have it."""

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends a text."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, with special tokens."""
        ...

    def apply_chat_template(
        self,
        conversation: list[dict[str, Any]],
        *,
        tools: list[Any] | None,
        add_generation_prompt: bool,
        return_dict: bool,
    ) -> list[int]:
        """Return the token ids of a conversation."""
        ...


@dataclass(frozen=True, slots=True)
class Turns:
    """Where the assistant's turns lie in the tokens of a row."""

    spans: tuple[tuple[int, int], ...]
    """First token and the one after the last, in order, without overlap."""
    complete: bool
    """False: earlier turns could not be located and only the last is here."""


class Renderer:
    """Renders rows with the tokenizer's chat template; remembers how the template closes a turn."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._closing: list[int] | None = None

    def render(self, row: Row) -> list[int]:
        """Return the tokens of the whole conversation.

        Raises:
            DataError: The tokenizer has no chat template, or its template refuses the row.
        """
        has_template = getattr(
            self._tokenizer,
            "has_chat_template",
            getattr(self._tokenizer, "chat_template", None) is not None,
        )
        if not has_template:
            raise DataError(
                f"the model's tokenizer has no chat template, so {row.format} rows cannot be used.",
                row.path,
                row.line,
                "Choose an instruction-tuned model, or bring the rows into the text format.",
            )
        try:
            return self._tokens(row, row.messages)
        except (TemplateError, TypeError, ValueError) as error:
            raise DataError(
                f"the model's chat template refuses the row: {error}",
                row.path,
                row.line,
                "Change or delete the row; some models know no system or tool messages, "
                "or want user and assistant to take turns.",
            ) from error

    def assistant_turns(self, row: Row, full: list[int]) -> Turns:
        """Find every assistant turn in ``full``, the row's whole rendering."""
        spans: list[tuple[int, int]] = []
        for index, message in enumerate(row.messages):
            if message["role"] != "assistant":
                continue
            span = self._added_by(row, index, full) or self._changed_with(row, index, full)
            if span is None or (spans and span[0] < spans[-1][1]):
                return Turns(self._last_turn(row, full), complete=False)
            spans.append(span)
        return Turns(tuple(spans), complete=True)

    def _added_by(self, row: Row, index: int, full: list[int]) -> tuple[int, int] | None:
        """The turn as the difference of two prefixes, or None if they are none."""
        before = self._try_tokens(row, row.messages[:index], prompt=True)
        if before is None or full[: len(before)] != before:
            return None
        last = index == len(row.messages) - 1
        through = full if last else self._try_tokens(row, row.messages[: index + 1])
        if through is None or full[: len(through)] != through or len(through) <= len(before):
            return None
        return len(before), len(through)

    def _changed_with(self, row: Row, index: int, full: list[int]) -> tuple[int, int] | None:
        """The turn as the tokens that change with it, and those that close it."""
        span = self._changed_tokens(row, row.messages, index, full)
        if span is None:
            return None
        start, stop = span
        if self._closing is None:
            until = row.messages[: index + 1]
            through = self._try_tokens(row, until)
            changed = self._changed_tokens(row, until, index, through) if through else None
            if through is None or changed is None:
                return None
            self._closing = through[changed[1] :]
        return start, stop + _common_prefix(self._closing, full[stop:])

    def _changed_tokens(
        self, row: Row, messages: Sequence[Message], index: int, tokens: list[int]
    ) -> tuple[int, int] | None:
        """The tokens that differ between these messages and the same with one replaced."""
        prefix = suffix = len(tokens)
        for replacement in _REPLACEMENTS:
            changed: list[Message] = [*messages]
            changed[index] = {"role": "assistant", "content": replacement}
            other = self._try_tokens(row, changed)
            if other is None:
                return None
            prefix = min(prefix, _common_prefix(tokens, other))
            suffix = min(suffix, _common_prefix(tokens[::-1], other[::-1]))
        stop = len(tokens) - suffix
        return (prefix, stop) if prefix < stop else None

    def _last_turn(self, row: Row, full: list[int]) -> tuple[tuple[int, int], ...]:
        """The last message's tokens if it is the assistant's, or nothing."""
        if row.messages[-1]["role"] != "assistant":
            return ()
        before = self._try_tokens(row, row.messages[:-1], prompt=True)
        return ((_common_prefix(before, full), len(full)),) if before else ()

    def _try_tokens(
        self, row: Row, messages: Sequence[Message], *, prompt: bool = False
    ) -> list[int] | None:
        """The tokens of part of a conversation; None where the template refuses it."""
        if not messages:
            return None
        try:
            return self._tokens(row, messages, prompt=prompt)
        except (TemplateError, TypeError, ValueError):
            return None

    def _tokens(self, row: Row, messages: Sequence[Message], *, prompt: bool = False) -> list[int]:
        return self._tokenizer.apply_chat_template(
            list(messages),
            tools=list(row.tools) if row.tools else None,
            add_generation_prompt=prompt,
            return_dict=False,
        )


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens both begin with."""
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return min(len(left), len(right))
