"""Measures a model on rows: loss per token, how sure that is, and how fast it went."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from engine.step import split
from engine.trees import number

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from engine.data.plan import EvaluationBatches
    from engine.step import Control, Stepper

CONFIDENCE = 1.96
"""Standard errors to either side that hold the true value 95 times of 100."""


@dataclass(frozen=True, slots=True)
class Score:
    """What came out."""

    loss: float
    """Mean cross entropy in nats per trained token."""
    loss_low: float
    loss_high: float
    """The 95 % interval; both NaN where one row alone says nothing about others."""
    rows: int
    tokens: int
    """Trained tokens, those that were predicted."""
    seconds: float
    by_row: tuple[tuple[float, int], ...] = field(default=(), repr=False)
    """Each row's loss sum and tokens, in the order in which they were measured."""

    @property
    def perplexity(self) -> float:
        """The exponential of the loss."""
        return perplexity(self.loss)

    @property
    def tokens_per_second(self) -> float:
        """Trained tokens measured a second."""
        return self.tokens / self.seconds if self.seconds else 0.0


def perplexity(loss: float) -> float:
    """Return e to the loss; infinite where a float cannot hold it."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def score(
    stepper: Stepper, batches: EvaluationBatches, control: Control, widths: Sequence[int]
) -> Generator[int, None, Score]:
    """Measure row by row; yields how many rows are done.

    Args:
        stepper: of a model in evaluation mode.
        batches: the rows.
        control: says when to stop.
        widths: what rows are padded to, ascending.

    Raises:
        StepInterrupted: when a stop was asked for.
    """
    began = time.perf_counter()
    sums: list[float] = []
    counts: list[int] = []
    for batch in batches:
        for place, row in enumerate(batch.rows):
            one = split(batch.tokens, batch.trained, 1, widths, first=place)
            if row < 0 or not one.trained_tokens:
                continue
            sums.append(number(stepper.loss(one, control)))
            counts.append(one.trained_tokens)
            yield len(sums)
    return _score(np.array(sums), np.array(counts), time.perf_counter() - began)


def _score(sums: np.ndarray, counts: np.ndarray, seconds: float) -> Score:
    """Put rows together; tokens of one row are alike, so that rows are what varies.

    The interval is that of a ratio of two sums over rows (Cochran, Sampling Techniques, 1977, 6.5).
    """
    rows, tokens = len(sums), int(counts.sum())
    loss, error = _ratio(sums, counts)
    return Score(
        loss=loss,
        loss_low=loss - CONFIDENCE * error,
        loss_high=loss + CONFIDENCE * error,
        rows=rows,
        tokens=tokens,
        seconds=seconds,
        by_row=tuple(zip(sums.tolist(), counts.tolist(), strict=True)),
    )


def _ratio(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Return a sum per token and its standard error, from the spread over rows."""
    rows, tokens = len(sums), int(counts.sum())
    if not tokens:
        return math.nan, math.nan
    ratio = float(sums.sum() / tokens)
    if rows < 2:
        return ratio, math.nan
    spread = float(np.square(sums - ratio * counts).sum())
    return ratio, math.sqrt(spread * rows / (rows - 1)) / tokens


def is_surely_lower(one: Score, other: Score) -> bool:
    """Whether one's loss is lower than the other's with 95 % confidence, row by row.

    Both are measured on the same rows, so that what makes a row hard cancels out.
    """
    counts = [tokens for _, tokens in one.by_row]
    if counts != [tokens for _, tokens in other.by_row]:
        return one.loss_high < other.loss_low
    differences = np.array([a - b for (a, _), (b, _) in zip(one.by_row, other.by_row, strict=True)])
    ratio, error = _ratio(differences, np.array(counts))
    return ratio + CONFIDENCE * error < 0
