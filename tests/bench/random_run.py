"""A model folder and rows that need no download: random weights, and words as long as asked."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

DEMO = Path(__file__).parents[2] / "presets" / "demo"
ROWS = {"train": 2000, "valid": 100}
MEDIAN_SHARE, SPREAD = 0.15, 0.8
"""Of the longest row; about as chats lie that are cut at 2,048 tokens (``tests/bench/data.py``)."""
SHORTEST = 20
TOKENS_A_WORD = 4.0
"""Of the demo's data in the demo's tokenizer."""


def write_model(shape: str, folder: Path) -> None:
    """Write random weights in a known shape, with the demo's tokenizer.

    In a process of its own: MLX keeps its memory and belongs to the thread that used it.
    """
    made = subprocess.run(
        [sys.executable, "-m", "tests.bench.random_model", shape, str(folder)],
        check=False, capture_output=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr.decode()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / "model" / file, folder / file)


def write_mixed_rows(folder: Path, longest: int) -> None:
    """Write rows of lognormal lengths, in tokens of the demo's tokenizer."""
    folder.mkdir()
    draw = random.Random(1)
    for split, count in ROWS.items():
        drawn = (MEDIAN_SHARE * longest * draw.lognormvariate(0.0, SPREAD) for _ in range(count))
        lengths = (min(longest, max(SHORTEST, tokens)) for tokens in drawn)
        counts = [round(tokens / TOKENS_A_WORD) for tokens in lengths]
        write_rows(folder / f"{split}.jsonl", counts, draw)


def write_rows(path: Path, word_counts: Iterable[int], draw: random.Random) -> None:
    """Write a row of the demo's words for each count."""
    words = (DEMO / "data" / "train.jsonl").read_text(encoding="utf-8").split()
    texts = (" ".join(draw.choices(words, k=count)) for count in word_counts)
    rows = "".join(f"{json.dumps({'text': text})}\n" for text in texts)
    path.write_text(rows, encoding="utf-8")
