"""What is said of the data before a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine.config import RunConfig
from engine.data.plan import BatchPlan
from engine.data.preflight import inspect
from engine.data_facts import ExamplePart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.data_facts import Preflight

    Write = Callable[[str, Sequence[object]], Path]


CHATS = Path(__file__).resolve().parents[1] / "data" / "chat"


def alpaca(words: int, answer: str = "Paris. ") -> dict[str, str]:
    """A row with so many words of answer."""
    return {"instruction": "Capital of France?", "input": "", "output": answer * words}


ROWS = [
    *(alpaca(words) for words in range(1, 41)),
    alpaca(500),
    alpaca(1, " "),
    alpaca(1, ""),
    {**alpaca(1), "output": 7},
    {**alpaca(1), "instruction": "What is the capital of France? " * 60},
]


@pytest.fixture
def told(tokenizer: Any, write_jsonl: Write) -> Preflight:
    """What is said of the rows above."""
    return run(tokenizer, write_jsonl("train.jsonl", ROWS).parent)


def run(tokenizer: Any, data: Path, **settings: Any) -> Preflight:
    """Look at data with small settings."""
    small = {"max_seq_length": 256, "batch_size": 4, "iters": 100, "mask_prompt": True}
    config = RunConfig.model_validate({"data": str(data), **small, **settings})
    steps = inspect(config, tokenizer)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value.preflight


def test_rows_and_what_is_lost_of_them(told: Preflight) -> None:
    assert told.found == "alpaca, 42 rows → messages"
    assert (told.train_rows + told.masked_rows, told.valid_rows) == (38, 4)
    assert told.held_out_rows == 4
    assert [(kind.rows, kind.reason, kind.first) for kind in told.dropped] == [
        (2, "turn 2, the assistant's, is empty.", "train.jsonl, line 42"),
        (1, "'output' must be a string, not a number.", "train.jsonl, line 44"),
    ]
    assert (told.masked_rows, told.refused_rows) == (1, 0)
    assert told.truncated_rows == 2
    assert told.longest_line in (41, 45)
    assert told.lost_tokens > told.longest_tokens - 256 > 0


def test_lengths_are_those_before_the_cut(told: Preflight) -> None:
    assert sum(rows for _, rows in told.histogram) == told.train_rows + told.masked_rows
    assert told.histogram[-1] == (None, 0)
    assert 0 < told.median_tokens < told.ninetieth_tokens < 256 < told.longest_tokens
    assert 0 < told.trained_tokens < told.tokens


def test_padding_and_epochs_are_those_of_the_plan(told: Preflight) -> None:
    assert told.iterations == 100
    assert told.epochs == 100 / (told.train_rows // 4)
    assert 0 < told.padding_waste < 0.3
    assert 1 < len(told.widths) <= 32


def test_padding_of_real_chats(tokenizer: Any) -> None:
    """The bar: at batch 4 at most one position in twenty is padding."""
    assert run(tokenizer, CHATS, iters=440, max_seq_length=2048).padding_waste <= 0.05


def test_the_example_marks_what_is_trained(told: Preflight) -> None:
    before, trained = told.example
    assert before == ExamplePart(
        "<|im_start|>user\nCapital of France?<|im_end|>\n<|im_start|>assistant\n", trained=False
    )
    assert trained.trained
    assert trained.text.startswith("Paris. Paris. ")
    assert trained.text.endswith("<|im_end|>\n")


def test_words_fit_a_terminal_and_json_is_plain(told: Preflight) -> None:
    lines = told.lines()
    assert lines[0] == "data      alpaca, 42 rows → messages"
    assert f"rows      {told.train_rows:,} to train on, 4 to measure on (held out)" in lines
    assert "left out  2: turn 2, the assistant's, is empty. train.jsonl, line 42" in lines
    assert "left out  1: no token of the row would be trained on." in lines
    assert "  Capital of France?<|im_end|>" in lines
    assert any(line.startswith("  [Paris. Paris. ") for line in lines)
    assert any("held out 4 of 42 rows by seed 0" in line for line in lines)
    assert json.loads(json.dumps(told.to_dict()))["dropped"][0]["rows"] == 2


def test_no_validation_rows_at_all(tokenizer: Any, write_jsonl: Write) -> None:
    told = run(tokenizer, write_jsonl("train.jsonl", ROWS[:8]).parent)
    assert "rows      8 to train on, none to measure on" in told.lines()
    assert "There are no validation rows" in told.warnings[0]


def test_rare_reasons_are_put_together(tokenizer: Any, write_jsonl: Write) -> None:
    speakers = [{"conversations": [{"from": name, "value": "a"}]} for name in "abcdefg"]
    good = {"conversations": [{"from": "user", "value": "a"}, {"from": "gpt", "value": "b"}]}
    told = run(tokenizer, write_jsonl("train.jsonl", [*[good] * 20, *speakers]).parent)
    assert [kind.rows for kind in told.dropped] == [1, 1, 1, 1, 1, 2]
    assert told.dropped[-1].reason == "other reasons."


def test_it_says_what_the_run_will_do(
    tokenizer: Any, write_jsonl: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is built with the run's own settings, the seed among them."""
    seeds: list[int] = []
    build = BatchPlan.build

    def spy(*arguments: Any) -> BatchPlan:
        seeds.append(arguments[4])
        return build(*arguments)

    monkeypatch.setattr(BatchPlan, "build", spy)
    told = run(tokenizer, write_jsonl("train.jsonl", ROWS).parent, seed=5)
    assert seeds == [5]
    assert "by seed 5" in told.notes[1]
