"""How much arithmetic a run is, from shapes alone; the time follows from the machine's speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.trained import adapted_linears, adapter_keys, first_trained_layer

if TYPE_CHECKING:
    from engine.config import RunConfig
    from engine.shapes import LayerShape, ModelShape


def step_flops(
    model: ModelShape,
    config: RunConfig,
    rows: int,
    width: int,
    *,
    kept_layers: int = 0,
    micro_batches: int = 1,
) -> float:
    """Return the floating-point operations of one training step.

    Every layer runs forward. From the first trained one on it also runs once more from its input,
    unless its outputs were kept, and then backward: the gradient of the input everywhere, that of
    the weights only where they are trained. A product of ``[n, k]`` and ``[k, m]`` counts 2·n·k·m.

    Args:
        model: the base model.
        config: what is trained of it.
        rows: rows of the batch.
        width: positions of each.
        kept_layers: layers whose linear outputs are not computed again.
        micro_batches: parts that the rows are worked in; DoRA adds its matrices up in each.
    """
    positions = rows * width
    first = first_trained_layer(model, config)
    attention = _attention_flops(model, width)
    total = positions * _head_flops(model) * 2
    for number, layer in enumerate(model.layers):
        linear = _linear_flops(layer)
        total += positions * (linear + attention)
        if number < first:
            continue
        is_kept = number >= len(model.layers) - kept_layers
        again = attention + (0 if is_kept else linear)
        trained, matrices = _trained_flops(layer, config)
        repeats = 3 if is_kept else 4
        total += positions * (again + linear + 2 * attention + repeats / 4 * trained)
        total += micro_batches * matrices
    return float(total)


def evaluation_flops(model: ModelShape, rows: int, width: int) -> float:
    """Return the floating-point operations of a batch that is only evaluated."""
    layers = sum(_linear_flops(layer) for layer in model.layers)
    attention = len(model.layers) * _attention_flops(model, width)
    return float(rows * width * (layers + attention + _head_flops(model)))


def _linear_flops(layer: LayerShape) -> int:
    """A position's products with all matrices."""
    return sum(2 * m.inputs * m.outputs * m.active for m in layer.linears if not m.is_embedding)


def _attention_flops(model: ModelShape, width: int) -> int:
    """A position's scores and weighted sum: it sees half of the others on average."""
    return 2 * 2 * (width // 2) * model.heads * model.head_width


def _head_flops(model: ModelShape) -> int:
    return 2 * model.hidden * model.vocabulary


def _trained_flops(layer: LayerShape, config: RunConfig) -> tuple[int, int]:
    """A position's work on what is trained, in all passes, and a micro-batch's on matrices."""
    if config.fine_tune_type == "full":
        return _linear_flops(layer), 0
    own = adapted_linears(layer, adapter_keys(config))
    rank = config.lora_parameters.rank
    low_rank = sum(2 * rank * (m.inputs + m.outputs) * m.active for m in own)
    is_dora = config.fine_tune_type == "dora"
    matrices = sum(2 * 2 * rank * m.size for m in own) if is_dora else 0
    # Forward, again, and two products for the gradients.
    return 4 * low_rank, matrices
