"""What a person should know of the data before a night is spent on it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from engine.data.encode import encoding
from engine.data.encoded import HISTOGRAM_EDGES
from engine.data.plan import BatchPlan
from engine.data.rows import Features, Reading, read_data
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
_BAR_CELLS = 24
_REASONS = 5


class Decoder(Protocol):
    """What showing an example needs of a tokenizer besides encoding."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens."""
        ...


@dataclass(frozen=True, slots=True)
class DroppedRows:
    """Rows left out for one reason."""

    rows: int
    reason: str
    """Of the first of them."""
    first: str
    """Where that is: ``train.jsonl, line 17``."""


@dataclass(frozen=True, slots=True)
class ExamplePart:
    """A stretch of a rendered row."""

    text: str
    trained: bool


@dataclass(frozen=True, slots=True)
class Preflight:
    """What the data is, what is lost of it, and what the chosen settings make of it."""

    data: str
    found: str
    """What the training rows are: ``alpaca, 51,760 rows → messages``."""
    train_rows: int
    """Rows that are trained on."""
    valid_rows: int
    held_out_rows: int
    """How many of the validation rows were taken from the training rows."""
    dropped: tuple[DroppedRows, ...]
    """Training and validation rows that cannot be used, by reason, the most frequent first."""
    masked_rows: int
    """Training rows left out because no token of them would be trained on."""
    refused_rows: int
    """Training rows left out because the chat template refuses them."""
    truncated_rows: int
    lost_tokens: int
    """Tokens cut off the truncated rows."""
    tokens: int
    """Tokens of an epoch."""
    trained_tokens: int
    """Those of them that are trained on."""
    median_tokens: int
    """Of a row before it is cut, and so the next two."""
    ninetieth_tokens: int
    longest_tokens: int
    longest_line: int
    """The longest row's line in its file."""
    histogram: tuple[tuple[int | None, int], ...]
    """The upper end in tokens of each step, None for the last, and its rows."""
    padding_waste: float
    """Share of all computed positions that is padding, 0 to 1."""
    widths: tuple[int, ...]
    """The widths in tokens that batches are padded to."""
    iterations: int
    epochs: float
    """Passes over the rows that the iterations amount to."""
    example: tuple[ExamplePart, ...]
    """One row as the model will see it."""
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return all of it in words, a line each; trained text stands between ``[`` and ``]``."""
        waste = f"{self.padding_waste:.1%}".replace("%", " %")
        share = f"{self.trained_tokens / max(self.tokens, 1):.0%}".replace("%", " %")
        return [
            f"data      {self.found}",
            f"rows      {self.train_rows:,} to train on, {self._valid_words()}",
            f"tokens    {self.tokens:,} an epoch, {self.trained_tokens:,} trained on ({share})",
            f"a row     {self.median_tokens:,} tokens in the middle, "
            f"{self.ninetieth_tokens:,} at nine in ten, {self.longest_tokens:,} at most",
            *self._bars(),
            f"cut       {self.truncated_rows:,} rows, {self.lost_tokens:,} tokens lost",
            f"padding   {waste} of the positions, batches up to {max(self.widths):,} tokens wide",
            f"passes    {self.epochs:.2f} epochs in {self.iterations:,} iterations",
            *(f"left out  {d.rows:,}: {d.reason} {d.first}".rstrip() for d in self.dropped),
            *(f"left out  {n:,}: {why}" for n, why in self._lost_rows() if n),
            *(f"note      {note}" for note in self.notes[1:]),
            *(f"warning   {warning}" for warning in self.warnings),
            "example   what the model learns to write stands in [ ]",
            *self._example_lines(),
        ]

    def _valid_words(self) -> str:
        if not self.valid_rows:
            return "none to measure on"
        held_out = " (held out)" if self.held_out_rows else ""
        return f"{self.valid_rows:,} to measure on{held_out}"

    def _lost_rows(self) -> tuple[tuple[int, str], ...]:
        return (
            (self.masked_rows, "no token of the row would be trained on."),
            (self.refused_rows, "the model's chat template refuses the row."),
        )

    def _bars(self) -> list[str]:
        most = max((rows for _, rows in self.histogram), default=0)
        return [
            f"  {f'≤ {end:,}' if end else f'> {HISTOGRAM_EDGES[-1]:,}':>8}  "
            f"{'█' * round(_BAR_CELLS * rows / most):<{_BAR_CELLS}}  {rows:,}"
            for end, rows in self.histogram
            if rows
        ]

    def _example_lines(self) -> list[str]:
        marked = "".join(f"[{p.text}]" if p.trained else p.text for p in self.example)
        return [f"  {line}" for line in marked.splitlines()]


def inspect(
    config: RunConfig, tokenizer: Tokenizer, cache: Path | None = None
) -> Generator[tuple[int, int], None, Preflight]:
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
    plan = BatchPlan.build(
        split.lengths,
        split.trained_counts,
        config.batch_size,
        config.iters,
        config.seed,
        config.max_seq_length,
    )
    return preflight(config, rows, split, plan, tokenizer)


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
