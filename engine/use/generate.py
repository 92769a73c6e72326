"""Answers one prompt with any adapter, or with its base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.prepare import eager_on_cpu
from engine.reply import encode, reply
from engine.use.chosen import base_files
from engine.use.wardrobe import dressed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.conversation import Message, Reply, Sampling
    from engine.use.chosen import Chosen
    from engine.use.worker import Note


def generate(
    chosen: Chosen,
    messages: Sequence[Message],
    sampling: Sampling,
    should_stop: Callable[[], bool],
    *,
    is_base: bool = False,
    is_raw: bool = False,
) -> Iterator[Note | str | Reply]:
    """Answer; yields what goes on, then the answer's pieces, then what it took.

    Args:
        chosen: the adapter.
        messages: the conversation so far.
        sampling: how to draw.
        should_stop: asked after every token.
        is_base: whether the base alone answers.
        is_raw: whether the chat template is left out.

    Raises:
        InputError: when base and adapter do not fit together, or the prompt is too long.
    """
    with eager_on_cpu():
        wardrobe = yield from dressed(chosen, base_files(chosen), is_base=is_base)
        tokenizer = wardrobe.tokenizer
        if is_raw:
            prompt = list(tokenizer.encode("\n".join(m["content"] for m in messages)))
        else:
            prompt = encode(tokenizer, messages)
        pieces = reply(
            wardrobe.model,
            tokenizer,
            prompt,
            sampling,
            should_stop,
            max_positions=wardrobe.max_positions,
        )
        yield (yield from pieces)
