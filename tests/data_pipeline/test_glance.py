"""What local rows are and how long, from their beginning: the same as a run would find in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.config import validate
from engine.data import glance as module
from engine.data.glance import Glance, glance
from engine.data.rows import Features, Reading, read_data
from engine.lengths import find_lengths

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ALPACA = [
    {"instruction": "Name a town.", "input": "", "output": f"Town {i} is one, and so on."}
    for i in range(1, 31)
]
SHAREGPT = [
    {"conversations": [{"from": "human", "value": "Hi there."}, {"from": "gpt", "value": "Hi."}]}
] * 20
LLAMA2 = [{"text": "<s>[INST] Name a town. [/INST] Paris is one. </s>"}] * 20
OASST = [
    message
    for i in range(12)
    for message in (
        {"message_id": f"a{i}", "parent_id": None, "role": "prompter", "text": "Name a town."},
        {"message_id": f"b{i}", "parent_id": f"a{i}", "role": "assistant", "text": "Paris is."},
    )
]


def lines(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def write_list(path: Path, rows: list[Any]) -> None:
    path.write_text(json.dumps(rows), encoding="utf-8")


def table(rows: list[Any]) -> Any:
    return pa.Table.from_pylist(rows)


def write_csv(path: Path, rows: list[Any]) -> None:
    text = "instruction,input,output\n"
    text += "".join(f'{r["instruction"]},{r["input"]},"{r["output"]}\nEnd."\n' for r in rows)
    path.write_text(text, encoding="utf-8")


def write_arrow(path: Path, rows: list[Any], *, is_stream: bool) -> None:
    made = table(rows)
    new = pa.ipc.new_stream if is_stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as sink, new(sink, made.schema) as writer:
        writer.write_table(made, max_chunksize=7)


def write(path: Path, rows: list[Any]) -> None:
    writers: dict[str, Callable[[Path, list[Any]], None]] = {
        ".jsonl": lines,
        ".json": write_list,
        ".csv": write_csv,
        ".parquet": lambda path, rows: pq.write_table(table(rows), path),
        ".arrow": lambda path, rows: write_arrow(path, rows, is_stream=True),
    }
    writers[path.suffix](path, rows)


def seen(data: Path, **settings: Any) -> Glance:
    found = glance(validate({"data": str(data), **settings}))
    assert found is not None
    return found


CASES = [
    *(("train" + suffix, ALPACA) for suffix in (".jsonl", ".json", ".csv", ".parquet", ".arrow")),
    *(("train.jsonl", rows) for rows in (SHAREGPT, LLAMA2, OASST)),
    ("train.parquet", OASST),
]


@pytest.mark.parametrize(("name", "rows"), CASES)
def test_it_finds_what_a_run_reads(tmp_path: Path, name: str, rows: list[Any]) -> None:
    write(tmp_path / name, rows)
    found = seen(tmp_path)
    config = validate({"data": str(tmp_path)})
    read = read_data(config.data, Features.of(config), 4, Reading.of(config))
    assert (found.found, found.train_rows) == (read.found, len(read.train))
    assert found.held_out == read.held_out
    assert found.is_whole
    assert not found.problem
    texts = [m["content"] for row in read.train for m in row.messages]
    lengths = find_lengths(found, 512)
    assert lengths.rows == len(read.train)
    tokens = (sum(map(len, texts)) / 4 + 4 * len(texts)) / len(read.train)
    assert np.mean(lengths.low) < tokens < np.mean(lengths.high)


@pytest.mark.parametrize("name", ["train.jsonl", "train.csv", "train.parquet", "train.arrow"])
def test_of_many_rows_the_first_speak_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 10)
    write(tmp_path / name, ALPACA)
    found = seen(tmp_path, val_batches=0)
    assert (len(found.rows), found.train_rows, found.is_whole) == (10, 30, False)
    assert found.found == "alpaca, 30 rows → messages"
    assert "the first 10 of 30 rows" in find_lengths(found, 512).basis


def test_an_arrow_file_and_one_in_parts(tmp_path: Path) -> None:
    write_arrow(tmp_path / "one.arrow", ALPACA, is_stream=False)
    assert seen(tmp_path / "one.arrow", val_batches=0).train_rows == 30
    (tmp_path / "parts").mkdir()
    for part in ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet"):
        write(tmp_path / "parts" / part, ALPACA)
    assert seen(tmp_path / "parts", val_batches=0).train_rows == 60


def test_rows_of_the_hub_are_not_looked_at(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl", ALPACA)
    assert glance(validate({"data": "owner/name"})) is None
    hub = {"path": "owner/name"}
    assert glance(validate({"data": str(tmp_path), "hf_dataset": hub})) is None


GOOD = json.dumps(ALPACA[0])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("train.jsonl", f'{GOOD}\n{{"text": "So."}}\n', "line 2: the row is text, but line 1 is"),
        ("train.jsonl", '{"foo": 1}\n', "line 1: the row is in no known format"),
        ("train.jsonl", f'{GOOD}\n{{"instr', "line 2: the file ends in the middle of this row"),
        ("train.jsonl", f"{GOOD}\n" * 3, "3 rows, fewer than the batch size of 4"),
        ("train.jsonl", "", "the file has no rows"),
        ("train.json", f"[{GOOD}, ", "not valid JSON: Expecting value at line 1"),
        ("train.csv", 'instruction,input,output\na,b,c\na,b,"c', "row 2: unexpected end of data"),
        ("train.csv", "instruction,input,output\na,b,c\na,b,c,d\n", "row 2: it has more parts"),
        ("train.parquet", "PAR1 and no more", "cannot be read as parquet"),
        ("rows.txt", "words", "the folder has no train.jsonl, only rows.txt"),
    ],
)
def test_it_says_what_a_run_would_be_refused_for(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert words in seen(tmp_path).problem


def test_rows_left_out_are_told_with_their_place(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl", [*ALPACA, {**ALPACA[0], "output": 7}])
    found = seen(tmp_path, val_batches=0)
    assert found.train_rows == 30
    assert found.dropped.startswith(
        "1 of 31 rows of train was left out: line 31: 'output' must be a string, not a number."
    )
