"""Which arrays a configuration trains, and what they and their optimiser take: exact."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError
from engine.shapes import FLOATS, ITEMSIZES, LayerShape, Linear, ModelShape, Tensor
from engine.tensors import ALIGNMENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.config import RunConfig

SCALAR_STATE_BYTES = 12
"""Every optimiser's learning rate (float32) and step (uint64)."""
_MOMENTS = {"adam": 2, "adamw": 2, "muon": 1, "sgd": 1}
"""Arrays of a parameter's size that MLX's optimisers hold for it."""


def first_trained_layer(model: ModelShape, config: RunConfig) -> int:
    """Return the number of the first layer that is trained; the number of layers when none is.

    mlx-lm takes ``layers[-max(num_layers, 0):]``, so that both -1 and 0 mean all of them.
    """
    wanted = max(config.num_layers, 0)
    return len(model.layers) - wanted if 0 < wanted <= len(model.layers) else 0


def adapted_linears(layer: LayerShape, keys: set[str] | None) -> tuple[Linear, ...]:
    """Return the modules of a trained layer that get adapters; None means every one."""
    return tuple(m for m in layer.linears if keys is None or m.path in keys)


def adapter_keys(config: RunConfig) -> set[str] | None:
    """Return the names of the modules to adapt; None means every linear module in a layer."""
    keys = config.lora_parameters.keys
    return None if keys is None else set(keys)


def trained_tensors(model: ModelShape, config: RunConfig) -> tuple[Tensor, ...]:
    """Return every trained array under the name that its checkpoint has it.

    Raises:
        ConfigError: when nothing would be trained, or a rank is larger than a module.
    """
    numbered = list(enumerate(model.layers))[first_trained_layer(model, config) :]
    if config.fine_tune_type == "full":
        return tuple(
            Tensor(f"{model.prefix}.{n}.{t.name}", t.shape, t.dtype)
            for n, layer in numbered
            for t in _unfrozen(layer)
        )
    keys = adapter_keys(config)
    modules = [
        (f"{model.prefix}.{number}.{module.path}", module)
        for number, layer in numbered
        for module in adapted_linears(layer, keys)
    ]
    modules += [(m.path, m) for m in model.outside if keys and m.path in keys]
    _check(model, modules, config)
    is_dora = config.fine_tune_type == "dora"
    return tuple(
        tensor
        for path, module in modules
        for tensor in _adapter(path, module, config.lora_parameters.rank, is_dora=is_dora)
    )


def optimizer_bytes(tensors: Iterable[Tensor], config: RunConfig) -> int:
    """Return what MLX's optimiser holds for these arrays: moments in their own type."""
    if config.optimizer != "adafactor":
        return _MOMENTS[config.optimizer] * sum(t.nbytes for t in tensors) + SCALAR_STATE_BYTES
    has_first = config.optimizer_config.get("adafactor", {}).get("beta_1") is not None
    total = SCALAR_STATE_BYTES
    for tensor in tensors:
        itemsize = ITEMSIZES[tensor.dtype]
        if len(tensor.shape) >= 2:
            *rows, columns = tensor.shape
            without_rows = tensor.size // rows[-1]
            total += (tensor.size // columns + without_rows) * itemsize
        else:
            total += tensor.nbytes
        total += tensor.nbytes if has_first else 0
    return total


def adapter_file_bytes(tensors: Sequence[Tensor], iteration: int) -> int:
    """Return the size of the checkpoint that holds these arrays.

    A length of 8 bytes, a padded JSON header without spaces, and the arrays by name
    (https://huggingface.co/docs/safetensors), as ``write_tensors`` writes them.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "mlx", "iteration": str(iteration)}}
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: tensor.name):
        start, end = end, end + tensor.nbytes
        header[tensor.name] = {
            "data_offsets": [start, end],
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
        }
    text = json.dumps(header, separators=(",", ":"))
    return 8 + -(-len(text) // ALIGNMENT) * ALIGNMENT + end


def _adapter(path: str, module: Linear, rank: int, *, is_dora: bool) -> list[Tensor]:
    """The arrays of mlx-lm's LoRALinear, LoRASwitchLinear, LoRAEmbedding or DoRALinear."""
    if module.experts:
        shapes = ((module.experts, rank, module.inputs), (module.experts, module.outputs, rank))
    else:
        shapes = ((module.inputs, rank), (rank, module.outputs))
    found = [Tensor(f"{path}.{leaf}", s, "F32") for leaf, s in zip(_LEAVES, shapes, strict=True)]
    if is_dora:
        length = module.inputs if module.is_embedding else module.outputs
        found.append(Tensor(f"{path}.m", (length,), "F32"))
    return found


_LEAVES = ("lora_a", "lora_b")


def _unfrozen(layer: LayerShape) -> list[Tensor]:
    """Every array of a layer whose all is trained.

    Raises:
        ConfigError: when it is quantised: whole numbers have no gradient.
    """
    if any(linear.is_quantized for linear in layer.linears):
        raise ConfigError(
            ["fine_tune_type: full cannot train quantised weights"],
            hint="Use lora, or a model that is not quantised.",
        )
    return [tensor for tensor in layer.tensors if tensor.dtype in FLOATS]


def _check(model: ModelShape, modules: list[tuple[str, Linear]], config: RunConfig) -> None:
    parameters = config.lora_parameters
    if not modules:
        known = sorted({m.path for layer in model.layers for m in layer.linears})
        raise ConfigError(
            [f"lora_parameters.keys: no module is called {parameters.keys}; there are {known}"]
        )
    small = [(min(m.inputs, m.outputs), path) for path, m in modules]
    side, where = min(small)
    if parameters.rank > side:
        raise ConfigError(
            [
                f"lora_parameters.rank: {parameters.rank} is larger than {where}, "
                f"whose smaller side is {side}"
            ]
        )
