"""Finds the rows that a model is measured on, and their tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engine.data.encode import encode
from engine.data.plan import EvaluationBatches, evaluation_batches
from engine.data.rows import Features, Reading, read_data, read_split
from engine.data.widths import choose_widths
from engine.errors import DataError
from engine.runs import token_cache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.config import RunConfig
    from engine.data.rows import Row

Part = Literal["test", "valid", "train"]
MOST_WIDTHS = 32


@dataclass(frozen=True, slots=True)
class Measured:
    """Rows to measure on, and what they are called."""

    rows: list[Row]
    part: str
    """``test rows``, ``validation rows``, or the name of a file."""
    data: str


def find_rows(config: RunConfig, data: str | None = None, part: Part | None = None) -> Measured:
    """Read the rows to measure on: test rows where there are any, else validation rows.

    Args:
        config: says where the run's own data is, and what its rows' parts are called.
        data: other data: a folder, a file (all rows of it), or a name on the hub.
        part: which of them; None takes the first there is.

    Raises:
        DataError: when there are none.
    """
    if data and Path(data).expanduser().is_file():
        path = Path(data).expanduser()
        return Measured(read_split(path, Features.of(config)), path.name, str(path))
    config = config.model_copy(update={"test": True})
    if data:
        config = config.model_copy(update={"data": data, "hf_dataset": []})
    rows = read_data(config.data, Features.of(config), 1, Reading.of(config))
    found = {"test": rows.test, "valid": rows.valid, "train": rows.train}
    wanted = [part] if part else ["test", "valid"]
    for name in wanted:
        if found[name]:
            words = {"test": "test rows", "valid": "validation rows", "train": "training rows"}
            return Measured(found[name], words[name], config.data)
    raise DataError(
        f"{config.data} has no {' or '.join(wanted)} rows to measure on.",
        hint="Give other data with --data: a folder with test.jsonl, or a file.",
    )


def batches_of(
    rows: Sequence[Row], tokenizer: Any, config: RunConfig, limit: int = -1
) -> tuple[EvaluationBatches, tuple[int, ...]]:
    """Return rows as batches of one row each, and the widths that they are padded to.

    Args:
        rows: checked rows.
        tokenizer: the model's.
        config: says what of them is trained on, and where they are cut.
        limit: the most rows, drawn evenly over the lengths; -1 for all.

    Raises:
        DataError: when no row has anything to measure.
    """
    split = encode(rows, tokenizer, config.mask_prompt, config.max_seq_length, token_cache())
    widths = choose_widths(split.lengths - 1, 1, MOST_WIDTHS)
    return evaluation_batches(split, 1, limit, widths), widths
