"""Answers one prompt with any adapter, or with its base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.prepare import eager_on_cpu
from engine.reply import encode, reply
from engine.use.chosen import base_files, other_base
from engine.use.evaluate import Note
from engine.use.wardrobe import Wardrobe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.conversation import Message, Reply, Sampling
    from engine.use.chosen import Chosen


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
    files = base_files(chosen)
    yield Note(f"loading {files.path.name}")
    with eager_on_cpu():
        wardrobe = Wardrobe.load(chosen.config, files)
        if not is_base:
            if warning := other_base(chosen, files):
                yield Note(warning, is_warning=True)
            wardrobe.put_on(chosen)
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
