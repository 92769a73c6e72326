"""Datasets of the Hugging Face hub, with the network played by a function."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from engine.data.formats import Features
from engine.data.rows import read_data
from engine.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

datasets: Any = import_module("datasets")

ROW = {"text": "Hi there"}
LOCAL = "give a local folder that holds train.jsonl (and valid.jsonl)."


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Any], None]:
    """Sets what the hub answers: splits, or an exception to raise."""
    monkeypatch.chdir(tmp_path)

    def answer(splits: object) -> None:
        def load_dataset(name: str) -> object:
            assert name == "owner/name"
            if isinstance(splits, Exception):
                raise splits
            return splits

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    return answer


def problem() -> DataError:
    """The error that loading ``owner/name`` raises."""
    with pytest.raises(DataError) as caught:
        read_data("owner/name", Features(), batch_size=1)
    return caught.value


def test_validation_goes_by_either_name(hub: Callable[[Any], None]) -> None:
    table = datasets.Dataset.from_list([ROW, ROW])
    hub(datasets.DatasetDict({"train": table, "validation": table}))
    data = read_data("owner/name", Features(), batch_size=2)
    assert [len(data.train), len(data.valid), len(data.test)] == [2, 2, 0]
    assert (data.train[1].text, data.train[1].line) == ("Hi there", 2)
    hub({"train": [ROW], "valid": [ROW], "validation": [ROW, ROW], "test": [ROW]})
    data = read_data("owner/name", Features(), batch_size=1)
    assert [len(data.train), len(data.valid), len(data.test)] == [1, 1, 1]


def test_a_local_folder_wins(hub: Callable[[Any], None], tmp_path: Path) -> None:
    hub(AssertionError("asked the hub"))
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text('{"text": "a"}\n')
    assert read_data("owner/name", Features(), batch_size=1).train[0].text == "a"


def test_bad_row_names_dataset_split_and_row(hub: Callable[[Any], None]) -> None:
    hub({"train": [ROW, {"texts": "a"}]})
    assert problem().message == (
        "owner/name/train, row 2: the row has no 'text'; its keys are 'texts'. Did you mean 'text'?"
    )


def test_no_network_and_nothing_cached(hub: Callable[[Any], None], tmp_path: Path) -> None:
    (tmp_path / "owners").mkdir()
    hub(ConnectionError("Couldn't reach 'owner/name' on the Hub (LocalEntryNotFoundError)"))
    error = problem()
    assert error.message == (
        "'owner/name' is no folder here, and the Hugging Face hub cannot be reached; "
        "nothing of it is cached on this machine. Did you mean 'owners'?"
    )
    assert error.hint == f"Try again with a network, or {LOCAL}"


def test_unknown_name(hub: Callable[[Any], None]) -> None:
    hub(datasets.exceptions.DatasetNotFoundError("Dataset doesn't exist"))
    error = problem()
    assert error.message == "'owner/name' is no folder here and no dataset of the Hugging Face hub."
    assert error.hint == f"Check the name (a private dataset needs `hf auth login`), or {LOCAL}"


def test_other_trouble_is_passed_on(hub: Callable[[Any], None]) -> None:
    hub(ValueError("Config name is missing.\nPlease pick one"))
    error = problem()
    assert error.message == (
        "the dataset 'owner/name' of the Hugging Face hub cannot be loaded: Config name is missing."
    )
    assert error.hint == f"Save its rows as JSON lines and {LOCAL}"


def test_no_train_split(hub: Callable[[Any], None]) -> None:
    hub({"test": [ROW]})
    error = problem()
    assert error.message == "the dataset 'owner/name' has no train split; its splits are test."
    assert error.hint == f"Choose another dataset, or {LOCAL}"


def test_empty_split(hub: Callable[[Any], None]) -> None:
    hub({"train": [ROW], "test": []})
    assert problem().message == "owner/name/test: the split has no rows."
