"""A small real tokenizer, and chat templates that treat the past differently."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from engine.data.formats import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Like Qwen3: a turn that lies in the past has lost its thinking, the last one always has some.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}"
    "{% if loop.last %}<think>{{ m.content.split('</think>')[0] if '</think>' in m.content }}"
    "</think>{% endif %}{{ m.content.split('</think>')[-1] }}"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Shows nothing of the assistant's turns before the last.
FORGETFUL = (
    "{% for m in messages %}{% if m.role == 'user' or loop.last %}<|im_start|>{{ m.role }}\n"
    "{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def byte_pairs() -> Tokenizer:
    """A byte-level BPE of about 300 tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        show_progress=False,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    text = "What is the capital of France? The capital of France is Paris. And of Spain? Madrid."
    tokenizer.train_from_iterator([text] * 20, trainer)
    return tokenizer


@pytest.fixture
def tokenizer_with(byte_pairs: Tokenizer) -> Callable[[str | None], Any]:
    """Makes a transformers tokenizer with the given chat template."""

    def make(template: str | None) -> PreTrainedTokenizerFast:
        return PreTrainedTokenizerFast(
            tokenizer_object=byte_pairs,
            eos_token="<|endoftext|>",
            pad_token="<|endoftext|>",
            chat_template=template,
        )

    return make


@pytest.fixture
def tokenizer(tokenizer_with: Callable[[str | None], Any]) -> Any:
    """The small tokenizer with a ChatML template."""
    return tokenizer_with(CHATML)


@pytest.fixture
def chat(tmp_path: Path) -> Callable[..., Row]:
    """Makes a chat row of line 7 from roles' first letters and contents."""
    roles = {"s": "system", "u": "user", "a": "assistant"}

    def make(*turns: str) -> Row:
        messages = tuple({"role": roles[t[0]], "content": t[2:]} for t in turns)
        return Row("chat", tmp_path / "train.jsonl", 7, messages)

    return make


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[[str, Sequence[object]], Path]:
    """Writes rows (or ready lines) into a file of the data folder ``tmp_path / "data"``."""

    def write(name: str, rows: Sequence[object]) -> Path:
        path = tmp_path / "data" / name
        path.parent.mkdir(exist_ok=True)
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write
