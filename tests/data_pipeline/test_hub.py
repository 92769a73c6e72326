"""Datasets of the Hugging Face hub, with the network played by a function."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from engine.config import dump, parse_yaml, validate
from engine.data.formats import Features
from engine.data.rows import Reading, read_data
from engine.errors import ConfigError, DataError

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


def parts(asked: dict[str, Any]) -> Reading:
    """What ``hf_dataset`` of a configuration asks for."""
    config = validate({"hf_dataset": asked, "test": True})
    return Reading.of(config)


def test_hf_dataset_reads_the_parts_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[str, dict[str, Any]]] = []

    def load_dataset(name: str, /, **options: Any) -> list[dict[str, str]]:
        loaded.append((name, options))
        return [{"q": "Hi", "a": options["split"]}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    asked = {"path": "owner/name", "prompt_feature": "q", "completion_feature": "a"}
    rows = read_data("", Features(), 1, parts({**asked, "config": {"name": "en"}}))
    assert loaded == [
        ("owner/name", {"split": "train[:80%]", "name": "en"}),
        ("owner/name", {"split": "train[-10%:]", "name": "en"}),
    ]
    assert rows.train[0].messages[1]["content"] == "train[:80%]"
    assert rows.valid[0].path.as_posix() == "owner/name/train[-10%:]"
    loaded.clear()
    splits = {"train_split": "train[:9]", "valid_split": "validation", "test_split": "test"}
    rows = read_data("", Features(), 1, parts({**asked, **splits}))
    assert [options["split"] for _, options in loaded] == ["train[:9]", "validation", "test"]
    assert len(rows.test) == 1


def test_several_hf_datasets_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"a/pairs": {"prompt": "Hi", "completion": "Yes?"}, "b/texts": {"text": "Hi"}}

    def load_dataset(name: str, **_: Any) -> list[dict[str, str]]:
        return [answers[name]] * 2

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    config = validate({"hf_dataset": [{"path": "a/pairs"}, {"name": "b/texts"}]})
    assert config.data == "a/pairs + b/texts"
    rows = read_data(config.data, Features(), 4, Reading.of(config))
    assert [row.format for row in rows.train] == ["prompt/completion"] * 2 + ["text"] * 2
    assert rows.found == "prompt/completion, 2 rows → messages, text, 2 rows"


def test_a_part_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, **_: Any) -> object:
        raise ValueError(f'Unknown split "vaild" of {name}. Should be one of ["train"].')

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError) as caught:
        read_data("", Features(), 1, parts({"path": "owner/name", "valid_split": "vaild"}))
    assert caught.value.message == (
        "the dataset 'owner/name' of the Hugging Face hub cannot be loaded: "
        'Unknown split "vaild" of owner/name. Should be one of ["train"].'
    )


def test_hf_dataset_is_checked_like_the_other_settings() -> None:
    with pytest.raises(ConfigError) as caught:
        validate({"hf_dataset": {"path": "a/b", "train_splits": "train"}})
    assert caught.value.problems == (
        "hf_dataset.0.train_splits: unknown setting. Did you mean 'train_split'?",
    )
    config = validate({"hf_dataset": {"path": "a/b"}, "data": "named"})
    assert config.data == "named"
    assert validate(parse_yaml(dump(config))) == config
