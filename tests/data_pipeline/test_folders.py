"""Whole data folders: missing, empty, misnamed, too small, in two formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.data.formats import Features
from engine.data.rows import read_data
from engine.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Write = Callable[[str, Sequence[object]], Path]

TEXT = {"text": "Hi there"}
PAIR = {"prompt": "Hi", "completion": "Yes?"}
FOLDER_HINT = (
    "Name a folder that holds train.jsonl (and valid.jsonl), a file of rows, "
    "or a dataset of the Hugging Face hub as owner/name."
)


def problem(data: str | Path, batch_size: int = 1) -> DataError:
    """The error that reading a folder raises."""
    with pytest.raises(DataError) as caught:
        read_data(data, Features(), batch_size)
    return caught.value


def test_reads_all_splits(write_jsonl: Write) -> None:
    write_jsonl("train.jsonl", [TEXT] * 3)
    write_jsonl("valid.jsonl", [TEXT] * 2)
    folder = write_jsonl("test.jsonl", [TEXT]).parent
    data = read_data(str(folder), Features(), batch_size=3)
    assert [len(data.train), len(data.valid), len(data.test)] == [3, 2, 1]


def test_validation_and_test_may_be_absent(write_jsonl: Write) -> None:
    data = read_data(write_jsonl("train.jsonl", [TEXT]).parent, Features(), batch_size=1)
    assert data.valid == data.test == []


def test_missing_folder_offers_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "guanaco").mkdir()
    error = problem(tmp_path / "guanco")
    assert error.message == (f"{tmp_path / 'guanco'}: no such folder. Did you mean 'guanaco'?")
    assert error.hint == FOLDER_HINT
    assert problem(tmp_path / "guanco" / "deeper").message.endswith("Did you mean 'guanaco'?")
    assert problem(tmp_path / "zzz").message == f"{tmp_path / 'zzz'}: no such folder."


def test_mistyped_relative_folder_is_not_looked_up_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sets" / "guanaco"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text('{"text": "a"}\n')
    monkeypatch.chdir(tmp_path)
    assert problem("sets/guanco").message == (
        "sets/guanco: no such folder. Did you mean 'guanaco'?"
    )


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "rows.pdf"
    path.touch()
    assert problem(tmp_path / "rows.csv").message.startswith(
        f"{tmp_path / 'rows.csv'}: no such file."
    )
    error = problem(path)
    assert error.message == f"{path}: this is not a file of rows."
    assert error.hint.startswith("Rows are read from files that end in .jsonl, .json, .parquet,")
    assert problem(path / "deeper").message == f"{path / 'deeper'}: no such folder."


def test_empty_folder(tmp_path: Path) -> None:
    error = problem(tmp_path)
    assert error.message == f"{tmp_path}: the folder is empty."
    assert error.hint == "Put train.jsonl into it."


def test_folder_without_training_rows(write_jsonl: Write) -> None:
    folder = write_jsonl("part0.json", [TEXT]).parent
    write_jsonl("readme.md", [])
    for number in range(1, 5):
        write_jsonl(f"part{number}.json", [TEXT])
    error = problem(folder)
    assert error.message == (
        f"{folder}: the folder has no train.jsonl, "
        "only part0.json, part1.json, part2.json, part3.json, part4.json and 1 more."
    )
    assert error.hint.startswith(
        "Put the training rows into train.jsonl, one JSON object a line. Rows are read from files"
    )


def test_fewer_rows_than_a_batch(write_jsonl: Write) -> None:
    path = write_jsonl("train.jsonl", [TEXT] * 3)
    error = problem(path.parent, batch_size=4)
    assert error.message == f"{path}: 3 rows, fewer than the batch size of 4."
    assert error.hint == "Add rows, or set batch_size to 3 or less."
    path = write_jsonl("train.jsonl", [TEXT])
    assert problem(path.parent, batch_size=2).message.startswith(f"{path}: 1 row, fewer")


def test_splits_in_different_formats(write_jsonl: Write) -> None:
    folder = write_jsonl("train.jsonl", [TEXT]).parent
    path = write_jsonl("valid.jsonl", ["", PAIR])
    error = problem(folder)
    assert error.message == (
        f"{path}, line 2: the rows are prompt/completion, but those of train.jsonl are text."
    )
    assert error.hint == "Bring both into one format."


def test_empty_validation_file(write_jsonl: Write) -> None:
    folder = write_jsonl("train.jsonl", [TEXT]).parent
    path = write_jsonl("valid.jsonl", [])
    error = problem(folder)
    assert error.message == f"{path}: the file has no rows."
    assert error.hint == "Put rows into it or delete it; training goes on without it."


def test_first_problem_of_every_file_is_told(write_jsonl: Write) -> None:
    train = write_jsonl("train.jsonl", [TEXT, "x", "x"])
    valid = write_jsonl("valid.jsonl", [{"text": None}])
    error = problem(train.parent)
    assert error.message == (
        f"{train}, line 2: the line is not valid JSON: Expecting value at column 1. "
        "1 more line has problems (line 3).\n"
        f"{valid}, line 1: 'text' must be a string, not null."
    )
    assert (error.path, error.line) == (train, 2)
