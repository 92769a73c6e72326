"""Loads the base model, attaches adapters, and chooses how a step is evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx
import numpy as np

from engine.errors import ConfigError, ModelError
from engine.parts import CannotTakeApartError, Parts
from engine.step import LayerStep, MicroBatch, WholeGraphStep
from engine.trees import flatten, number, trainable

if TYPE_CHECKING:
    import mlx.nn as nn

    from engine.config import RunConfig
    from engine.layers import StepSettings
    from engine.model_files import ModelFiles
    from engine.step import Stepper

CHECK_ROWS, CHECK_WIDTH = 2, 8
"""The batch on which both ways of stepping must agree."""
TOLERANCE = {mx.float32: 1e-3, mx.float16: 3e-2, mx.bfloat16: 1e-1}
"""Relative error that two orders of the same sums may show, by the weights' type."""
FAILURES = (ValueError, TypeError, AttributeError, IndexError, KeyError, RuntimeError)
"""What a model raises that cannot be run or differentiated."""


@dataclass(frozen=True)
class Adapted:
    """A frozen base model with trainable adapters."""

    model: nn.Module
    tokenizer: Any
    trainable_parameters: int
    total_parameters: int


def device_is_cpu() -> bool:
    """Whether MLX computes on the CPU here."""
    return mx.default_device().type == mx.DeviceType.cpu


def device_name() -> str:
    """Return what MLX computes on, in words."""
    info = mx.device_info()
    kind = "CPU" if device_is_cpu() else "GPU"
    return f"{info.get('device_name', 'unknown')} ({kind})"


def load_adapted(config: RunConfig, files: ModelFiles) -> Adapted:
    """Load a base model, freeze it, and attach the adapters that the config asks for.

    Raises:
        ModelError: when mlx-lm cannot load it.
        ConfigError: when the adapters do not fit it.
    """
    model, tokenizer = load_frozen(config, files)
    if config.resume_adapter_file:
        _load_weights(model, Path(config.resume_adapter_file).expanduser())
    mx.eval(model.parameters())
    return Adapted(
        model,
        tokenizer,
        trainable_parameters=sum(a.size for a in trainable(model).values()),
        total_parameters=_total_parameters(model),
    )


def load_frozen(config: RunConfig, files: ModelFiles) -> tuple[nn.Module, Any]:
    """Load a base model and attach fresh adapters, which are not evaluated.

    Returns:
        The model and its tokenizer.

    Raises:
        ModelError: when mlx-lm cannot load it.
        ConfigError: when the adapters do not fit it.
    """
    model, tokenizer = load_base(config, files)
    attach(model, config)
    return model, tokenizer


def load_base(config: RunConfig, files: ModelFiles) -> tuple[nn.Module, Any]:
    """Load a base model and its tokenizer, frozen and in the type that it is computed in.

    Raises:
        ModelError: when mlx-lm cannot load it.
    """
    import mlx_lm

    try:
        model, tokenizer = mlx_lm.load(
            str(files.path),
            tokenizer_config={"trust_remote_code": config.trust_remote_code},
            trust_remote_code=config.trust_remote_code,
        )[:2]
        model.freeze()
    except (*FAILURES, OSError, ImportError) as error:
        raise ModelError(
            f"{files.path} cannot be loaded: {error}",
            "Check that mlx_lm.generate can load it; its files may be incomplete.",
        ) from error
    _cast(model, config)
    return model, tokenizer


def attach(model: nn.Module, config: RunConfig) -> None:
    """Attach adapters with mlx-lm's own layers.

    Raises:
        ConfigError: when more layers or ranks are asked for than the model has, or no module fits.
    """
    from mlx_lm.tuner import utils

    layers = cast("list[nn.Module]", getattr(model, "layers", []))
    problems: list[str] = []
    if config.num_layers > len(layers):
        problems.append(f"num_layers: {config.num_layers}, but the model has {len(layers)} layers")
        raise ConfigError(problems)
    mx.random.seed(config.seed)
    if config.fine_tune_type == "full":
        for layer in layers[-max(config.num_layers, 0) :]:
            layer.unfreeze()
        return
    parameters = config.lora_parameters.model_dump(exclude_none=True)
    try:
        cast("Any", utils).linear_to_lora_layers(
            model, config.num_layers, parameters, use_dora=config.fine_tune_type == "dora"
        )
    except ValueError as error:
        raise ConfigError([f"fine_tune_type {config.fine_tune_type}: {error}"]) from None
    arrays = trainable(model)
    if not arrays:
        named = (cast("list[tuple[str, nn.Module]]", layer.named_modules()) for layer in layers)
        known = sorted({name.rsplit(".", 1)[-1] for modules in named for name, _ in modules})
        wanted = config.lora_parameters.keys
        problems.append(f"lora_parameters.keys: no module is called {wanted}; there are {known}")
    problems += _rank_problems(arrays, config.lora_parameters.rank)
    if problems:
        raise ConfigError(problems)


def _rank_problems(arrays: dict[str, mx.array], rank: int) -> list[str]:
    """A rank above a layer's smaller side cannot add anything."""
    limits: dict[str, int] = {}
    for name, array in arrays.items():
        path, _, leaf = name.rpartition(".")
        if leaf in {"lora_a", "lora_b"}:
            size = max(array.shape[-2:]) if min(array.shape[-2:]) == rank else min(array.shape[-2:])
            limits[path] = min(size, limits.get(path, size))
    if not limits or rank <= (smallest := min(limits.values())):
        return []
    where = next(path for path, size in limits.items() if size == smallest)
    return [
        f"lora_parameters.rank: {rank} is larger than {where}, whose smaller side is {smallest}"
    ]


def _cast(model: nn.Module, config: RunConfig) -> None:
    """Give the weights the type asked for; on a CPU 16-bit arithmetic is 15 times slower."""
    if config.dtype == "auto" and not device_is_cpu():
        return
    wanted = mx.float32 if config.dtype == "auto" else getattr(mx, config.dtype)
    model.set_dtype(wanted)


def _load_weights(model: nn.Module, path: Path) -> None:
    file = path / "adapters.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError([f"resume_adapter_file: {path} does not exist"])
    try:
        weights = cast("dict[str, mx.array]", mx.load(str(file)))
    except (RuntimeError, ValueError) as error:
        raise ConfigError([f"resume_adapter_file: {file} cannot be read: {error}"]) from None
    own = trainable(model)
    wrong = [k for k, v in weights.items() if k not in own or own[k].shape != v.shape]
    if wrong or not weights:
        what = f"{wrong[0]} does not fit" if wrong else "it is empty"
        raise ConfigError(
            [f"resume_adapter_file: {file} is not of this model and these lora_parameters: {what}"]
        )
    model.load_weights(list(weights.items()), strict=False)


def _total_parameters(model: nn.Module) -> int:
    from mlx_lm import utils

    return int(cast("Any", utils).get_total_parameters(model))


def choose_stepper(
    model: nn.Module, config: RunConfig, settings: StepSettings
) -> tuple[Stepper, str]:
    """Return the way to step, and why: layer by layer where that gives the same gradients.

    Raises:
        ModelError: when the model has no gradient, whichever way.
    """
    if config.step == "whole-graph":
        return WholeGraphStep(model), "the whole graph at once, as asked"
    stepper = None
    try:
        stepper = LayerStep(Parts(model), settings)
        error = _disagreement(model, stepper)
    except CannotTakeApartError as reason:
        error = str(reason)
    except FAILURES as problem:
        error = f"its parts did not run ({problem})"
    if stepper and not error:
        return stepper, "layer by layer"
    whole = WholeGraphStep(model)
    try:
        whole.add(_few_tokens(2), {}, _NoControl())
    except FAILURES as problem:
        raise ModelError(
            f"This model cannot be trained: {problem}",
            "MLX or mlx-lm lacks what its gradient needs; choose another model.",
        ) from problem
    return whole, f"the whole graph at once: {error}"


class _NoControl:
    """A step that nobody stops."""

    def should_stop(self) -> bool:
        return False

    def micro_batch(self) -> int:
        return CHECK_ROWS


def _few_tokens(vocabulary: int) -> MicroBatch:
    rng = np.random.default_rng(0)
    return MicroBatch(
        tokens=rng.integers(0, vocabulary, (CHECK_ROWS, CHECK_WIDTH + 1)).astype(np.int32),
        trained=np.arange(CHECK_WIDTH)[None] < np.array([[CHECK_WIDTH], [CHECK_WIDTH - 3]]),
        places=range(CHECK_ROWS),
    )


def _disagreement(model: nn.Module, stepper: LayerStep) -> str:
    """Compare both ways of stepping on a few tokens; return what differs, or nothing."""
    batch = _few_tokens(stepper.parts.vocabulary)
    was_training = model.training
    # Dropout draws differ between the two; without it they must agree.
    model.eval()
    try:
        ours: dict[str, mx.array] = {}
        theirs: dict[str, mx.array] = {}
        loss = number(stepper.add(batch, ours, _NoControl()))
        expected = number(WholeGraphStep(model).add(batch, theirs, _NoControl()))
    finally:
        model.train(was_training)
    tolerance = TOLERANCE.get(_dtype(model), 1e-1)
    if not _is_close(loss, expected, tolerance):
        return f"taken apart, its loss is {loss:.6g} instead of {expected:.6g}"
    norms = {name: _norm(gradient) for name, gradient in theirs.items()}
    # What is a hundred times smaller than the largest may be rounding alone.
    smallest = max(1e-12, 0.01 * max(norms.values(), default=0.0))
    for name, gradient in theirs.items():
        difference, norm = _norm(ours[name] - gradient), max(norms[name], smallest)
        if not difference <= tolerance * norm:
            return f"taken apart, the gradient of {name} differs by {difference:.3g} of {norm:.3g}"
    return ""


def _norm(array: mx.array) -> float:
    return number(mx.sqrt(mx.square(array.astype(mx.float32)).sum()))


def _is_close(a: float, b: float, tolerance: float) -> bool:
    return abs(a - b) <= tolerance * max(abs(b), 1e-12)


def _dtype(model: nn.Module) -> mx.Dtype:
    """The type that the model computes in: that of its norms and embeddings."""
    kinds = {array.dtype for array in flatten(model.parameters()).values()}
    for kind in (mx.bfloat16, mx.float16):
        if kind in kinds:
            return kind
    return mx.float32
