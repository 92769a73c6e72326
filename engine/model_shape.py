"""Finds out what a model consists of, from whatever of it is on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from engine.errors import ModelError
from engine.hub import cache_folder
from engine.known_models import known_config, tensors_of_config
from engine.model_files import ModelFiles, is_local, read_model_folder
from engine.shapes import Tensor, shape_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.shapes import ModelShape

_LARGEST_HEADER_BYTES = 100_000_000
"""What safetensors itself accepts."""


def find_shape(model: str, dtype: str | None = None) -> ModelShape:
    """Return a model's shape; needs no network and loads no weight.

    A folder, or what the hub's cache holds, is read exactly; a well-known model is known by name.

    Args:
        model: a folder, or a name on the hub.
        dtype: the type that the weights are cast to; None keeps the model's own.

    Raises:
        ModelError: when the model is not here and not among the known ones.
    """
    folder = Path(model).expanduser()
    files = read_model_folder(folder) if is_local(model) else _cached(model)
    if files is None:
        config = known_config(model)
        if config is None:
            raise ModelError(
                f"{model} is not on this machine, and not among the models known by name.",
                "Give a folder with its config.json and weights, or train it once: "
                "what was downloaded can be planned.",
            )
    else:
        config = files.config
        if headers := list(_headers(files.path)):
            return shape_of(headers, config, dtype)
    tensors = tensors_of_config(config)
    if tensors is None:
        raise ModelError(
            f"The shape of a {config.get('model_type')} cannot be told from its config.json alone.",
            "Put its model*.safetensors beside it.",
        )
    return shape_of(tensors, config, dtype)


def _cached(model: str) -> ModelFiles | None:
    """Return the newest snapshot of a hub model that is on this machine."""
    folder = cache_folder() / f"models--{model.replace('/', '--')}" / "snapshots"
    found = [path.parent for path in folder.glob("*/config.json")]
    if not found:
        return None
    newest = max(found, key=lambda path: path.stat().st_mtime)
    config = json.loads((newest / "config.json").read_text(encoding="utf-8"))
    return ModelFiles(newest, config)


def _headers(folder: Path) -> Iterator[Tensor]:
    for path in sorted(folder.glob("model*.safetensors")):
        yield from read_header(path)


def read_header(path: Path) -> list[Tensor]:
    """Return the tensors of a safetensors file without reading any of them.

    Its first 8 bytes are the length of a JSON object (https://huggingface.co/docs/safetensors).

    Raises:
        ModelError: when it is no such file.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= _LARGEST_HEADER_BYTES:
                raise ValueError(f"a header of {length} bytes")
            header = cast("dict[str, Any]", json.loads(file.read(length)))
        header.pop("__metadata__", None)
        whole = 8 + length + max((e["data_offsets"][1] for e in header.values()), default=0)
        if (size := path.stat().st_size) < whole:
            raise ValueError(f"{size:,} of {whole:,} bytes are there")
        return [
            Tensor(name, tuple(entry["shape"]), str(entry["dtype"]))
            for name, entry in header.items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} is no whole safetensors file: {error}", "Download or convert the model again."
        ) from None
