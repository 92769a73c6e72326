"""How long a run's rows are, as far as that can be told before a tokenizer is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.data.formats import Row
    from engine.data.glance import Glance

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


def find_lengths(seen: Glance | None, max_seq_length: int) -> Lengths:
    """Return how long the training rows are, from their text or from the limit alone.

    Args:
        seen: the rows that are here; None where there are none.
        max_seq_length: tokens that rows are cut to.
    """
    if seen is not None and seen.rows:
        return _from_text(seen, max_seq_length)
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


def _from_text(seen: Glance, most: int) -> Lengths:
    counts = [_characters(row) for row in seen.rows]
    few, many = TURN_TOKENS
    low = tuple(_bounded(c / MOST_CHARACTERS + few * turns, most) for c, turns in counts)
    high = tuple(_bounded(c / FEWEST_CHARACTERS + many * turns, most) for c, turns in counts)
    rows = seen.train_rows + seen.held_out
    whole = f"{rows:,} rows" if seen.is_whole else f"the first {len(counts):,} of {rows:,} rows"
    basis = f"tokens guessed from the characters of {whole}"
    return Lengths(low, high, seen.train_rows, basis)


def _bounded(tokens: float, most: int) -> int:
    return max(2, min(most, round(tokens)))


def _characters(row: Row) -> tuple[int, int]:
    """Characters and turns of a row."""
    if not row.messages:
        return len(row.text), 1
    contents = (message.get("content") for message in row.messages)
    return sum(len(c) for c in contents if isinstance(c, str)), len(row.messages)
