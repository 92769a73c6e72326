"""How long a run's rows are, as far as that can be told before a tokenizer is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from engine.model_files import is_local

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_BYTES = 4_000_000
"""What is read of a file; the rest is taken to be like it."""
FEWEST_CHARACTERS, MOST_CHARACTERS = 2.8, 5.0
"""Characters a token in plain text: few with small vocabularies, code or other languages."""
TURN_TOKENS = (2, 6)
"""What a chat template adds to a turn."""
SHORTEST_SHARE = 8
"""Of rows nobody has seen, the shortest mean thought likely: an eighth of the maximum."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of rows in tokens, at least and at most."""

    low: tuple[int, ...]
    high: tuple[int, ...]
    rows: int | None
    """How many rows there are; None when that is not known."""
    basis: str
    """What they are taken from, in words."""

    @classmethod
    def exactly(cls, tokens: Sequence[int], basis: str) -> Lengths:
        """Lengths that were counted."""
        counted = tuple(tokens)
        return cls(counted, counted, len(counted), basis)


def find_lengths(data: str, max_seq_length: int) -> Lengths:
    """Return how long the training rows are, from a local file's text or from the limit alone."""
    file = Path(data).expanduser() / "train.jsonl"
    is_here = is_local(data) and file.is_file()
    if is_here and (found := _from_text(file, max_seq_length)):
        return found
    shortest = max(2, max_seq_length // SHORTEST_SHARE)
    basis = f"rows of {shortest:,} to {max_seq_length:,} tokens, as nobody has counted them yet"
    return Lengths((shortest,), (max_seq_length,), None, basis)


def batches_by_width(lengths: Sequence[int], batch_size: int, step: int = 8) -> dict[int, float]:
    """Return the share of batches of each width when rows of like lengths share a batch."""
    ordered = sorted(lengths)
    longest = ordered[batch_size - 1 :: batch_size] or ordered[-1:]
    shares: dict[int, float] = {}
    for length in longest:
        width = max(step, -(-(length - 1) // step) * step)
        shares[width] = shares.get(width, 0.0) + 1 / len(longest)
    return shares


def _from_text(file: Path, most: int) -> Lengths | None:
    counts = list(_characters(file))
    if not counts:
        return None
    size = file.stat().st_size
    seen = min(size, MOST_BYTES)
    rows = len(counts) if seen == size else round(len(counts) * size / seen)
    few, many = TURN_TOKENS
    low = tuple(_bounded(c / MOST_CHARACTERS + few * turns, most) for c, turns in counts)
    high = tuple(_bounded(c / FEWEST_CHARACTERS + many * turns, most) for c, turns in counts)
    whole = f"{rows:,} rows" if seen == size else f"the first {len(counts):,} of {rows:,} rows"
    return Lengths(low, high, rows, f"tokens guessed from the characters of {whole}")


def _bounded(tokens: float, most: int) -> int:
    return max(2, min(most, round(tokens)))


def _characters(file: Path) -> Iterator[tuple[int, int]]:
    """Characters and turns of each row; a line that is no row is left to the run to complain of."""
    read = 0
    with file.open("rb") as lines:
        for line in lines:
            read += len(line)
            if read > MOST_BYTES:
                return
            try:
                row = json.loads(line)
            except ValueError:
                continue
            texts = list(_texts(row))
            if texts:
                yield sum(map(len, texts)), len(texts)


def _texts(value: Any) -> Iterator[str]:
    """The texts in a row, whatever its format; a word alone is a role or a name."""
    if isinstance(value, str):
        if " " in value:
            yield value
    elif isinstance(value, dict):
        for inner in cast("dict[str, Any]", value).values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _texts(inner)
