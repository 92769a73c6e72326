"""The rows of a split as tokens, and what became of them on the way."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

HISTOGRAM_EDGES = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""Tokens: the upper ends of the histogram's steps; the last step has none."""


@dataclass(frozen=True, slots=True)
class EncodeStatistics:
    """What became of the rows of a split."""

    rows: int = 0
    """Rows kept."""
    dropped: int = 0
    """Rows left out because no token of them would be trained on."""
    truncated: int = 0
    """Rows cut at the maximum length, the dropped ones among them."""
    lost_tokens: int = 0
    """Tokens cut off."""
    last_turn_only: int = 0
    """Rows kept of which only the last assistant turn could be located."""
    refused: int = 0
    """Rows left out because the chat template refuses them."""
    refusal: str = ""
    """The first of them, and why."""
    folded: int = 0
    """Rows whose system text was put before the first user turn."""
    tokens: int = 0
    """Tokens kept."""
    trained_tokens: int = 0
    """Tokens kept that are trained on."""
    longest: int = 0
    """Tokens of the longest row before it was cut."""
    longest_line: int = 0
    """Its line in its file, from 1."""
    median: int = 0
    """Tokens of a row before it was cut."""
    ninetieth: int = 0
    """Nine in ten rows have so many tokens or fewer, before they were cut."""
    histogram: tuple[int, ...] = (0,) * (len(HISTOGRAM_EDGES) + 1)
    """Rows by tokens before they were cut; step ``i`` ends at ``HISTOGRAM_EDGES[i]``."""

    def warnings(self, name: str) -> tuple[str, ...]:
        """Return what a person should know, in words; ``name`` is the split's."""
        lines: list[str] = []
        if self.truncated:
            lines.append(
                f"{_rows(self.truncated)} of {name} cut to max_seq_length: {self.lost_tokens:,} "
                f"tokens lost. The longest has {self.longest:,}; split it or raise max_seq_length."
            )
        if self.dropped:
            lines.append(
                f"{_rows(self.dropped)} of {name} left out: no token of them would be trained on."
            )
        if self.refused:
            lines.append(
                f"{_rows(self.refused)} of {name} left out, refused by the model's chat template. "
                f"The first is {self.refusal}"
            )
        if self.folded:
            lines.append(
                f"{_rows(self.folded)} of {name} without a system turn: the model's chat template "
                "refuses those, so the text was put before the user's first turn."
            )
        if self.last_turn_only:
            lines.append(
                f"{_rows(self.last_turn_only)} of {name} trained on the last assistant turn only: "
                "the chat template does not show where the earlier ones are."
            )
        return tuple(lines)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedSplit:
    """All rows of a split, end to end in flat arrays."""

    tokens: NDArray[np.int32]
    """``[tokens]``: token ids."""
    trained: NDArray[np.bool_]
    """``[tokens]``: whether the token is a target; a row's first never is."""
    offsets: NDArray[np.int64]
    """``[rows + 1]``: row ``i`` is ``offsets[i]:offsets[i + 1]``."""
    lines: NDArray[np.int32]
    """``[rows]``: each row's line in its file, from 1."""
    statistics: EncodeStatistics
    note: str = ""
    """Why the tokens are in memory rather than in the cache; empty if that was never meant."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, ``[rows]``."""
        return np.diff(self.offsets)

    @property
    def trained_counts(self) -> NDArray[np.int64]:
        """Trained tokens of each row, ``[rows]``."""
        if not len(self):
            return np.zeros(0, np.int64)
        # Summed row by row: running totals would take twice the memory of the tokens.
        return np.add.reduceat(self.trained, self.offsets[:-1], dtype=np.int64)

    def warnings(self, name: str) -> tuple[str, ...]:
        """Return what a person should know, in words; ``name`` is the split's."""
        return (*self.statistics.warnings(name), *filter(None, (self.note,)))

    def fingerprint(self) -> str:
        """Return a sha256 of tokens, targets and row borders: equal data, equal fingerprint."""
        digest = hashlib.sha256()
        for array, kind in ((self.offsets, "<i8"), (self.tokens, "<i4"), (self.trained, "|b1")):
            digest.update(np.ascontiguousarray(array, kind).data)
        return digest.hexdigest()


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
