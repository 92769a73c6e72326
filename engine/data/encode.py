"""Turns rows into token ids, and marks which of them are trained on."""

from __future__ import annotations

from itertools import groupby
from textwrap import shorten
from typing import TYPE_CHECKING, cast

import numpy as np

from engine.data.batch import BatchTokenizer
from engine.data.encoded import HISTOGRAM_EDGES, EncodedSplit, EncodeStatistics
from engine.data.store import TokenStore
from engine.data.turns import Renderer, RowRefusedError
from engine.errors import DataError, place_of

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from engine.data.formats import Row
    from engine.data.turns import Tokenizer

__all__ = ["EncodeStatistics", "EncodedSplit", "Encoder", "encode", "encoding"]

_ROWS_AT_ONCE = 512
"""Enough to keep all cores busy, few enough to show how far it is."""
_LONGER_THAN_THE_MODEL = "sequence-length-is-longer-than-the-specified-maximum"


class Encoder:
    """Encodes rows group by group, so that the caller can show how far it is."""

    def __init__(self, tokenizer: Tokenizer, mask_prompt: bool, max_seq_length: int) -> None:
        _let_rows_be_long(tokenizer)
        self._tokenizer = tokenizer
        self._renderer = Renderer(tokenizer, BatchTokenizer.of(tokenizer, special_tokens=False))
        self._texts = BatchTokenizer.of(tokenizer, special_tokens=True)
        self._mask_prompt = mask_prompt
        self._max_seq_length = max_seq_length
        self._tokens: list[NDArray[np.int32]] = []
        self._trained: list[NDArray[np.bool_]] = []
        self._lines: list[int] = []
        self._whole_lengths: list[int] = []
        self._last_row: Row | None = None
        self._refusal: RowRefusedError | None = None
        self._refused = self._folded = self._dropped = self._last_turn_only = 0
        self._longest = self._longest_line = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Encode some more rows.

        Raises:
            DataError: Prompts of text rows are to be masked, or there is no chat template.
        """
        for is_text, group in groupby(rows, key=lambda row: row.format == "text"):
            if is_text:
                self._add_texts(list(group))
            else:
                self._add_conversations(list(group))

    def finish(self) -> EncodedSplit:
        """Return all rows that were added and hold something to train on.

        Raises:
            DataError: Rows were added, but none of them was kept; or most were refused.
        """
        if self._refusal and self._refused > len(self._whole_lengths):
            raise self._refusal
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
            statistics=self._statistics(lengths, int(trained.sum())),
        )

    def _add_texts(self, rows: Sequence[Row]) -> None:
        """Encode texts, closed by the end-of-sequence token as mlx-lm does."""
        if self._mask_prompt:
            raise DataError(
                "text rows have no prompt that could be masked.",
                rows[0].path,
                rows[0].line,
                "Set mask_prompt to false, or use chat or prompt/completion rows.",
            )
        texts = [row.text for row in rows]
        encode_one = self._tokenizer.encode
        encoded = self._texts.encode(texts, lambda: encode_one(texts[0])) if self._texts else None
        end = self._tokenizer.eos_token_id
        for row, ids in zip(rows, encoded or map(encode_one, texts), strict=True):
            is_open = end is not None and ids[-1:] != [end]
            tokens = np.array([*ids, end] if is_open else ids, np.int32)
            self._keep(row, tokens, np.ones(len(tokens), np.bool_))

    def _add_conversations(self, rows: Sequence[Row]) -> None:
        """Encode the conversations that the template takes."""
        fitting = [fitted for row in rows if (fitted := self._fit(row))]
        self._renderer.look_ahead(fitting, with_turns=self._mask_prompt)
        for row in fitting:
            ids = self._renderer.render(row)
            trained = np.full(len(ids), not self._mask_prompt, np.bool_)
            is_complete = True
            if self._mask_prompt:
                turns = self._renderer.assistant_turns(row, ids)
                is_complete = turns.complete
                for start, stop in turns.spans:
                    trained[start:stop] = True
            is_kept = self._keep(row, np.array(ids, np.int32), trained)
            self._last_turn_only += is_kept and not is_complete

    def _fit(self, row: Row) -> Row | None:
        """The row as the template takes it; None if it does not."""
        try:
            fitted = self._renderer.fit(row)
        except RowRefusedError as error:
            self._refusal = self._refusal or error
            self._refused += 1
            return None
        self._folded += fitted is not row
        return fitted

    def _keep(self, row: Row, tokens: NDArray[np.int32], trained: NDArray[np.bool_]) -> bool:
        """Cut and count one row; put it to the others if anything of it is trained on."""
        self._last_row = row
        if len(tokens) > self._longest:
            self._longest, self._longest_line = len(tokens), row.line
        self._whole_lengths.append(len(tokens))
        trained[:1] = False
        trained = trained[: self._max_seq_length]
        if not trained.any():
            self._dropped += 1
            return False
        # Copied, so that the part that is cut off does not stay in memory.
        self._tokens.append(tokens[: self._max_seq_length].copy())
        self._trained.append(trained.copy())
        self._lines.append(row.line)
        return True

    def _statistics(self, lengths: NDArray[np.int64], trained_tokens: int) -> EncodeStatistics:
        """What became of all rows; ``lengths`` are those of the kept ones."""
        whole = np.array(self._whole_lengths, np.int64)
        lost = np.maximum(whole - self._max_seq_length, 0)
        steps = np.searchsorted(HISTOGRAM_EDGES, whole)
        middle, ninetieth = (
            np.percentile(whole, (50, 90), method="inverted_cdf") if len(whole) else (0, 0)
        )
        return EncodeStatistics(
            rows=len(lengths),
            dropped=self._dropped,
            truncated=int((lost > 0).sum()),
            lost_tokens=int(lost.sum()),
            last_turn_only=self._last_turn_only,
            refused=self._refused,
            refusal=_refusal_words(self._refusal),
            folded=self._folded,
            tokens=int(lengths.sum()),
            trained_tokens=trained_tokens,
            longest=self._longest,
            longest_line=self._longest_line,
            median=int(middle),
            ninetieth=int(ninetieth),
            histogram=tuple(np.bincount(steps, minlength=len(HISTOGRAM_EDGES) + 1).tolist()),
        )


def encoding(
    rows: Sequence[Row],
    tokenizer: Tokenizer,
    mask_prompt: bool,
    max_seq_length: int,
    cache: Path | None = None,
) -> Generator[int, None, EncodedSplit]:
    """Encode rows as ``encode`` does; yields how many are done and returns the split.

    Args:
        rows: As for ``encode``, and so the rest.
        tokenizer: The model's.
        mask_prompt: Whether only what the assistant wrote is trained on.
        max_seq_length: Tokens that a row is cut to.
        cache: A folder that keeps the tokens for the next time, and that they are mapped from; None
            keeps them in memory.

    Raises:
        DataError: as ``encode`` does.
    """
    store = TokenStore.of(cache, rows, tokenizer, mask_prompt, max_seq_length) if cache else None
    found = store.load() if store else None
    if found:
        yield len(rows)
        return found
    encoder = Encoder(tokenizer, mask_prompt, max_seq_length)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        encoder.add(part)
        yield start + len(part)
    split = encoder.finish()
    return store.save(split) if store and len(split) else split


def encode(
    rows: Sequence[Row],
    tokenizer: Tokenizer,
    mask_prompt: bool,
    max_seq_length: int,
    cache: Path | None = None,
) -> EncodedSplit:
    """Encode rows; with ``mask_prompt`` the targets are the tokens of every assistant turn.

    Args:
        rows: Checked rows of one split.
        tokenizer: The model's.
        mask_prompt: Whether only what the assistant wrote is trained on.
        max_seq_length: Tokens that a row is cut to.
        cache: A folder that keeps the tokens for the next time; None keeps them in memory.

    Raises:
        DataError: Prompts of text rows are to be masked, there is no chat template or it refuses
            most rows, or no row has anything to train on.
    """
    steps = encoding(rows, tokenizer, mask_prompt, max_seq_length, cache)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def _let_rows_be_long(tokenizer: Tokenizer) -> None:
    """Keep transformers from warning of rows longer than the model: those are cut and counted."""
    # What a tokenizer said once is noted in it, and not said again.
    said = getattr(tokenizer, "deprecation_warnings", None)
    if isinstance(said, dict):
        cast("dict[str, bool]", said)[_LONGER_THAN_THE_MODEL] = True


def _refusal_words(refusal: RowRefusedError | None) -> str:
    if refusal is None or refusal.path is None:
        return ""
    reason = shorten(refusal.reason, 200, placeholder=" …")
    return f"{place_of(refusal.path, refusal.line or 0)}: {reason}"
