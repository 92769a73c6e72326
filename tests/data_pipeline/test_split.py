"""Rows held out to measure on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.config import RunConfig
from engine.data.formats import Features, Row
from engine.data.rows import Reading, read_data
from engine.data.split import held_out_count, hold_out

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Write = Callable[[str, Sequence[object]], Path]

ROWS = [Row("text", Path("train.jsonl"), line, text=f"{line}") for line in range(1, 1001)]


@pytest.mark.parametrize(
    ("rows", "share", "batch_size", "expected"),
    [
        (100_000, 0.02, 4, 500),
        (10_000, 0.02, 4, 200),
        (1000, 0.02, 4, 20),
        (100, 0.02, 4, 8),
        (50, 0.02, 4, 5),
        (10, 0.02, 4, 1),
        (9, 0.02, 4, 0),
        (3, 0.02, 1, 0),
        (100, 0.5, 4, 50),
        (10, 0.02, 10, 0),
        (1000, 0.0, 4, 0),
    ],
)
def test_how_many(rows: int, share: float, batch_size: int, expected: int) -> None:
    assert held_out_count(rows, share, batch_size) == expected


def test_the_seed_alone_decides_which() -> None:
    train, valid = hold_out(ROWS, 0.02, 4, seed=1)
    assert sorted([*train, *valid], key=lambda row: row.line) == ROWS
    assert [row.line for row in valid] == sorted(row.line for row in valid)
    assert hold_out(ROWS, 0.02, 4, seed=1) == (train, valid)
    assert hold_out(ROWS, 0.02, 4, seed=2)[1] != valid


def test_only_where_the_data_has_no_validation_rows(write_jsonl: Write) -> None:
    path = write_jsonl("train.jsonl", [{"text": f"{n}"} for n in range(100)])
    reading = Reading(validation_split=0.02, seed=7)
    rows = read_data(path.parent, Features(), 4, reading)
    assert (len(rows.train), len(rows.valid), rows.held_out) == (92, 8, 8)
    assert rows.notes == (
        "text, 100 rows",
        "the data has no validation rows: held out 8 of 100 rows by seed 7 "
        "(validation_split: 0.02)",
    )
    write_jsonl("valid.jsonl", [{"text": "a"}])
    rows = read_data(path.parent, Features(), 4, reading)
    assert (len(rows.train), len(rows.valid), rows.held_out) == (100, 1, 0)


def test_three_rows_are_trained_on_without_any_to_measure_on(write_jsonl: Write) -> None:
    path = write_jsonl("train.jsonl", [{"text": "a"}] * 3)
    rows = read_data(path.parent, Features(), 1, Reading(validation_split=0.02))
    assert (len(rows.train), rows.valid) == (3, [])
    assert rows.warnings == (
        "There are no validation rows, and too few rows to hold any out: "
        "the run will not know its validation loss. Add valid.jsonl.",
    )


def test_nothing_is_held_out_where_nothing_will_be_measured() -> None:
    assert Reading.of(RunConfig()).validation_split == 0.02
    assert Reading.of(RunConfig(val_batches=0)).validation_split == 0.0
