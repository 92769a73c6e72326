"""Lets a model answer, piece by piece: greedy or drawn, within its context and its memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx

from engine.answers import PREFILL_TOKENS
from engine.conversation import Reply
from engine.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    import mlx.nn as nn

    from engine.conversation import Ending, Message, Sampling


def encode(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Return a conversation's tokens up to where the assistant begins.

    A model without a chat template gets the plain contents, one after the other.

    Raises:
        InputError: when the template refuses the conversation.
    """
    if getattr(tokenizer, "chat_template", None) is None:
        return list(tokenizer.encode("\n".join(message["content"] for message in messages)))
    from jinja2 import TemplateError

    try:
        return list(
            tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, return_dict=False
            )
        )
    except TemplateError as error:
        raise InputError(f"The model's chat template refuses this conversation: {error}") from None


def check_length(tokens: int, most: int | None) -> None:
    """Check that a prompt leaves room for an answer.

    Raises:
        InputError: when it does not.
    """
    if most is not None and tokens >= most:
        raise InputError(
            f"The prompt has {tokens:,} tokens, but the model was made for {most:,}.",
            "Shorten it, or begin a new conversation.",
        )


def reply(
    model: nn.Module,
    tokenizer: Any,
    prompt: Sequence[int],
    sampling: Sampling,
    should_stop: Callable[[], bool],
    *,
    max_positions: int | None = None,
) -> Generator[str, None, Reply]:
    """Answer a prompt, yielding text as it comes; MLX's own random state is left alone.

    Args:
        model: with or without adapters; left in training mode if it was.
        tokenizer: mlx-lm's wrapper.
        prompt: its tokens.
        sampling: how to draw.
        should_stop: asked after every token.
        max_positions: where the answer ends at the latest, prompt included.

    Raises:
        InputError: when the prompt is longer than the context, or empty.
    """
    # Not stream_generate: it changes the wired limit, which may stop the whole machine.
    from mlx_lm.generate import generate_step

    if not prompt:
        raise InputError("The prompt is empty.", "Say something for the model to answer.")
    check_length(len(prompt), max_positions)
    most = sampling.max_tokens
    if max_positions is not None:
        most = min(most, max_positions - len(prompt))
    was_training = model.training
    model.eval()
    began = time.perf_counter()
    steps = generate_step(
        mx.array(list(prompt)),
        model,
        max_tokens=most,
        sampler=_sampler(sampling),
        prefill_step_size=PREFILL_TOKENS,
    )
    try:
        tokens = (int(token) for token, _ in steps)
        ending, count = yield from _spoken(
            tokens, tokenizer, should_stop, began + sampling.max_seconds
        )
    finally:
        steps.close()
        model.train(was_training)
    return Reply(ending, len(prompt), count, time.perf_counter() - began)


def _spoken(
    tokens: Iterator[int], tokenizer: Any, should_stop: Callable[[], bool], until: float
) -> Generator[str, None, tuple[Ending, int]]:
    """Yield the text of tokens as they come; return why it ended, and after how many."""
    pieces = tokenizer.detokenizer
    ending: Ending = "length"
    count = 0
    for token in tokens:
        if token in tokenizer.eos_token_ids:
            ending = "end"
            break
        count += 1
        pieces.add_token(token)
        yield from _new(pieces)
        if should_stop() or time.perf_counter() > until:
            ending = "stopped" if should_stop() else "time"
            break
    pieces.finalize()
    yield from _new(pieces)
    return ending, count


def _new(pieces: Any) -> Iterator[str]:
    """What a detokeniser has to say since the last time, if anything."""
    if text := pieces.last_segment:
        yield text


def _sampler(sampling: Sampling) -> Callable[[mx.array], mx.array] | None:
    """Draw with keys of its own; None takes the likeliest."""
    if sampling.temperature == 0:
        return None
    from mlx_lm.sample_utils import apply_top_p

    key = mx.random.key(sampling.seed)

    def draw(logprobs: mx.array) -> mx.array:
        nonlocal key
        key, own = mx.random.split(key)
        if 0 < sampling.top_p < 1:
            logprobs = cast("Any", apply_top_p)(logprobs, sampling.top_p)
        return mx.random.categorical(logprobs * (1 / sampling.temperature), key=own)

    return draw
