"""Files of every kind: found under their names, read without a copy, and told when damaged."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from engine.data.formats import Features
from engine.data.rows import read_data
from engine.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

datasets: Any = import_module("datasets")

ROWS = [{"instruction": f"Say {n}.", "input": "", "output": f"{n}"} for n in range(5)]
ANSWERS = [row["output"] for row in ROWS]


def answers(data: Path) -> list[str]:
    """What the assistant says in the training rows."""
    return [row.messages[-1]["content"] for row in read_data(data, Features(), 1).train]


def problem(data: Path) -> str:
    """The message of the error that reading raises."""
    with pytest.raises(DataError) as caught:
        read_data(data, Features(), 1)
    return caught.value.message


def write(path: Path, rows: list[dict[str, str]] = ROWS) -> Path:
    """Write rows in the way that the file's name asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_list(rows)
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        case ".json":
            path.write_text("\ufeff" + json.dumps(rows, indent=1), encoding="utf-8")
        case ".csv":
            table.to_csv(path, index=False)
        case ".tsv":
            table.to_csv(path, index=False, sep="\t")
        case ".parquet":
            table.to_parquet(path)
        case _:
            pyarrow = import_module("pyarrow")
            with pyarrow.ipc.new_stream(str(path), table.data.table.schema) as stream:
                stream.write_table(table.data.table)
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet", "arrow"])
def test_a_single_file_of_each_kind(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"any-name.{suffix}")
    before = sorted(tmp_path.iterdir())
    data = read_data(path, Features(), 1)
    assert [row.messages[-1]["content"] for row in data.train] == ANSWERS
    assert [row.line for row in data.train] == [1, 2, 3, 4, 5]
    assert data.found == "alpaca, 5 rows → messages"
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("suffix", ["json", "csv", "parquet"])
def test_a_folder_of_splits(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"train.{suffix}")
    write(tmp_path / f"validation.{suffix}", ROWS[:2])
    write(tmp_path / f"test.{suffix}", ROWS[:1])
    (tmp_path / "README.md").touch()
    data = read_data(tmp_path, Features(), 1)
    assert [len(data.train), len(data.valid), len(data.test)] == [5, 2, 1]


def test_conversations_in_a_table_lose_the_keys_that_are_null(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    user = {"role": "user", "content": "Hi", "tool_calls": None}
    path = tmp_path / "train.parquet"
    datasets.Dataset.from_list([{"messages": [user, call], "tools": None}]).to_parquet(path)
    (row,) = read_data(path, Features(), 1).train
    assert row.messages == ({"role": "user", "content": "Hi"}, call)
    assert row.tools is None


@pytest.mark.parametrize("name", ["[x].parquet", "what?.csv", "a*b.arrow", "100 % #é.parquet"])
def test_names_that_could_be_patterns(tmp_path: Path, name: str) -> None:
    write(tmp_path / "x.parquet", ROWS[:1])
    assert answers(write(tmp_path / "a [b]" / name)) == ANSWERS


def test_reading_a_table_needs_no_network_and_leaves_nothing_behind(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    program = (
        "import socket\n"
        "def refuse(*_, **__): raise AssertionError('asked the network')\n"
        "socket.getaddrinfo = socket.socket.connect = refuse\n"
        "from engine.data.rows import Features, read_data\n"
        f"print(len(read_data({str(write(tmp_path / 'rows.csv'))!r}, Features(), 1).train))\n"
    )
    outside = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=outside | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("5\n", 0), done.stderr
    left = [path for path in home.rglob("*") if path.is_file()]
    assert all(".cache/huggingface" in path.as_posix() for path in left)
    assert sum(path.stat().st_size for path in left) == 0


def test_parts_in_a_copy_from_the_hub(tmp_path: Path) -> None:
    write(tmp_path / "data" / "train-00001-of-00002-ab12.parquet", ROWS[3:])
    write(tmp_path / "data" / "train-00000-of-00002-cd34.parquet", ROWS[:3])
    assert answers(tmp_path) == ANSWERS


def test_mlx_lms_own_file_wins_over_others_of_its_name(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", ROWS[:2])
    write(tmp_path / "train.parquet")
    assert len(answers(tmp_path)) == 2


def test_the_only_file_of_a_folder_may_have_any_name(tmp_path: Path) -> None:
    write(tmp_path / "alpaca_data.json")
    assert answers(tmp_path) == ANSWERS


def test_json_may_hold_a_row_a_line(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl").rename(tmp_path / "train.json")
    assert answers(path) == ANSWERS


def test_text_in_tables_stays_text(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text(
        'instruction,output\n"Two\nlines, ""quoted""",42\nNone?,NA\nWord?,null\nEmpty?,""\n'
    )
    data = read_data(path, Features(), 1)
    assert [[m["content"] for m in row.messages] for row in data.train] == [
        ['Two\nlines, "quoted"', "42"],
        ["None?", "NA"],
        ["Word?", "null"],
    ]
    assert data.warnings == (
        "1 of 4 rows of train was left out: row 4: turn 2, the assistant's, is empty. "
        "Fill the turn or delete the row.",
    )


def test_jsonl_torn_at_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl")
    path.write_bytes(path.read_bytes()[:-20])
    assert problem(path) == f"{path}, line 5: the file ends in the middle of this row."


def test_json_cut_in_the_middle(tmp_path: Path) -> None:
    path = write(tmp_path / "train.json")
    path.write_bytes(path.read_bytes()[:-30])
    assert problem(path).startswith(f"{path}: not valid JSON: ")
    path.write_bytes(b"[\xff]")
    assert problem(path).startswith(f"{path}: not valid JSON: ")


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_table_cut_in_the_middle(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its records end at its own handler.
    monkeypatch.setattr(logging.getLogger("datasets"), "propagate", True)
    path = write(tmp_path / f"train.{suffix}", ROWS * 2000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert problem(path).startswith(f"{path}: cannot be read as {suffix}: ")
    # The library would say so on the screen as well.
    assert not caplog.records


def test_a_mistyped_file_offers_the_nearest_name(tmp_path: Path) -> None:
    for name in ("b.csv", "guanaco.csv", "guanco.txt"):
        (tmp_path / name).touch()
    assert problem(tmp_path / "guanco.jsonl") == (
        f"{tmp_path / 'guanco.jsonl'}: no such file. Did you mean 'guanaco.csv'?"
    )
    assert problem(tmp_path / "missing.csv") == f"{tmp_path / 'missing.csv'}: no such file."


def test_csv_cut_inside_a_quoted_text(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text('instruction,output\nHi,Yes?\nHi,"No')
    assert problem(path).startswith(f"{path}: cannot be read as csv: ")


def test_csv_row_with_a_part_too_few_or_too_many(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("instruction,output\nHi,Yes?\nHi,No\nHi\n")
    data = read_data(path, Features(), 1)
    assert "row 3: turn 2, the assistant's, is empty." in data.warnings[0]
    path.write_text("instruction,output\nHi,Yes?\nHi,No,Never\n")
    assert "Expected 2 fields in line 3, saw 3" in problem(path)


@pytest.mark.parametrize("header", ["instruction,instruction", "instruction,"])
def test_csv_without_names(tmp_path: Path, header: str) -> None:
    path = tmp_path / "train.csv"
    path.write_text(f"{header}\nHi,Yes?\n")
    assert problem(path) == f"{path}: its first line does not name every column once."


@pytest.mark.parametrize("suffix", ["json", "csv", "parquet"])
def test_an_empty_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"train.{suffix}"
    path.touch()
    assert problem(path) == f"{path}: the file has no rows."


def test_rows_of_a_table_are_named_by_number(tmp_path: Path) -> None:
    path = write(tmp_path / "train.parquet", [{"txt": "a"}])
    assert problem(path).startswith(f"{path}, row 1: the row is in no known format;")
