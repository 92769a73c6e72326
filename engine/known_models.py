"""What models are made of when none of their files is on this machine.

A short table of well-known ones, and the tensors that a ``config.json`` of their families implies.
"""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import TYPE_CHECKING, Any

from engine.shapes import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_QUANTIZED = re.compile(r"mlx-community/(.+)-([48])bit")
_GROUP_SIZE = 64
"""Weights that share a scale in the forms of mlx-community; mlx_lm.convert's own default."""
_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_BIASED = {"q_proj", "k_proj", "v_proj"}


def known_config(name: str) -> dict[str, Any] | None:
    """Return what a well-known model's ``config.json`` says of its shape, or None.

    Args:
        name: its name on the hub; those of mlx-community's 4 and 8-bit forms are known too.
    """
    table = _table()
    if match := _QUANTIZED.fullmatch(name):
        base = next((c for n, c in table.items() if _last(n) == match[1].lower()), None)
        quantization = {"group_size": _GROUP_SIZE, "bits": int(match[2])}
        return base and base | {"quantization": quantization}
    return next((c for n, c in table.items() if n.lower() == name.lower()), None)


def quantized_name(name: str, bits: int = 4) -> str | None:
    """Return mlx-community's quantised form of a well-known model, or None."""
    is_known = any(n.lower() == name.lower() for n in _table())
    return f"mlx-community/{name.rpartition('/')[2]}-{bits}bit" if is_known else None


def _table() -> dict[str, dict[str, Any]]:
    text = resources.files("engine").joinpath("known_models.json").read_text(encoding="utf-8")
    return json.loads(text)


def _last(name: str) -> str:
    return name.rpartition("/")[2].lower()


def tensors_of_config(config: Mapping[str, Any]) -> list[Tensor] | None:
    """Return the tensors of a Llama-like model; None for families that are built otherwise."""
    quantization: Mapping[str, Any] = config.get("quantization") or {}
    mode = quantization.get("mode", "affine")
    if config.get("model_type") not in {"llama", "mistral", "qwen2", "qwen3"} or mode != "affine":
        return None
    named = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    return list(_llama_like(config, _DTYPES.get(str(named), "BF16")))


def _llama_like(config: Mapping[str, Any], dtype: str) -> Iterator[Tensor]:
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    quantization = config.get("quantization")
    yield from _matrix("model.embed_tokens", vocabulary, hidden, dtype, quantization)
    for number in range(config["num_hidden_layers"]):
        yield from _layer(config, f"model.layers.{number}", dtype)
    yield Tensor("model.norm.weight", (hidden,), dtype)
    if not config.get("tie_word_embeddings", True):
        yield from _matrix("lm_head", vocabulary, hidden, dtype, quantization)


def _layer(config: Mapping[str, Any], at: str, dtype: str) -> Iterator[Tensor]:
    family, hidden, heads = (
        config["model_type"],
        config["hidden_size"],
        config["num_attention_heads"],
    )
    width = config.get("head_dim") or hidden // heads
    queries, inner = heads * width, config["intermediate_size"]
    keys = (config.get("num_key_value_heads") or heads) * width
    for name, outputs, inputs in (
        ("self_attn.q_proj", queries, hidden),
        ("self_attn.k_proj", keys, hidden),
        ("self_attn.v_proj", keys, hidden),
        ("self_attn.o_proj", hidden, queries),
        ("mlp.gate_proj", inner, hidden),
        ("mlp.up_proj", inner, hidden),
        ("mlp.down_proj", hidden, inner),
    ):
        yield from _matrix(f"{at}.{name}", outputs, inputs, dtype, config.get("quantization"))
        block, _, last = name.partition(".")
        setting = "attention_bias" if block == "self_attn" else "mlp_bias"
        is_biased = config.get(setting) if family != "qwen2" else last in _BIASED
        if is_biased:
            yield Tensor(f"{at}.{name}.bias", (outputs,), dtype)
    if family == "qwen3":
        yield Tensor(f"{at}.self_attn.q_norm.weight", (width,), dtype)
        yield Tensor(f"{at}.self_attn.k_norm.weight", (width,), dtype)
    for norm in ("input_layernorm", "post_attention_layernorm"):
        yield Tensor(f"{at}.{norm}.weight", (hidden,), dtype)


def _matrix(
    path: str, outputs: int, inputs: int, dtype: str, quantization: Mapping[str, Any] | None
) -> Iterator[Tensor]:
    """A matrix as it is, or as MLX packs it: 32-bit words, and two numbers a group."""
    if not quantization or inputs % (group := quantization["group_size"]):
        yield Tensor(f"{path}.weight", (outputs, inputs), dtype)
        return
    yield Tensor(f"{path}.weight", (outputs, inputs * quantization["bits"] // 32), "U32")
    for leaf in ("scales", "biases"):
        yield Tensor(f"{path}.{leaf}", (outputs, inputs // group), dtype)
