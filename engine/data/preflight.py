"""Finds out what a person should know of the data before a night is spent on it."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from engine.data.encode import encoding
from engine.data.encoded import HISTOGRAM_EDGES
from engine.data.plan import BatchPlan
from engine.data.rows import Features, Reading, read_data
from engine.data_facts import DroppedRows, ExamplePart, Preflight
from engine.errors import place_of

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from engine.config import RunConfig
    from engine.data.encoded import EncodedSplit
    from engine.data.formats import Problem
    from engine.data.rows import DataRows
    from engine.data.turns import Tokenizer

_EXAMPLE_TOKENS = 400
_REASONS = 5


class Decoder(Protocol):
    """What showing an example needs of a tokenizer besides encoding."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens."""
        ...


class Inspected(NamedTuple):
    """Data that was read and encoded."""

    preflight: Preflight
    lengths: tuple[int, ...]
    """Tokens of each training row."""


def inspect(
    config: RunConfig, tokenizer: Tokenizer, cache: Path | None = None
) -> Generator[tuple[int, int], None, Inspected]:
    """Read and encode a run's data, and say what is to be known of it.

    Yields how many training rows are encoded, and of how many. A run with the same settings finds
    the tokens in the cache, and so does this after a run. It needs no weights and no MLX.

    Args:
        config: The run's settings.
        tokenizer: The model's.
        cache: The folder of the token cache; None keeps nothing.

    Raises:
        DataError: what a run with these settings would raise.
    """
    rows = read_data(config.data, Features.of(config), config.batch_size, Reading.of(config))
    steps = encoding(rows.train, tokenizer, config.mask_prompt, config.max_seq_length, cache)
    while True:
        try:
            yield next(steps), len(rows.train)
        except StopIteration as end:
            split: EncodedSplit = end.value
            break
    plan = BatchPlan.of(split, config)
    found = preflight(config, rows, split, plan, tokenizer)
    return Inspected(found, tuple(split.lengths.tolist()))


def preflight(
    config: RunConfig,
    rows: DataRows,
    split: EncodedSplit,
    plan: BatchPlan,
    tokenizer: Tokenizer | Decoder,
) -> Preflight:
    """Say what is to be known of data that was read, encoded and planned."""
    statistics = split.statistics
    return Preflight(
        data=config.data,
        found=rows.found,
        train_rows=len(split),
        valid_rows=len(rows.valid),
        held_out_rows=rows.held_out,
        dropped=_by_reason(rows.dropped),
        masked_rows=statistics.dropped,
        refused_rows=statistics.refused,
        truncated_rows=statistics.truncated,
        lost_tokens=statistics.lost_tokens,
        tokens=statistics.tokens,
        trained_tokens=statistics.trained_tokens,
        median_tokens=statistics.median,
        ninetieth_tokens=statistics.ninetieth,
        longest_tokens=statistics.longest,
        longest_line=statistics.longest_line,
        histogram=tuple(zip((*HISTOGRAM_EDGES, None), statistics.histogram, strict=True)),
        padding_waste=plan.padding_waste,
        widths=plan.widths,
        iterations=len(plan),
        epochs=float(plan.epoch[-1]),
        example=_example(split, tokenizer),
        notes=rows.notes,
        warnings=(*rows.warnings, *split.warnings("train")),
    )


def _by_reason(dropped: Sequence[Problem]) -> tuple[DroppedRows, ...]:
    """Rows left out, those whose reasons differ in numbers only put together."""
    first: dict[str, Problem] = {}
    counts: Counter[str] = Counter()
    for problem in dropped:
        reason = re.sub(r"\d+", "N", problem.message)
        first.setdefault(reason, problem)
        counts[reason] += 1
    kinds = [
        DroppedRows(
            count,
            first[reason].message,
            f"{first[reason].path.name}, {place_of(first[reason].path, first[reason].line)}",
        )
        for reason, count in counts.most_common(_REASONS)
    ]
    rest = len(dropped) - sum(kind.rows for kind in kinds)
    return (*kinds, DroppedRows(rest, "other reasons.", "")) if rest else tuple(kinds)


def _example(split: EncodedSplit, tokenizer: Any) -> tuple[ExamplePart, ...]:
    """The row of middling length as text, in stretches that are trained on or are not."""
    row = int(split.lengths.argsort(kind="stable")[len(split) // 2])
    start = int(split.offsets[row])
    stop = min(int(split.offsets[row + 1]), start + _EXAMPLE_TOKENS)
    parts: list[ExamplePart] = []
    while start < stop:
        trained = bool(split.trained[start])
        end = start
        while end < stop and bool(split.trained[end]) == trained:
            end += 1
        parts.append(ExamplePart(tokenizer.decode(split.tokens[start:end].tolist()), trained))
        start = end
    return tuple(parts)
