"""What an answer takes of memory: the key-value cache, and the pass that fills it. No MLX."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.config import RunConfig
    from engine.events import MemoryPlan
    from engine.lengths import Lengths
    from engine.shapes import LayerShape, ModelShape

CACHE_TOKENS = 256
"""mlx-lm's key-value caches grow by so many tokens at once."""
PREFILL_TOKENS = 512
"""Prompt tokens evaluated at once: four times less memory than mlx-lm's own 2,048."""
TEMPLATE_TOKENS = 32
"""What a chat template puts around a prompt, a system turn of its own included."""
FEWEST_CHARACTERS = 2.8
"""Characters of a prompt's token, with a small vocabulary or another language."""
EAGER_ARRAYS = 7
"""Uncompiled, MLX makes arrays ahead of what is computed: so many of the widest output."""
LOGIT_BYTES = 16
"""Of each token that might come next: its logit and what sampling makes of it."""


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """What decides the size of an answer's arrays."""

    layers: int
    token_bytes: int
    """What a layer's cache takes for a token; layers that keep windows or states take less."""
    position_bytes: int
    """What a layer makes for a position of the prompt."""
    heads: int
    vocabulary: int
    itemsize: int
    """Bytes of an activation's element."""
    is_eager: bool
    """Whether nothing is compiled or fused, as on a CPU."""

    def cache_bytes(self, tokens: int) -> int:
        """Return what the key-value cache takes for so many tokens of prompt and answer."""
        whole = -(-tokens // CACHE_TOKENS) * CACHE_TOKENS
        return self.layers * self.token_bytes * whole

    def needed_bytes(self, prompt_tokens: int, answer_tokens: int) -> int:
        """Return the most that an answer takes at once, beside the weights.

        While the prompt is read, its cache and one layer's pass over a part of it; then the whole
        cache, and one layer's once more as it grows. Measured on a CPU with tiny models in float32
        and float16, prompts of 10 to 1,500 tokens: never more, at most 40 % less.
        """
        at_once = min(prompt_tokens, PREFILL_TOKENS)
        reading = at_once * self.position_bytes
        if self.is_eager:
            # The scores, and which of them count.
            reading += at_once * prompt_tokens * (self.heads * self.itemsize + 1)
        cache = self.cache_bytes(prompt_tokens + answer_tokens)
        speaking = cache + cache // max(self.layers, 1) + LOGIT_BYTES * self.vocabulary
        return max(self.cache_bytes(prompt_tokens) + reading, speaking)

    def tokens_within(self, free_bytes: int, prompt_tokens: int, wanted: int) -> int:
        """Return how long an answer may be, 0 where there is no room for one."""
        if self.needed_bytes(prompt_tokens, wanted) <= free_bytes:
            return wanted
        end = (prompt_tokens + wanted) // CACHE_TOKENS * CACHE_TOKENS
        while end > prompt_tokens:
            if self.needed_bytes(prompt_tokens, end - prompt_tokens) <= free_bytes:
                return end - prompt_tokens
            end -= CACHE_TOKENS
        return 0


def answer_shape(model: ModelShape, *, is_eager: bool) -> AnswerShape:
    """Return what decides the size of an answer's arrays; its adapter may be on any module."""
    made = (_position_bytes(x, model.itemsize, is_eager=is_eager) for x in model.layers)
    return AnswerShape(
        layers=len(model.layers),
        token_bytes=2 * model.key_heads * model.head_width * model.itemsize,
        position_bytes=max(made, default=0),
        heads=model.heads,
        vocabulary=model.vocabulary,
        itemsize=model.itemsize,
        is_eager=is_eager,
    )


def _position_bytes(layer: LayerShape, itemsize: int, *, is_eager: bool) -> int:
    """Every module's output, and LoRA's own arrays, in float32, of the widest."""
    modules = [m for m in layer.linears if not m.is_embedding]
    widest = max((m.outputs * m.active for m in modules), default=0)
    copies = 4 if itemsize < 4 else 0
    adapted = max((m.active * (m.inputs * copies + m.outputs * 4) for m in modules), default=0)
    total = sum(m.outputs * m.active * itemsize for m in modules) + adapted
    return total + (EAGER_ARRAYS * 4 * widest if is_eager else 0)


def guessed_prompt_tokens(config: RunConfig, lengths: Lengths) -> int:
    """Return how long the longest prompt of a run's samples may be; 0 where none are asked."""
    if config.sample_prompts:
        longest = max(map(len, config.sample_prompts))
        return round(longest / FEWEST_CHARACTERS) + TEMPLATE_TOKENS
    return min(max(lengths.high), config.max_seq_length) if config.sample_rows else 0


def with_samples(plan: MemoryPlan, needed_bytes: int) -> MemoryPlan:
    """Return a plan with what samples need beyond a step, for which the plan stands without them.

    They are answered between steps, when of the gradients only those summed up so far are there.
    """
    step = plan.peak - plan.data - plan.samples
    return replace(plan, samples=max(0, held_bytes(plan) + needed_bytes - step))


def held_bytes(plan: MemoryPlan) -> int:
    """Return what a run holds between two steps, its tokens left out: MLX does not count them."""
    return plan.base + plan.optimizer + plan.gradients
