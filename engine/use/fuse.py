"""Fuses an adapter into its base with mlx-lm's own code; what appears was loaded and compared."""

from __future__ import annotations

import contextlib
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx
import numpy as np
from mlx.utils import tree_unflatten

from engine.checkpoint import FULL_DISK, check_space
from engine.errors import DiskFullError, InputError, ModelError, RunError
from engine.files import appearing_folder, sync
from engine.model import FAILURES, TOLERANCE
from engine.prepare import eager_on_cpu
from engine.trees import flatten
from engine.use.chosen import base_files, other_base
from engine.use.wardrobe import Wardrobe
from engine.use.worker import Note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import mlx.nn as nn
    from numpy.typing import NDArray

    from engine.model_files import ModelFiles
    from engine.use.chosen import Chosen

GGUF_TYPES = ("llama", "mixtral", "mistral")
"""Architectures that mlx-lm can write as GGUF."""
GGUF_NAME = "ggml-model-f16.gguf"
CHECK_TEXT = (
    "A letter from the coast. The harbour was quiet in the morning, and 12 boats lay by the wall. "
    "We asked the baker where to find the school; he laughed, pointed up the hill, and said that "
    "nobody had asked him that for years. Question: what would you have answered?"
)
CHECK_TOKENS = 64
REQUANTIZED_TOLERANCE = 0.5


@dataclass(frozen=True, slots=True)
class FuseOptions:
    """mlx-lm's own options, and the type of what is written."""

    dequantize: bool = False
    gguf: bool = False
    dtype: str | None = None
    """float32, float16 or bfloat16; None keeps the base's."""


@dataclass(frozen=True, slots=True)
class Fused:
    """A model that stands alone."""

    path: Path
    bytes: int
    difference: float
    """The largest difference of its logits from base and adapter, as a share of the largest."""
    tolerance: float
    dtype: str
    """The type of its weights as they are computed with, such as ``float16``."""


class _StoppedError(Exception):
    """Somebody wants no fused model any more."""


def fuse(
    chosen: Chosen, folder: Path, options: FuseOptions, should_stop: Callable[[], bool]
) -> Iterator[Note | Fused]:
    """Write base and adapter as one model; the folder appears whole and verified, or not at all.

    Args:
        chosen: the adapter.
        folder: where the model goes; it must not exist.
        options: how.
        should_stop: asked between modules and files.

    Raises:
        InputError: when base, adapter and options do not fit together, or the folder exists.
        DiskFullError: when there is too little space.
        RunError: when the result is not the same model.
    """
    files = base_files(chosen)
    _check(chosen, folder, options, files)
    yield Note(f"loading {files.path.name}")
    with eager_on_cpu(), contextlib.suppress(_StoppedError):
        model, tokenizer, config = load(files, chosen)
        wardrobe = Wardrobe(model, tokenizer, files)
        if options.dtype:
            model.set_dtype(getattr(mx, options.dtype))
        if warning := other_base(chosen, files):
            yield Note(warning, is_warning=True)
        wardrobe.put_on(chosen)
        expected = logits(model, tokenizer)
        # Otherwise the base's own modules would live beside the fused ones.
        wardrobe.forget()
        yield from _fuse_modules(model, options, should_stop)
        if options.dequantize:
            model = _dequantized(model, config)
        del wardrobe
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with appearing_folder(folder) as temporary:
                yield Note("writing the model")
                _write(temporary, model, tokenizer, config, files, options)
                _go_on(should_stop)
                del model
                yield Note("checking the model: loading it")
                fused = _verified(folder, temporary, chosen, expected)
                _go_on(should_stop)
        except OSError as error:
            raise _not_written(folder, files, options, error) from error
        if warning := _requantized(fused, files):
            yield Note(warning, is_warning=True)
        yield fused


def _requantized(fused: Fused, files: ModelFiles) -> str:
    """Say when quantising a second time changed the model; nothing when it did not."""
    if fused.difference <= fused.tolerance / 10 or not _is_quantized(files):
        return ""
    return (
        "Fused and quantised again, the model is not quite the same: its logits differ by "
        f"{fused.difference:.1%}. --dequantize keeps them."
    )


def _check(chosen: Chosen, folder: Path, options: FuseOptions, files: ModelFiles) -> None:
    """Refuse what would fail after minutes.

    Raises:
        InputError: naming the problem.
        DiskFullError: when there is too little space.
    """
    kind = files.config.get("model_type")
    if options.gguf and kind not in GGUF_TYPES:
        raise InputError(
            f"mlx-lm writes GGUF for {', '.join(GGUF_TYPES)} only, and this is {kind}.",
            "Without --export-gguf the model is written in MLX's own format.",
        )
    if options.gguf and _is_quantized(files) and not options.dequantize:
        raise InputError("mlx-lm writes no quantised GGUF.", "Give --dequantize as well.")
    if not _is_quantized(files) and options.dequantize:
        raise InputError(f"{chosen.config.model} is not quantised.", "Drop --dequantize.")
    if folder.exists():
        raise InputError(f"{folder} exists already.", "Give another --save-path.")
    check_space(folder, _needed_bytes(files, options))


def _needed_bytes(files: ModelFiles, options: FuseOptions) -> int:
    """What the result takes: the base again, wider where it is unpacked, twice with GGUF."""
    size = files.weights_bytes
    quantization = cast("dict[str, Any]", files.config.get("quantization") or {})
    if options.dequantize and (bits := quantization.get("bits")):
        size = size * 16 // int(bits)
    if options.dtype == "float32":
        size *= 2
    return size * (2 if options.gguf else 1)


def _is_quantized(files: ModelFiles) -> bool:
    return bool(files.config.get("quantization") or files.config.get("quantization_config"))


def load(files: ModelFiles, chosen: Chosen) -> tuple[nn.Module, Any, dict[str, Any]]:
    """Load the base in its own type."""
    import mlx_lm

    trust = chosen.config.trust_remote_code
    try:
        loaded = mlx_lm.load(
            str(files.path),
            tokenizer_config={"trust_remote_code": trust},
            trust_remote_code=trust,
            lazy=True,
            return_config=True,
        )
    except (*FAILURES, OSError, ImportError) as error:
        raise ModelError(f"{files.path} cannot be loaded: {error}") from error
    model, tokenizer, config = cast("tuple[nn.Module, Any, dict[str, Any]]", loaded)
    return model, tokenizer, config


def _fuse_modules(
    model: nn.Module, options: FuseOptions, should_stop: Callable[[], bool]
) -> Iterator[Note]:
    """Replace adapted modules one by one, so that few live twice."""
    named = cast("list[tuple[str, Any]]", model.named_modules())
    names = [name for name, module in named if hasattr(module, "fuse")]
    del named
    for done, name in enumerate(names, start=1):
        _go_on(should_stop)
        module: Any = model
        for part in name.split("."):
            module = module[int(part)] if part.isdecimal() else module[part]
        fused = rounded_once(module, is_dequantized=options.dequantize)
        mx.eval(fused.parameters())
        model.update_modules(tree_unflatten([(name, fused)]))
        yield Note("fusing", done=done, total=len(names))


def rounded_once(module: Any, *, is_dequantized: bool = False) -> nn.Module:
    """Fuse one module in float32, and round the sum to the base's own type.

    In 16 bits mlx-lm rounds the update and the sum, and leaves DoRA's sum in float32.
    """
    inner: nn.Module = module["linear"] if "linear" in module else module["embedding"]
    arrays = flatten(inner.parameters()).values()
    kind = next((array.dtype for array in arrays if array.dtype in TOLERANCE), mx.float32)
    inner.set_dtype(mx.float32)
    fused: nn.Module = module.fuse(dequantize=is_dequantized)
    fused.set_dtype(kind)
    return fused


def _dequantized(model: nn.Module, config: dict[str, Any]) -> nn.Module:
    from mlx_lm import utils

    config.pop("quantization", None)
    config.pop("quantization_config", None)
    return cast("nn.Module", cast("Any", utils).dequantize_model(model))


def _write(
    folder: Path,
    model: nn.Module,
    tokenizer: Any,
    config: dict[str, Any],
    files: ModelFiles,
    options: FuseOptions,
) -> None:
    from mlx_lm import gguf, utils

    # mlx-lm talks on stdout, which carries data here.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            cast("Any", utils).save(
                folder, str(files.path), model, tokenizer, dict(config), donate_model=False
            )
            if options.gguf:
                weights = flatten(model.parameters())
                cast("Any", gguf).convert_to_gguf(folder, weights, config, str(folder / GGUF_NAME))
        except (*FAILURES, NotImplementedError) as error:
            raise RunError(
                f"mlx-lm could not write the model: {error}", "Nothing was written."
            ) from error
    for path in folder.iterdir():
        sync(path)


def _verified(
    folder: Path, temporary: Path, chosen: Chosen, expected: NDArray[np.float32]
) -> Fused:
    """Load what was written and compare it.

    Raises:
        RunError: when it is another model.
    """
    import mlx_lm

    model, tokenizer = mlx_lm.load(str(temporary))[:2]
    found = logits(model, tokenizer)
    difference = float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12))
    arrays = flatten(model.parameters()).values()
    is_quantized = any(array.dtype == mx.uint32 for array in arrays)
    kinds = [TOLERANCE[array.dtype] for array in arrays if array.dtype in TOLERANCE]
    tolerance = REQUANTIZED_TOLERANCE if is_quantized else max(kinds, default=1e-3)
    if not difference <= tolerance:
        raise RunError(
            f"The fused model is not the same as base and adapter: its logits differ by "
            f"{difference:.2%}.",
            f"Nothing was written. {chosen.label} itself is as it was; --dtype float32 rounds least"
            f"{', --dequantize drops the second quantisation' if is_quantized else ''}.",
        )
    size = sum(path.stat().st_size for path in temporary.iterdir())
    dtype = str(next(a.dtype for a in arrays if a.dtype in TOLERANCE)).rpartition(".")[2]
    return Fused(folder, size, difference, tolerance, dtype)


def logits(model: nn.Module, tokenizer: Any) -> NDArray[np.float32]:
    """Return the logits of a fixed text, ``[T, V]`` in float32.

    Text, not tokens drawn at random: what no model expects, 16 bits compute so badly that two
    orders of the same sums are 40 % apart.
    """
    model.eval()
    tokens = list(tokenizer.encode(CHECK_TEXT))[:CHECK_TOKENS]
    found = cast("mx.array", cast("Any", model)(mx.array([tokens])))
    return np.array(found[0].astype(mx.float32), np.float32)


def _go_on(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise _StoppedError


def _not_written(folder: Path, files: ModelFiles, options: FuseOptions, error: OSError) -> RunError:
    if error.errno in FULL_DISK:
        free = shutil.disk_usage(folder.parent).free
        return DiskFullError(folder, _needed_bytes(files, options), free)
    return RunError(f"{folder} cannot be written: {error}", "Nothing was written.")
