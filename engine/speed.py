"""Measures how fast this machine trains: a small model's own training step, for about a second.

    python -m engine.speed

prints what ``engine.machine`` keeps. A step of the real thing is timed, not a product of matrices:
what a step loses to attention, to adapters and to waiting is then in the figure.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from engine.blas import preload_openblas
from engine.config import validate
from engine.machine import Machine, host_name

if TYPE_CHECKING:
    from engine.config import RunConfig

SECONDS = 1.0
FEWEST_STEPS = 2
_CPU = {"hidden_size": 768, "intermediate_size": 2048, "width": 128}
_GPU = {"hidden_size": 1536, "intermediate_size": 6144, "width": 1024}
_TINY = {"hidden_size": 48, "intermediate_size": 96, "width": 8}
_LAYERS = 2
_VOCABULARY = 8192


class _Control:
    """A step that nobody stops."""

    def should_stop(self) -> bool:
        return False

    def micro_batch(self) -> int:
        return 1


def measure(seconds: float = SECONDS) -> Machine:
    """Time training steps, and say what the device is.

    Args:
        seconds: how long; at least two steps are timed.
    """
    preload_openblas()
    from engine import prepare
    from engine.model import device_is_cpu, device_name

    config = validate({"num_layers": -1, "lora_parameters": {"rank": 16, "scale": 2.0}})
    with prepare.eager_on_cpu():
        flops, step = _step(config, _CPU if device_is_cpu() else _GPU, 0.8 * seconds)
        _, tiny_step = _step(config, _TINY, 0.2 * seconds)
    return Machine(
        device=device_name(),
        is_cpu=device_is_cpu(),
        has_fused_attention=prepare.has_fused_attention(prepare.step_settings(config)),
        budget_bytes=prepare.default_budget(),
        flops_per_second=flops / step,
        layer_seconds=tiny_step / _LAYERS,
        measured=time.time(),
        host=host_name(),
    )


def _step(config: RunConfig, sizes: dict[str, int], seconds: float) -> tuple[float, float]:
    """Return a training step's floating-point operations and its seconds."""
    import mlx.core as mx
    import numpy as np

    from engine import loaded, work
    from engine.model import attach, device_is_cpu
    from engine.parts import Parts
    from engine.prepare import step_settings
    from engine.step import LayerStep, run_step

    width = sizes["width"]
    model, values = _model(sizes, mx.float32 if device_is_cpu() else mx.float16)
    flops = work.step_flops(loaded.model_shape(model, values), config, 1, width)
    attach(model, config)
    mx.eval(model.parameters())
    stepper = LayerStep(Parts(model), step_settings(config))
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, _VOCABULARY, (1, width + 1)).astype(np.int32)
    trained = np.ones((1, width), np.bool_)
    times: list[float] = []
    # The first step compiles.
    while len(times) < 1 + FEWEST_STEPS or sum(times[1:]) < seconds:
        began = time.perf_counter()
        run_step(stepper, tokens, trained, {}, _Control(), [width], 0, len(times))
        times.append(time.perf_counter() - began)
    return flops, statistics.median(times[1:])


def _model(sizes: dict[str, int], dtype: Any) -> tuple[Any, dict[str, Any]]:
    """A Llama of two layers with random weights, frozen."""
    from mlx_lm.models import llama

    values: dict[str, Any] = sizes | {
        "model_type": "llama",
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-5,
        "vocab_size": _VOCABULARY,
        "tie_word_embeddings": True,
    }
    model = cast("Any", llama).Model(cast("Any", llama).ModelArgs.from_dict(values))
    model.set_dtype(dtype)
    model.freeze()
    return model, values


if __name__ == "__main__":
    print(json.dumps(asdict(measure())))  # noqa: T201 - what another process reads
