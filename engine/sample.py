"""The prompts that a run answers again and again, and how long an answer may be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from engine.reply import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.answers import AnswerShape
    from engine.config import RunConfig
    from engine.conversation import Message, Sampling
    from engine.data.rows import Row

TEXT_WORDS = 12
"""Words of a text row that the model goes on from."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Something that is asked at every evaluation."""

    shown: str
    """What people read."""
    messages: tuple[Message, ...] = ()
    """The conversation up to the answer; empty for plain text."""

    def tokens(self, tokenizer: Any) -> list[int]:
        """Return what the model is given."""
        return encode(tokenizer, self.messages) if self.messages else tokenizer.encode(self.shown)


def prompts_of(config: RunConfig, valid: Sequence[Row]) -> tuple[Prompt, ...]:
    """Return what a run answers: its own prompts, or where it has none some validation rows."""
    if config.sample_prompts:
        return tuple(
            Prompt(text, ({"role": "user", "content": text},)) for text in config.sample_prompts
        )
    found = (prompt for row in valid if (prompt := _prompt_of(row)))
    return tuple(islice(found, config.sample_rows))


def sampling_within(
    wanted: Sampling, answers: AnswerShape, prompt_tokens: int, free_bytes: int
) -> Sampling | None:
    """Return how long an answer may be with this much memory; None when there is none for it.

    Args:
        wanted: the bounds without regard to memory.
        answers: what answers take.
        prompt_tokens: what is in the cache before the answer.
        free_bytes: what the budget leaves.
    """
    most = answers.tokens_within(free_bytes, prompt_tokens, wanted.max_tokens)
    return replace(wanted, max_tokens=most) if most else None


def _prompt_of(row: Row) -> Prompt | None:
    """What a row begins with, up to the first answer."""
    if not row.messages:
        words = row.text.split()
        return Prompt(" ".join(words[:TEXT_WORDS])) if words else None
    before: list[Message] = []
    for message in row.messages:
        if message.get("role") == "assistant":
            break
        before.append({"role": str(message["role"]), "content": str(message["content"])})
    asked = [message["content"] for message in before if message["role"] == "user"]
    return Prompt(asked[-1], tuple(before)) if asked else None
