"""Finds a model's files and checks them, before anything heavy is imported or loaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from engine.errors import ModelError, did_you_mean
from engine.hub_cache import Repo

if TYPE_CHECKING:
    from engine.config import RunConfig

_FOLDER_HINT = "Give a folder with config.json and model*.safetensors, or a name on the hub."
_SAMPLES, _SAMPLE_BYTES = 64, 16_384
"""How much of a weights file is looked at to know it again."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk."""

    path: Path
    config: dict[str, Any]

    @property
    def num_layers(self) -> int | None:
        """Layers of the model, where its config says so."""
        return (
            self._number("num_hidden_layers") or self._number("n_layer") or self._number("n_layers")
        )

    @property
    def max_positions(self) -> int | None:
        """Positions that the model was made for, where its config says so."""
        return self._number("max_position_embeddings") or self._number("n_positions")

    @property
    def weights_bytes(self) -> int:
        """What the weights take on disk."""
        return sum(path.stat().st_size for path in self.path.glob("model*.safetensors"))

    def fingerprint(self) -> str:
        """Return a checksum that other weights do not have.

        Over the config, and of each weights file its size, its header and samples spread over it:
        hashing gigabytes would take as long as loading them.

        Raises:
            ModelError: when a file cannot be read.
        """
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        try:
            for path in sorted(self.path.glob("*.safetensors")):
                size = path.stat().st_size
                digest.update(f"{path.name} {size}".encode())
                with path.open("rb") as file:
                    for sample in range(_SAMPLES):
                        file.seek(size * sample // _SAMPLES)
                        digest.update(file.read(_SAMPLE_BYTES))
        except OSError as error:
            raise ModelError(f"the model in {self.path} cannot be read: {error}") from error
        return digest.hexdigest()

    def _number(self, key: str) -> int | None:
        for config in (self.config, self.config.get("text_config") or {}):
            value = config.get(key)
            if isinstance(value, int) and value > 0:
                return value
        return None


def is_local(model: str) -> bool:
    """Whether a model's name means a folder rather than a name on the hub."""
    path = Path(model).expanduser()
    is_hub_like = model.count("/") == 1 and not model.startswith((".", "/", "~"))
    return path.exists() or not is_hub_like


def check_model(config: RunConfig) -> None:
    """Check a local model's files and the settings that depend on its config.

    Raises:
        ModelError: when the folder is no model, or the settings do not suit it.
    """
    if is_local(config.model):
        check_settings(config, read_model_folder(Path(config.model).expanduser()))


def find_model(config: RunConfig) -> ModelFiles:
    """Return a model's files, which were downloaded before where it is one of the hub.

    Raises:
        ModelError: when there is no such model here, or the settings do not suit it.
    """
    if is_local(config.model):
        path = Path(config.model).expanduser()
    elif (path := Repo("model", config.model, config.revision).find_whole()) is None:
        raise ModelError(
            f"{config.model} is not on this machine.",
            "Connect and try again, or give a model's folder with --model.",
        )
    files = read_model_folder(path)
    check_settings(config, files)
    return files


def check_settings(config: RunConfig, files: ModelFiles) -> None:
    """Check the settings that depend on the model's config.

    Raises:
        ModelError: naming the setting.
    """
    if files.num_layers and config.num_layers > files.num_layers:
        raise ModelError(
            f"num_layers: {config.num_layers}, but {files.path} has {files.num_layers} layers.",
            f"Give {files.num_layers} or less, or -1 for all.",
        )


def read_model_folder(path: Path) -> ModelFiles:
    """Read and check a model's folder.

    Raises:
        ModelError: when it is missing, is an adapter, or lacks its config or weights.
    """
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = did_you_mean(path.name, siblings)
        raise ModelError(f"There is no model folder {path}.{near}", _FOLDER_HINT)
    if not path.is_dir():
        raise ModelError(f"{path} is a file, not a model's folder.", _FOLDER_HINT)
    config_file = path / "config.json"
    if not config_file.is_file():
        if (path / "adapter_config.json").is_file():
            raise ModelError(
                f"{path} holds an adapter, not a model.",
                "Give the base model as 'model', and this as 'resume_adapter_file' to begin with.",
            )
        raise ModelError(f"{path} has no config.json, so it is not a model's folder.", _FOLDER_HINT)
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{config_file} cannot be read: {error}") from None
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelError(f"{config_file} names no model_type.", _FOLDER_HINT)
    if not any(path.glob("model*.safetensors")):
        raise ModelError(
            f"{path} has no weights (model*.safetensors).",
            "Copy the model's weights there, or convert them with mlx_lm.convert.",
        )
    _check_parts(path)
    return ModelFiles(path, cast("dict[str, Any]", config))


def _check_parts(path: Path) -> None:
    """Check that all files of weights are there that an index names, if there is one.

    Raises:
        ModelError: naming those that are missing.
    """
    index = path / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        names: set[str] = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} cannot be read: {error}") from None
    if missing := sorted(name for name in names if not (path / name).exists()):
        raise ModelError(
            f"{path} lacks {', '.join(missing[:3])}: {len(missing)} of {len(names)} weight files.",
            "Copy or download the model again: it is not whole.",
        )
