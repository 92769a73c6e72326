"""Answers fixed prompts with the model as it is, without touching the run's randomness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlx.core as mx

if TYPE_CHECKING:
    from collections.abc import Callable

    import mlx.nn as nn


def answer(
    model: nn.Module,
    tokenizer: Any,
    prompt: str,
    max_tokens: int,
    should_stop: Callable[[], bool],
) -> str:
    """Return the most likely answer to a prompt, cut at ``max_tokens``.

    Args:
        model: with or without adapters; left in training mode if it was.
        tokenizer: mlx-lm's wrapper; its chat template is used where it has one.
        prompt: what the person says.
        max_tokens: the most that is generated.
        should_stop: asked after every token; what there is by then is returned.
    """
    # Not stream_generate: it changes the wired limit, which may stop the whole machine.
    from mlx_lm.generate import generate_step

    was_training = model.training
    model.eval()
    tokens: list[int] = []
    try:
        steps = generate_step(mx.array(_encode(tokenizer, prompt)), model, max_tokens=max_tokens)
        for token, _ in steps:
            if int(token) in tokenizer.eos_token_ids or should_stop():
                break
            tokens.append(int(token))
    finally:
        model.train(was_training)
    return str(tokenizer.decode(tokens)).strip()


def _encode(tokenizer: Any, prompt: str) -> list[int]:
    if getattr(tokenizer, "chat_template", None) is None:
        return list(tokenizer.encode(prompt))
    messages = [{"role": "user", "content": prompt}]
    return list(
        tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    )
