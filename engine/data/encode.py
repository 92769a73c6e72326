"""Turns rows into token ids, and marks which of them are trained on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.data.turns import Renderer
from engine.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engine.data.formats import Row
    from engine.data.turns import Tokenizer


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
    tokens: int = 0
    """Tokens kept."""
    trained_tokens: int = 0
    """Tokens kept that are trained on."""
    longest: int = 0
    """Tokens of the longest row before it was cut."""

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

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, ``[rows]``."""
        return np.diff(self.offsets)

    @property
    def trained_counts(self) -> NDArray[np.int64]:
        """Trained tokens of each row, ``[rows]``."""
        totals = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.trained, dtype=np.int64)])
        return np.diff(totals[self.offsets])

    def fingerprint(self) -> str:
        """Return a sha256 of tokens, targets and row borders: equal data, equal fingerprint."""
        digest = hashlib.sha256()
        for array, kind in ((self.offsets, "<i8"), (self.tokens, "<i4"), (self.trained, "|b1")):
            digest.update(array.astype(kind).tobytes())
        return digest.hexdigest()


class Encoder:
    """Encodes rows one at a time, so that the caller can show how far it is."""

    def __init__(self, tokenizer: Tokenizer, mask_prompt: bool, max_seq_length: int) -> None:
        self._tokenizer = tokenizer
        self._renderer = Renderer(tokenizer)
        self._mask_prompt = mask_prompt
        self._max_seq_length = max_seq_length
        self._tokens: list[NDArray[np.int32]] = []
        self._trained: list[NDArray[np.bool_]] = []
        self._lines: list[int] = []
        self._last_row: Row | None = None
        self._dropped = self._truncated = self._lost = self._last_turn_only = self._longest = 0

    def add(self, row: Row) -> None:
        """Encode one more row.

        Raises:
            DataError: Prompts of text rows are to be masked, or the chat template refuses the row.
        """
        tokens, trained, complete = self._encode(row)
        kept = tokens[: self._max_seq_length]
        trained = trained[: self._max_seq_length]
        self._last_row = row
        self._longest = max(self._longest, len(tokens))
        self._truncated += len(kept) < len(tokens)
        self._lost += len(tokens) - len(kept)
        if not trained.any():
            self._dropped += 1
            return
        self._last_turn_only += not complete
        self._tokens.append(kept)
        self._trained.append(trained)
        self._lines.append(row.line)

    def finish(self) -> EncodedSplit:
        """Return all rows that were added and hold something to train on.

        Raises:
            DataError: Rows were added, but none of them was kept.
        """
        if self._last_row is not None and not self._tokens:
            masked = " with mask_prompt" if self._mask_prompt else ""
            raise DataError(
                f"no row has a token to train on{masked}.",
                self._last_row.path,
                hint="Add assistant turns, or raise max_seq_length if prompts alone fill it.",
            )
        lengths = np.array([len(row) for row in self._tokens], np.int64)
        trained = np.concatenate([np.zeros(0, np.bool_), *self._trained])
        return EncodedSplit(
            tokens=np.concatenate([np.zeros(0, np.int32), *self._tokens]),
            trained=trained,
            offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
            lines=np.array(self._lines, np.int32),
            statistics=EncodeStatistics(
                rows=len(lengths),
                dropped=self._dropped,
                truncated=self._truncated,
                lost_tokens=self._lost,
                last_turn_only=self._last_turn_only,
                tokens=int(lengths.sum()),
                trained_tokens=int(trained.sum()),
                longest=self._longest,
            ),
        )

    def _encode(self, row: Row) -> tuple[NDArray[np.int32], NDArray[np.bool_], bool]:
        """A row's tokens, its targets, and whether every assistant turn was located."""
        is_text = row.format == "text"
        ids = self._encode_text(row) if is_text else self._renderer.render(row)
        complete = True
        trained = np.full(len(ids), not self._mask_prompt, np.bool_)
        if self._mask_prompt:
            turns = self._renderer.assistant_turns(row, ids)
            complete = turns.complete
            for start, stop in turns.spans:
                trained[start:stop] = True
        trained[:1] = False
        return np.array(ids, np.int32), trained, complete

    def _encode_text(self, row: Row) -> list[int]:
        """A text's tokens, closed by the end-of-sequence token as mlx-lm does."""
        if self._mask_prompt:
            raise DataError(
                "text rows have no prompt that could be masked.",
                row.path,
                row.line,
                "Set mask_prompt to false, or use chat or prompt/completion rows.",
            )
        ids = list(self._tokenizer.encode(row.text))
        end = self._tokenizer.eos_token_id
        if end is not None and ids[-1:] != [end]:
            ids.append(end)
        return ids


def encode(
    rows: Sequence[Row], tokenizer: Tokenizer, mask_prompt: bool, max_seq_length: int
) -> EncodedSplit:
    """Encode rows; with ``mask_prompt`` the targets are the tokens of every assistant turn.

    Args:
        rows: Checked rows of one split.
        tokenizer: The model's.
        mask_prompt: Whether only what the assistant wrote is trained on.
        max_seq_length: Tokens that a row is cut to.

    Raises:
        DataError: Prompts of text rows are to be masked, the chat template refuses a row, or no
            row has anything to train on.
    """
    encoder = Encoder(tokenizer, mask_prompt, max_seq_length)
    for row in rows:
        encoder.add(row)
    return encoder.finish()


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
