"""What a person should know of the data before a night is spent on it: facts, and in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

_BAR_CELLS = 24


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

    @property
    def left_out_rows(self) -> int:
        """Rows that are not used, for any reason."""
        return sum(d.rows for d in self.dropped) + self.masked_rows + self.refused_rows

    def summary(self) -> str:
        """Return the most important of it in one line."""
        parts = [
            self.found,
            f"{self.train_rows:,} to train on, {self._valid_words()}",
            f"{self.left_out_rows:,} left out, {self.truncated_rows:,} cut",
            f"{self.median_tokens:,} tokens in the middle, {self.longest_tokens:,} at most",
            f"padding {_percent(self.padding_waste)}",
            f"{self.epochs:.2f} epochs",
        ]
        return "; ".join(parts)

    def lines(self) -> list[str]:
        """Return all of it in words, a line each; trained text stands between ``[`` and ``]``."""
        messages = (
            *(f"note      {note}" for note in self.notes[1:]),
            *(f"warning   {warning}" for warning in self.warnings),
        )
        return [*self.figures(), *messages, *self.shown_example()]

    def figures(self) -> list[str]:
        """Return its numbers in words, a line each."""
        share = f"{self.trained_tokens / max(self.tokens, 1):.0%}".replace("%", " %")
        return [
            f"data      {self.found}",
            f"rows      {self.train_rows:,} to train on, {self._valid_words()}",
            f"tokens    {self.tokens:,} an epoch, {self.trained_tokens:,} trained on ({share})",
            f"a row     {self.median_tokens:,} tokens in the middle, "
            f"{self.ninetieth_tokens:,} at nine in ten, {self.longest_tokens:,} at most",
            *self._bars(),
            f"cut       {self.truncated_rows:,} rows, {self.lost_tokens:,} tokens lost",
            f"padding   {_percent(self.padding_waste)} of the positions, "
            f"batches up to {max(self.widths):,} tokens wide",
            f"passes    {self.epochs:.2f} epochs in {self.iterations:,} iterations",
            *(f"left out  {d.rows:,}: {d.reason} {d.first}".rstrip() for d in self.dropped),
            *(f"left out  {n:,}: {why}" for n, why in self._lost_rows() if n),
        ]

    def shown_example(self) -> list[str]:
        """Return a row as the model sees it; trained text stands between ``[`` and ``]``."""
        marked = "".join(f"[{p.text}]" if p.trained else p.text for p in self.example)
        lines = [f"  {line}" for line in marked.splitlines()]
        return ["example   what the model learns to write stands in [ ]", *lines]

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
        last = max((end for end, _ in self.histogram if end), default=0)
        return [
            f"  {f'≤ {end:,}' if end else f'> {last:,}':>8}  "
            f"{'█' * round(_BAR_CELLS * rows / most):<{_BAR_CELLS}}  {rows:,}"
            for end, rows in self.histogram
            if rows
        ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
