"""Loads a dataset of the Hugging Face hub, from its cache or the network."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from engine.errors import DataError
from engine.hub_cache import Repo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.config import HubDataset

_LOCAL_HINT = "give a local folder that holds train.jsonl (and valid.jsonl)."
# The hub's habit is "validation", mlx-lm's is "valid"; where both are there, the later wins.
_NAMES = {"train": "train", "validation": "valid", "valid": "valid", "test": "test"}


def load_splits(
    name: str, near_folder: str = "", revision: str | None = None
) -> dict[str, Iterable[object]]:
    """Load a hub dataset's splits under mlx-lm's names.

    Args:
        name: ``owner/name``.
        near_folder: A guess at a local folder that was meant, said if the name cannot be loaded.
        revision: Its commit; None means the newest.

    Raises:
        DataError: There is no such dataset, it cannot be reached, or it has no train split.
    """
    tables = cast("Mapping[str, Iterable[object]]", _load(name, near_folder, revision=revision))
    splits = {ours: tables[theirs] for theirs, ours in _NAMES.items() if theirs in tables}
    if "train" not in splits:
        found = ", ".join(tables) or "none"
        raise DataError(
            f"the dataset '{name}' has no train split; its splits are {found}.",
            hint=f"Choose another dataset, or {_LOCAL_HINT}",
        )
    return splits


def load_parts(dataset: HubDataset, *, with_test: bool) -> dict[str, Iterable[object]]:
    """Load the parts of a dataset that ``hf_dataset`` names, such as ``train[:80%]``.

    Args:
        dataset: What to load.
        with_test: Whether its test rows are wanted too.

    Raises:
        DataError: There is no such dataset or part, or it cannot be reached.
    """
    parts = {"train": dataset.train_split, "valid": dataset.valid_split}
    if with_test and dataset.test_split:
        parts["test"] = dataset.test_split
    return {
        name: cast("Iterable[object]", _load(dataset.path, split=part, **dataset.config))
        for name, part in parts.items()
    }


def _load(name: str, near_folder: str = "", /, **options: Any) -> object:
    """What ``datasets`` makes of a name, or an error in this program's words."""
    # Imported here: it takes a second, and local folders do not need it.
    datasets: Any = import_module("datasets")
    revision = options.pop("revision", None)
    chosen = {key: value for key, value in options.items() if key != "split"}
    folder = Repo("dataset", name, revision, chosen).find_whole()
    if folder is None and revision:
        options["revision"] = revision
    exceptions: Any = import_module("datasets.exceptions")
    try:
        return datasets.load_dataset(str(folder or name), **options)
    except exceptions.DatasetNotFoundError as error:
        raise DataError(
            f"'{name}' is no folder here and no dataset of the Hugging Face hub.{near_folder}",
            hint=f"Check the name (a private dataset needs `hf auth login`), or {_LOCAL_HINT}",
        ) from error
    except ConnectionError as error:
        raise DataError(
            f"'{name}' is no folder here, and the Hugging Face hub cannot be reached; "
            f"nothing of it is cached on this machine.{near_folder}",
            hint=f"Try again with a network, or {_LOCAL_HINT}",
        ) from error
    except (OSError, ValueError, RuntimeError, TypeError, exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"the dataset '{name}' of the Hugging Face hub cannot be loaded: {reason}",
            hint=f"Save its rows as JSON lines and {_LOCAL_HINT}",
        ) from error
