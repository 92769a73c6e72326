"""The chat rows are what the end-to-end tests count on: alternating turns of mixed lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

_CHAT = Path(__file__).resolve().parents[1] / "data" / "chat"


@pytest.mark.parametrize(("split", "count"), [("train", 176), ("valid", 26), ("test", 26)])
def test_rows(smollm2: Path, split: str, count: int) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(smollm2)
    with (_CHAT / f"{split}.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line)["messages"] for line in lines]
    assert len(rows) == count
    for messages in rows:
        turns = [message["role"] for message in messages if message["role"] != "system"]
        assert turns == ["user", "assistant"] * (len(turns) // 2)
        assert turns
    lengths = [len(tokenizer.apply_chat_template(row, return_dict=False)) for row in rows]
    assert min(lengths) < 60
    assert max(lengths) > 600
