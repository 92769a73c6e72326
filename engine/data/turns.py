"""Finds the tokens that the assistant wrote in a rendered conversation.

A turn is what the rendering of the messages up to and with it adds to the rendering of those before
it, as long as both are prefixes of the whole rendering. Templates that render a turn differently
once it lies in the past (Qwen3 drops its thinking) break that; there a turn is the tokens of the
whole rendering that change when the turn is replaced by something else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from jinja2 import TemplateError

from engine.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.data.batch import BatchTokenizer
    from engine.data.convert import Message
    from engine.data.formats import Row

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
        tokenize: bool = True,
    ) -> Any:
        """Return the token ids of a conversation, or its text with ``tokenize=False``."""
        ...


class RowRefusedError(DataError):
    """The model's chat template refuses a row; others may be good."""

    def __init__(self, reason: str, row: Row) -> None:
        super().__init__(
            f"the model's chat template refuses the row: {reason}",
            row.path,
            row.line,
            "Change or delete the row; some models know no system or tool messages, "
            "or want user and assistant to take turns.",
        )
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Turns:
    """Where the assistant's turns lie in the tokens of a row."""

    spans: tuple[tuple[int, int], ...]
    """First token and the one after the last, in order, without overlap."""
    complete: bool
    """False: earlier turns could not be located and only the last is here."""


class Renderer:
    """Renders rows with the tokenizer's chat template; remembers how the template closes a turn."""

    def __init__(self, tokenizer: Tokenizer, batch: BatchTokenizer | None = None) -> None:
        self._tokenizer = tokenizer
        self._batch = batch
        self._closing: list[int] | None = None
        self._texts: dict[int, str] = {}
        self._ahead: dict[tuple[int, int, bool], list[int]] = {}

    def fit(self, row: Row) -> Row:
        """Return the row as the template takes it: where it refuses system turns, without one.

        The system's text then stands before the first user's, a blank line between them.

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
            self._texts[id(row)] = self._text(row, row.messages)
        except (TemplateError, TypeError, ValueError) as error:
            folded = _without_system(row)
            text = self._try_text(folded, folded.messages) if folded else None
            if folded is None or text is None:
                raise RowRefusedError(str(error), row) from error
            self._texts[id(folded)] = text
            return folded
        return row

    def look_ahead(self, rows: Sequence[Row], *, with_turns: bool) -> None:
        """Encode at once what rendering these rows, and finding their turns, will ask for.

        Args:
            rows: Rows that ``fit`` returned since the last call; the caller keeps them alive.
            with_turns: Whether turns will be looked for.
        """
        texts, self._texts = self._texts, {}
        self._ahead = {}
        if self._batch is None or not rows:
            return
        keys: list[tuple[int, int, bool]] = []
        wanted: list[str] = []
        for row in rows:
            keys.append((id(row), len(row.messages), False))
            wanted.append(texts[id(row)])
            for count, prompt in _prefixes(row) if with_turns else ():
                text = self._try_text(row, row.messages[:count], prompt=prompt)
                if text is not None:
                    keys.append((id(row), count, prompt))
                    wanted.append(text)
        first = rows[0]
        encoded = self._batch.encode(wanted, lambda: self._tokens(first, first.messages))
        if encoded is None:
            self._batch = None
        else:
            self._ahead = dict(zip(keys, encoded, strict=True))

    def render(self, row: Row) -> list[int]:
        """Return the tokens of the whole conversation of a row that ``fit`` returned."""
        known = self._ahead.get((id(row), len(row.messages), False))
        return self._tokens(row, row.messages) if known is None else known

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
        before = self._prefix(row, index, prompt=True)
        if before is None or full[: len(before)] != before:
            return None
        last = index == len(row.messages) - 1
        through = full if last else self._prefix(row, index + 1, prompt=False)
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

    def _prefix(self, row: Row, count: int, *, prompt: bool) -> list[int] | None:
        """The tokens of a row's first messages; None where the template refuses them."""
        known = self._ahead.get((id(row), count, prompt))
        return known or self._try_tokens(row, row.messages[:count], prompt=prompt)

    def _try_text(
        self, row: Row, messages: Sequence[Message], *, prompt: bool = False
    ) -> str | None:
        """The text of part of a conversation; None where the template refuses it."""
        try:
            return self._text(row, messages, prompt=prompt)
        except (TemplateError, TypeError, ValueError):
            return None

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
        return self._apply(row, messages, prompt=prompt, tokenize=True)

    def _text(self, row: Row, messages: Sequence[Message], *, prompt: bool = False) -> str:
        return self._apply(row, messages, prompt=prompt, tokenize=False)

    def _apply(self, row: Row, messages: Sequence[Message], *, prompt: bool, tokenize: bool) -> Any:
        return self._tokenizer.apply_chat_template(
            list(messages),
            tools=list(row.tools) if row.tools else None,
            add_generation_prompt=prompt,
            return_dict=False,
            tokenize=tokenize,
        )


def _prefixes(row: Row) -> Iterator[tuple[int, bool]]:
    """How many first messages, and whether the assistant's turn is opened after them."""
    for index, message in enumerate(row.messages):
        if message["role"] == "assistant":
            if index > 0:
                yield index, True
            if index < len(row.messages) - 1:
                yield index + 1, False


def _without_system(row: Row) -> Row | None:
    """The row with its system's text in the first user's turn; None where it has no such pair."""
    roles = [message["role"] for message in row.messages[:2]]
    if roles not in (["system", "user"], ["developer", "user"]):
        return None
    system, user, *rest = row.messages
    joined = {**user, "content": f"{system['content']}\n\n{user['content']}"}
    return replace(row, messages=(joined, *rest))


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens both begin with."""
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return min(len(left), len(right))
