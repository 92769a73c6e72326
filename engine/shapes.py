"""What a model consists of, told by its tensors' names and shapes: no weight is loaded.

The same reading serves the tensors of a loaded model, of a safetensors header, and those that a
``config.json`` implies.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ITEMSIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "U8": 1, "I8": 1}
FLOATS = ("F64", "F32", "F16", "BF16")
_EMBEDDINGS = {"wte", "wpe", "embeddings", "word_embeddings", "tok_embeddings"}
_LAYER = re.compile(r"(.*?)\.(\d+)\.(.+)")
_EXPERT = re.compile(r"(.+)\.experts\.(\d+)\.(.+)")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's place, form and type."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """As safetensors calls it: F32, BF16, U32…"""

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return self.size * ITEMSIZES.get(self.dtype, 1)


@dataclass(frozen=True, slots=True)
class Linear:
    """A module that holds a matrix: linear, embedding, or one matrix for each expert."""

    path: str
    """Inside its layer, or in the model when it is in none."""
    inputs: int
    outputs: int
    experts: int = 0
    """0 where it is one matrix alone."""
    active: int = 1
    """Experts that work on a position."""
    is_quantized: bool = False
    is_embedding: bool = False

    @property
    def size(self) -> int:
        """Weights, however they are stored."""
        return self.inputs * self.outputs * max(1, self.experts)


@dataclass(frozen=True, slots=True)
class LayerShape:
    """One layer."""

    linears: tuple[Linear, ...]
    tensors: tuple[Tensor, ...]
    """Everything in it, by its name inside the layer."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A model without its weights."""

    prefix: str
    """What a layer's number follows in a tensor's name."""
    layers: tuple[LayerShape, ...]
    outside: tuple[Linear, ...]
    """Embeddings and head, by their whole name."""
    base_bytes: int
    parameters: int
    hidden: int
    vocabulary: int
    heads: int
    head_width: int
    itemsize: int
    """Bytes of an activation's element."""
    dtype: str
    max_positions: int | None = None
    key_heads: int = 0
    """Heads whose keys and values are kept for each token."""


def shape_of(
    tensors: Iterable[Tensor], config: Mapping[str, Any], dtype: str | None = None
) -> ModelShape:
    """Read a model's shape.

    Args:
        tensors: all of its tensors.
        config: what its ``config.json`` says.
        dtype: the type that floating-point tensors are cast to; None leaves them as they are.
    """
    text = cast("Mapping[str, Any]", config.get("text_config") or config)
    kept = sorted((_cast(t, dtype) for t in _sanitized(tensors, text)), key=lambda t: t.name)
    prefix, numbered, outside = _by_layer(kept)
    quantization = cast("Mapping[str, Any]", config.get("quantization") or {})
    active = _number(text, "num_experts_per_tok", "num_experts_per_token", "top_k_experts") or 1
    layers = tuple(
        LayerShape(_linears(ts, quantization, f"{prefix}.{n}.", active), tuple(ts))
        for n, ts in sorted(numbered.items())
    )
    others = _linears(outside, quantization, "", active)
    heads = _number(text, "num_attention_heads", "n_head", "n_heads", "num_heads") or 1
    hidden = _number(text, "hidden_size", "n_embd", "d_model", "dim") or 0
    narrow = [t.dtype for ts in numbered.values() for t in ts if _is_vector(t)]
    kind = narrow[0] if narrow else next((t.dtype for t in kept if t.dtype in FLOATS), "F32")
    return ModelShape(
        prefix=prefix,
        layers=layers,
        outside=others,
        base_bytes=sum(t.nbytes for t in kept),
        parameters=_parameters(kept, (*others, *(m for x in layers for m in x.linears)), prefix),
        hidden=hidden,
        vocabulary=_number(text, "vocab_size", "num_vocab") or 0,
        heads=heads,
        head_width=_number(text, "head_dim") or hidden // heads,
        itemsize=ITEMSIZES[kind],
        dtype=kind,
        max_positions=_number(text, "max_position_embeddings", "n_positions"),
        key_heads=_number(text, "num_key_value_heads") or heads,
    )


def _number(config: Mapping[str, Any], *names: str) -> int | None:
    return next((v for n in names if isinstance(v := config.get(n), int)), None)


def _is_vector(tensor: Tensor) -> bool:
    """Whether it is a norm or a bias: these have the type that the layer computes in."""
    is_scale = tensor.name.endswith((".scales", ".biases"))
    return len(tensor.shape) == 1 and tensor.dtype in FLOATS and not is_scale


def _cast(tensor: Tensor, dtype: str | None) -> Tensor:
    return replace(tensor, dtype=dtype) if dtype and tensor.dtype in FLOATS else tensor


def _sanitized(tensors: Iterable[Tensor], config: Mapping[str, Any]) -> list[Tensor]:
    """Leave out and put together what mlx-lm does when it loads files of the hub."""
    experts: dict[str, list[Tensor]] = {}
    kept: list[Tensor] = []
    is_tied = config.get("tie_word_embeddings") is True
    for tensor in tensors:
        if tensor.name.endswith("rotary_emb.inv_freq"):
            continue
        if is_tied and tensor.name.startswith("lm_head."):
            continue
        if match := _EXPERT.fullmatch(tensor.name):
            experts.setdefault(f"{match[1]}.switch_mlp.{match[3]}", []).append(tensor)
        else:
            kept.append(tensor)
    stacked = (replace(t[0], name=n, shape=(len(t), *t[0].shape)) for n, t in experts.items())
    return [*kept, *stacked]


def _by_layer(tensors: list[Tensor]) -> tuple[str, dict[int, list[Tensor]], list[Tensor]]:
    """Split into layers and the rest; of several stacks of layers the heaviest is the model's."""
    stacks: dict[str, dict[int, list[Tensor]]] = {}
    for tensor in tensors:
        if match := _LAYER.fullmatch(tensor.name):
            stack = stacks.setdefault(match[1], {})
            stack.setdefault(int(match[2]), []).append(replace(tensor, name=match[3]))
    weights = {p: sum(t.nbytes for ts in s.values() for t in ts) for p, s in stacks.items()}
    prefix = max(weights, key=lambda p: weights[p], default="")
    own = stacks.get(prefix, {})
    return prefix, own, [t for t in tensors if not _LAYER.fullmatch(t.name)]


def _linears(
    tensors: Iterable[Tensor], quantization: Mapping[str, Any], above: str, active: int
) -> tuple[Linear, ...]:
    modules: dict[str, dict[str, Tensor]] = {}
    for tensor in tensors:
        path, _, leaf = tensor.name.rpartition(".")
        modules.setdefault(path, {})[leaf] = tensor
    found: list[Linear] = []
    for path, leaves in modules.items():
        weight = leaves.get("weight")
        name = path.rpartition(".")[2]
        if weight is None or len(weight.shape) not in {2, 3} or "conv" in name:
            continue
        inputs = weight.shape[-1]
        if scales := leaves.get("scales"):
            inputs = scales.shape[-1] * _group_size(quantization, above + path)
        is_embedding = "embed" in name or name in _EMBEDDINGS
        experts = weight.shape[0] if len(weight.shape) == 3 else 0
        found.append(
            Linear(
                path=path,
                # An embedding's matrix is looked up row by row.
                inputs=weight.shape[-2] if is_embedding else inputs,
                outputs=inputs if is_embedding else weight.shape[-2],
                experts=experts,
                active=min(active, experts) if experts else 1,
                is_quantized=scales is not None,
                is_embedding=is_embedding,
            )
        )
    return tuple(found)


def _group_size(quantization: Mapping[str, Any], path: str) -> int:
    own = quantization.get(path)
    given = cast("Mapping[str, Any]", own) if isinstance(own, dict) else quantization
    return int(given.get("group_size") or quantization.get("group_size") or 64)


def _parameters(tensors: list[Tensor], linears: Iterable[Linear], prefix: str) -> int:
    """Count weights; a quantised matrix counts as the one that it stands for."""
    packed = {"weight", "scales", "biases"}
    quantized = {
        t.name.removesuffix(".scales") for t in tensors if t.name.endswith(".scales") and prefix
    }
    plain = sum(
        t.size
        for t in tensors
        if not (t.name.rpartition(".")[0] in quantized and t.name.rpartition(".")[2] in packed)
    )
    return plain + sum(linear.size for linear in linears if linear.is_quantized)
