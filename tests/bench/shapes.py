"""Models with random weights in the true shapes of known ones, so that no download is needed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

if TYPE_CHECKING:
    from collections.abc import Callable

_QWEN = {"model_type": "qwen2", "rms_norm_eps": 1e-6, "rope_theta": 1e6, "vocab_size": 151936}
SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-0.5b": _QWEN
    | {
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "intermediate_size": 4864,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "qwen2.5-1.5b": _QWEN
    | {
        "hidden_size": 1536,
        "num_hidden_layers": 28,
        "intermediate_size": 8960,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "qwen2.5-3b": _QWEN
    | {
        "hidden_size": 2048,
        "num_hidden_layers": 36,
        "intermediate_size": 11008,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "llama-3.2-1b": {
        "model_type": "llama",
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "intermediate_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 5e5,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
    "smollm2-135m": {
        "model_type": "llama",
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e5,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
    "tiny": {
        "model_type": "llama",
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "intermediate_size": 384,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e4,
        "vocab_size": 1024,
        "tie_word_embeddings": True,
    },
}
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KEYS = [f"self_attn.{p}" for p in PROJECTIONS[:4]] + [f"mlp.{p}" for p in PROJECTIONS[4:]]


def build(name: str, dtype: mx.Dtype, bits: int = 0, group_size: int = 64) -> nn.Module:
    """Return a frozen model of a named shape; ``bits`` of 4 or 8 quantises it."""
    module = importlib.import_module(f"mlx_lm.models.{SHAPES[name]['model_type']}")
    model = module.Model(
        module.ModelArgs.from_dict(SHAPES[name] | {"max_position_embeddings": 32768})
    )
    mx.random.seed(0)
    fill: Callable[[mx.array], mx.array] = lambda a: (  # noqa: E731 - as short as its name
        (mx.random.normal(a.shape) * 0.02).astype(dtype) if a.ndim > 1 else a.astype(dtype)
    )
    model.update(tree_map(fill, model.parameters()))
    # One at a time: evaluated together, the float32 draws would be alive at once.
    for _, module in model.named_modules():
        mx.eval([a for a in module.values() if isinstance(a, mx.array)])
    if bits:
        nn.quantize(model, group_size=group_size, bits=bits)
        mx.eval(model.parameters())
    model.freeze()
    return model
