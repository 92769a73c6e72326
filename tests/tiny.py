"""A model of a few thousand random weights, and data to go with it, made at once and without MLX.

``python -m tests.tiny FOLDER`` makes both in a folder, as ``model`` and ``data``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    from collections.abc import Sequence

LAYERS, HIDDEN, INTERMEDIATE, HEADS, KEY_HEADS = 2, 32, 64, 4, 2
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOWNS = ("Paris", "Madrid", "Rome", "Bern", "Oslo", "Vienna", "Lisbon", "Athens")


def make_tiny_model(folder: Path, **changes: Any) -> Path:
    """Make a Qwen2 of two layers with its own tokenizer, as a Hugging Face folder.

    Args:
        folder: where it goes; made if it is not there.
        changes: what differs in ``config.json``; the weights follow its sizes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "clean_up_tokenization_spaces": False,
            "chat_template": CHATML,
        },
    )
    vocabulary = tokenizer.get_vocab_size()
    config: dict[str, Any] = {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "vocab_size": vocabulary,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
    } | changes
    _write_json(folder / "config.json", config)
    save_file(_weights(config), folder / "model.safetensors", {"format": "mlx"})
    return folder


def make_tiny_data(folder: Path, train: int = 16, valid: int = 4) -> Path:
    """Write chat rows about capitals."""
    for name, count in (("train", train), ("valid", valid)):
        towns = (TOWNS[i % len(TOWNS)] for i in range(count))
        rows = [chat_row(f"What do you know of {town}?", f"{town} is a town.") for town in towns]
        write_rows(folder / f"{name}.jsonl", rows)
    return folder


def chat_row(question: str, reply: str) -> dict[str, Any]:
    """Return a row of one question and one answer."""
    turns = (("user", question), ("assistant", reply))
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def write_rows(path: Path, rows: Sequence[object]) -> Path:
    """Write rows, or lines that are ready, as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def _tokenizer() -> Tokenizer:
    """A byte-level BPE with a token for every byte and a few merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        show_progress=False,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    text = "What do you know of Paris? Paris is a town. user assistant"
    tokenizer.train_from_iterator([text] * 20, trainer)
    return tokenizer


def _weights(config: dict[str, Any]) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    rng = np.random.default_rng(0)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    layers, head = config["num_hidden_layers"], hidden // config["num_attention_heads"]
    keys = config["num_key_value_heads"] * head
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden)
    }
    for layer in range(layers):
        at = f"model.layers.{layer}"
        for name, outputs in (("q", hidden), ("k", keys), ("v", keys)):
            shapes[f"{at}.self_attn.{name}_proj.weight"] = (outputs, hidden)
            shapes[f"{at}.self_attn.{name}_proj.bias"] = (outputs,)
        shapes[f"{at}.self_attn.o_proj.weight"] = (hidden, hidden)
        shapes[f"{at}.mlp.gate_proj.weight"] = (inner, hidden)
        shapes[f"{at}.mlp.up_proj.weight"] = (inner, hidden)
        shapes[f"{at}.mlp.down_proj.weight"] = (hidden, inner)
    weights = {
        name: (0.1 * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in shapes.items()
    }
    norms = [f"model.layers.{i}.{place}" for i in range(layers) for place in _NORMS]
    for name in ("model.norm", *norms):
        weights[f"{name}.weight"] = np.ones(hidden, np.float32)
    return weights


_NORMS = ("input_layernorm", "post_attention_layernorm")


if __name__ == "__main__":
    make_tiny_model(Path(sys.argv[1]) / "model")
    make_tiny_data(Path(sys.argv[1]) / "data")
