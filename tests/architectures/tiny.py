"""Builds every architecture of mlx-lm with four small layers and random weights.

The modules of ``mlx_lm.models`` are walked, and each one's arguments are filled by the names of
their fields. Only where names cannot tell are there a few words per architecture.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from functools import cache
from typing import Any, get_origin, get_type_hints

import mlx.core as mx
import mlx.nn as nn
import mlx_lm.models
import numpy as np
from mlx.utils import tree_map
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.tuner.utils import linear_to_lora_layers

from engine.trees import flatten

LAYERS = 4
VOCABULARY = 96
WINDOW = 4
"""Positions that a sliding window sees: fewer than the tests' rows have."""


def _each(names: str, value: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), value)


SIZES: dict[str, Any] = {
    # width, depth, heads
    **_each("hidden_size hidden_dim d_model n_embd model_dim block_dim", 32),
    **_each("num_hidden_layers num_layers n_layers n_layer num_transformer_layers", LAYERS),
    **_each("num_attention_heads num_heads n_heads n_head", 4),
    **_each("num_key_value_heads num_kv_heads n_kv_heads num_attention_groups", 2),
    **_each("head_dim hidden_size_per_head global_head_dim kv_channels", 8),
    **_each("vocab_size num_vocab vocab_size_per_layer_input", VOCABULARY),
    **_each("intermediate_size intermediate_size_mlp ffn_hidden_size n_inner block_ff_dim", 48),
    **_each("max_position_embeddings n_positions n_ctx model_max_length block_size", 64),
    **_each("original_max_position_embeddings", 64),
    # latent attention
    **_each("q_lora_rank kv_lora_rank qk_head_dim index_head_dim", 16),
    **_each("o_lora_rank qk_rope_head_dim qk_nope_head_dim v_head_dim", 8),
    **_each("o_groups index_n_heads", 2),
    **_each("index_topk", 4),
    # windows
    **_each("sliding_window sliding_window_size attention_window_size window_size", WINDOW),
    **_each("attention_chunk_size loop_window_size", WINDOW),
    **_each("sliding_window_pattern", 2),
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    # experts
    **_each("num_experts num_local_experts n_routed_experts moe_num_experts", 4),
    **_each("num_experts_per_tok num_experts_per_token top_k_experts", 2),
    **_each("moe_topk moe_top_k moe_k", 2),
    **_each("moe_intermediate_size moe_shared_expert_intermediate_size", 16),
    **_each("shared_expert_intermediate_size shared_intermediate_size", 16),
    **_each("expert_ffn_hidden_size share_expert_dim", 16),
    **_each("n_shared_experts num_shared_experts moe_num_shared_experts", 1),
    **_each("first_k_dense_replace num_dense_layers moe_layer_freq decoder_sparse_step", 1),
    **_each("n_group topk_group num_expert_group", 1),
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    # recurrences
    **_each("state_size ssm_state_size mamba_d_state mamba_d_head mamba_head_dim", 8),
    **_each("mamba_d_conv conv_kernel conv_L_cache linear_conv_kernel_dim", 3),
    **_each("mamba_n_heads mamba_num_heads linear_num_value_heads", 4),
    **_each("mamba_n_groups n_groups linear_num_key_heads full_attention_interval", 2),
    **_each("linear_key_head_dim linear_value_head_dim", 8),
    **_each("a_low_rank_dim v_low_rank_dim gate_low_rank_dim decay_low_rank_dim", 8),
    # scalars
    **_each("rms_norm_eps layer_norm_eps layer_norm_epsilon layernorm_epsilon", 1e-5),
    **_each("norm_eps norm_epsilon", 1e-5),
    **_each("rope_theta rotary_emb_base swa_rope_theta rope_embedding_base", 10000.0),
    **_each("partial_rotary_factor routed_scaling_factor", 1.0),
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
"""Values by the name of the field."""

YARN = {
    "type": "yarn",
    "factor": 2.0,
    "original_max_position_embeddings": 64,
    "mscale_all_dim": 1.0,
}
LLAMA4_ROPE = {
    "rope_theta": 10000.0,
    "llama_4_scaling_beta": 0.1,
    "original_max_position_embeddings": 8,
    "rope_type": "default",
}
KIMI = {
    "num_heads": 4,
    "head_dim": 8,
    "short_conv_kernel_size": 3,
    "kda_layers": [1, 3],
    "full_attn_layers": [2, 4],
}
HUNYUAN = {"alpha": 1000.0, "factor": 1.0, "type": "dynamic"}
LFM2 = {
    "layer_types": ["conv", "full_attention"] * 2,
    "conv_bias": False,
    "block_multiple_of": 16,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": False,
}
GEMMA4 = {"num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8}

LEFT_ALONE = {
    "gemma3n": ("correction_coefs", "prediction_coefs"),
    "kimi_k3": ("self_attention_res_proj", "mlp_res_proj"),
    "prism_hadamard_qwen35": ("up_proj",),
}
"""Modules that mlx-lm cannot adapt, or whose weights the model itself reads."""

SPECIAL: dict[str, dict[str, Any]] = {
    "baichuan_m1": {"sliding_window_layers": [1, 3], "conv_window": 2},
    "dbrx": {
        "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
    },
    "deepseek_v2": {"rope_scaling": YARN},
    "exaone4": {"sliding_window_pattern": "LLLG", "rope_scaling": None},
    "exaone_moe": {"is_moe_layer": [False, True, True, True]},
    "falcon_h1": {"mamba_d_ssm": 32, "ssm_multipliers": [0.35, 0.25, 0.35, 0.5, 0.35]},
    "gemma3n": {
        "text_config": {
            "num_kv_shared_layers": 2,
            "rope_local_base_freq": 10000.0,
            "final_logit_softcapping": 30.0,
            "activation_sparsity_pattern": [0.5, 0.5, 0.0, 0.0],
            "hidden_size_per_layer_input": 8,
            "altup_num_inputs": 2,
            "altup_coef_clip": 120.0,
            "altup_correct_scale": True,
            "altup_active_idx": 0,
            "laurel_rank": 8,
        }
    },
    "gemma4": {"text_config": GEMMA4},
    "gemma4_text": GEMMA4,
    "glm4_moe": {"rope_scaling": None},
    "glm_moe_dsa": {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}},
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "hunyuan": {"cla_share_factor": 2, "use_cla": True, "rope_scaling": HUNYUAN},
    "jamba": {"layers_block_type": ["mamba", "attention"] * 2, "mamba_expand": 2},
    "kimi_k3": {
        "text_config": {
            "hidden_act": "situ",
            "linear_attn_config": KIMI,
            "attn_res_block_size": 2,
        }
    },
    "kimi_linear": {"linear_attn_config": KIMI},
    "lfm2-vl": {"text_config": LFM2},
    "llama4": {
        "text_config": {
            "attention_bias": False,
            "interleave_moe_layer_step": 2,
            "rope_scaling": None,
            "use_qk_norm": True,
            "num_experts_per_tok": 1,
        }
    },
    "llama4_text": {"no_rope_layers": [1, 1, 1, 0]},
    "lille-130m": {"n_embd": 64},
    "longcat_flash": {
        "mla_scale_q_lora": True,
        "mla_scale_kv_lora": True,
        "zero_expert_type": "identity",
    },
    "longcat_flash_ngram": {"mla_scale_q_lora": True, "mla_scale_kv_lora": True},
    "mamba2": {"time_step_limit": (0.0, 100.0), "time_step_rank": "auto"},
    "mellum": {
        "rope_parameters": {
            "sliding_attention": {"rope_theta": 10000.0},
            "full_attention": {"rope_theta": 100000.0},
        }
    },
    "mimo_v2_flash": {"hybrid_layer_pattern": [0, 1, 0, 1], "moe_layer_freq": [0, 1, 1, 1]},
    "minicpm3": {"rope_scaling": {"original_max_position_embeddings": 64}},
    "minimax_m3_vl": {"text_config": {"moe_layer_freq": [0, 1, 1, 1]}},
    "ministral3": {"rope_parameters": LLAMA4_ROPE},
    "mistral4": {"rope_parameters": LLAMA4_ROPE},
    "muse_spark": {
        "text_config": {
            "post_norm_eps": 1e-8,
            "rope_parameters": {"rope_theta": 10000.0},
            "layer_rope_theta": [10000.0, 0.0] * 2,
            "final_logit_softcapping": 30.0,
            "output_multiplier": 0.5,
            "moe_hidden_size": 16,
            "num_shared_experts": 0,
        }
    },
    "nemotron-nas": {
        "block_configs": [
            {"attention": {"n_heads_in_group": 2}, "ffn": {"ffn_mult": 1.0}},
            {"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.0}},
            {"attention": {"replace_with_linear": True}, "ffn": {"no_op": True}},
            {"attention": {"n_heads_in_group": 4}, "ffn": {"replace_with_linear": True}},
        ]
    },
    "nemotron_h": {"layers_block_type": ["mamba", "attention", "moe", "mlp"]},
    "olmo_hybrid": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "openelm": {
        "ffn_dim_divisor": 16,
        "num_query_heads": [4, 4, 8, 8],
        "num_kv_heads": [2, 2, 4, 4],
        "ffn_multipliers": [1.0, 1.5, 2.0, 2.0],
    },
    "phi3small": {"vocab_size": 100352},
    "phixtral": {"rotary_dim": 4},
    "plamo": {"n_shared_head": 2},
    "prism_hadamard_qwen35": {
        "tensor_namespace": "mlx-vlm-qwen3_5",
        "quantization": {"bits": 2, "group_size": 128, "mode": "affine"},
        "modules": [
            {
                "path": "model.layers.1.mlp.up_proj",
                "embedding": False,
                "dtype": "float16",
                "block": 0,
            }
        ],
        "text_config": {"hidden_size": 128, "num_experts": 0},
    },
    "qwen3_vl_moe": {"text_config": {"mlp_only_layers": [], "norm_topk_prob": True}},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "spark2_5": {
        "hidden_act": "gelu",
        "rope_parameters": {
            "sliding_attention": {"rope_theta": 10000.0},
            "full_attention": {"rope_theta": 100000.0},
        },
    },
}
"""What names cannot tell, by architecture."""


@cache
def walk() -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the names of mlx-lm's architectures, and why each other module is none."""
    found: list[str] = []
    others: dict[str, str] = {}
    for info in pkgutil.iter_modules(mlx_lm.models.__path__):
        try:
            module = importlib.import_module(f"mlx_lm.models.{info.name}")
        except SystemExit:
            others[info.name] = "asks for a package that is not installed, and exits"
            continue
        if hasattr(module, "Model") and hasattr(module, "ModelArgs"):
            found.append(info.name)
        else:
            others[info.name] = "holds no model"
    return tuple(found), others


def arguments(name: str, **sizes: Any) -> dict[str, Any]:
    """Return an architecture's arguments as its ``config.json`` would hold them.

    Args:
        name: the architecture's.
        sizes: what is to differ.
    """
    module = importlib.import_module(f"mlx_lm.models.{name}")
    special = SPECIAL.get(name, {}) | sizes
    types = get_type_hints(module.ModelArgs)
    values: dict[str, Any] = {"model_type": name}
    for field in dataclasses.fields(module.ModelArgs):
        if field.name == "text_config":
            values["text_config"] = SIZES | {"model_type": name} | special.get("text_config", {})
        elif field.name in special:
            values[field.name] = special[field.name]
        elif field.name in SIZES:
            values[field.name] = SIZES[field.name]
        elif field.name not in values and _is_required(field):
            values[field.name] = _by_type(types[field.name])
    return values


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _by_type(kind: Any) -> Any:
    by_type: dict[Any, Any] = {bool: False, int: 2, float: 1.0, str: "", list: []}
    return by_type[get_origin(kind) or kind]


def build(name: str, **sizes: Any) -> Any:
    """Build a small model in float32 with random weights; see ``arguments``."""
    module = importlib.import_module(f"mlx_lm.models.{name}")
    mx.random.seed(0)
    model = module.Model(module.ModelArgs.from_dict(arguments(name, **sizes)))
    rng = np.random.default_rng(0)

    def noisy(array: mx.array) -> mx.array:
        """No weight stays at a neutral zero or one."""
        if not mx.issubdtype(array.dtype, mx.floating):
            return array
        noise = rng.standard_normal(array.shape, np.float32)
        return array.astype(mx.float32) + 0.1 * mx.array(noise)

    model.update(tree_map(noisy, model.parameters()))
    mx.eval(model.parameters())
    return model


def adapt(
    model: Any,
    *,
    layers: int = -1,
    dropout: float = 0.0,
    dora: bool = False,
    left_alone: tuple[str, ...] = (),
    full: bool = False,
) -> Any:
    """Attach mlx-lm's adapters with random weights; where none fits, train the layers themselves.

    Args:
        model: a model.
        layers: how many of the last layers; all by default.
        dropout: the adapters'.
        dora: whether to use DoRA.
        left_alone: names of modules that get no adapter.
        full: whether to train the layers themselves instead.
    """
    model.freeze()
    model.train()
    if full:
        for layer in model.layers:
            layer.unfreeze()
        return model
    # Left to itself mlx-lm meets modules that it cannot adapt, or whose weights the model reads.
    keys = [path for path in _adaptable(model) if path.rsplit(".", 1)[-1] not in left_alone]
    config = {"rank": 3, "scale": 2.0, "dropout": dropout, "keys": keys}
    linear_to_lora_layers(model, layers, config, use_dora=dora)
    rng = np.random.default_rng(1)
    weights = [
        (path, mx.array(0.1 * rng.standard_normal(array.shape, np.float32)))
        for path, array in flatten(model.trainable_parameters()).items()
        if "lora" in path
    ]
    model.load_weights(weights, strict=False)
    return model if weights else adapt(model, full=True)


def _adaptable(model: Any) -> set[str]:
    kinds = (nn.Linear, nn.QuantizedLinear, SwitchLinear, QuantizedSwitchLinear, nn.Embedding)
    return {
        path
        for layer in model.layers
        for path, module in layer.named_modules()
        if isinstance(module, kinds) or hasattr(module, "to_lora")
    }


def quantise(model: Any, bits: int, group: int, mode: str = "affine") -> Any:
    """Quantise all modules whose width the groups divide."""

    def fits(path: str, module: Any) -> bool:
        del path
        return hasattr(module, "to_quantized") and module.weight.shape[-1] % group == 0

    nn.quantize(
        model,
        group,
        bits,
        mode=mode,
        class_predicate=fits,
    )
    return model
