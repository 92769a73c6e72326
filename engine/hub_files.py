"""Chooses which files of a repository a run needs, from the list of all of them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from engine.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.hub_cache import HubFile, Repo
    from engine.hub_client import HubClient

_WEIGHTS = "model*.safetensors"
_MODEL_FILES = (
    "*.json", _WEIGHTS, "*.py", "tokenizer.model", "*.tiktoken", "*.txt", "*.jinja",
)  # fmt: skip
"""What mlx-lm reads, and nothing in other formats."""
_MODEL_FOLDERS = (".", "additional_chat_templates")
_DESCRIPTIONS = ("README.md", ".huggingface.yaml", "dataset_infos.json")
"""Where a dataset says which of its files are what."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a commit is needed."""

    files: tuple[HubFile, ...]
    """None where a dataset is kept in a way that only ``datasets`` knows."""
    names: tuple[str, ...]
    """Of all the files that there are."""


async def choose(client: HubClient, repo: Repo, commit: str) -> Choice:
    """Find out which files of a repository are needed.

    Raises:
        InputError: when there is no such repository, it is not for this person, or it is a model
            without weights that can be read.
        UnreachableError: when the hub does not answer.
    """
    files = await client.list_files(repo, commit)
    names = tuple(file.path for file in files)
    if repo.kind == "model":
        return Choice(_of_model(repo, files), names)
    texts = {name: await client.read(repo, commit, name) for name in names if name in _DESCRIPTIONS}
    needed = _of_dataset(repo, files, texts)
    if needed:
        needed |= set(texts)
    return Choice(tuple(file for file in files if file.path in needed), names)


def _of_model(repo: Repo, files: Iterable[HubFile]) -> tuple[HubFile, ...]:
    top = [file for file in files if str(PurePosixPath(file.path).parent) in _MODEL_FOLDERS]
    needed = tuple(
        file for file in top if any(fnmatch(Path(file.path).name, p) for p in _MODEL_FILES)
    )
    if not any(fnmatch(file.path, _WEIGHTS) for file in needed):
        other = [f.path for f in top if f.path.endswith((".bin", ".pth", ".gguf", ".safetensors"))]
        only = f", only {', '.join(sorted(other)[:3])}" if other else ""
        raise ModelError(
            f"{repo.name} has no weights that can be read ({_WEIGHTS}){only}.",
            "Choose a version of it in safetensors, or convert it with mlx_lm.convert.",
        )
    return needed


def _of_dataset(repo: Repo, files: Iterable[HubFile], texts: dict[str, bytes]) -> set[str]:
    """Let ``datasets`` choose, among empty files of the same names: it needs no content for that.

    Returns:
        Their paths; none where it finds no data so, and has other ways.
    """
    datasets: Any = import_module("datasets")
    exceptions: Any = import_module("datasets.exceptions")
    options = {
        key: value for key, value in repo.options.items() if key not in {"revision", "cache_dir"}
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve() / "files"
        options = {**repo.options, "cache_dir": str(Path(name) / "cache")}
        for file in files:
            place = folder / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(texts.get(file.path, b""))
        folder.mkdir(exist_ok=True)
        try:
            builder = datasets.load_dataset_builder(str(folder), **options)
        except (OSError, ValueError, RuntimeError, TypeError, exceptions.DatasetsError):
            return set()
        chosen = cast("dict[str, list[str]]", builder.config.data_files or {})
        paths = [Path(path) for split in chosen.values() for path in split]
        return {p.relative_to(folder).as_posix() for p in paths if p.is_relative_to(folder)}
