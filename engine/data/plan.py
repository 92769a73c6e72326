"""The batch plan: which rows every iteration trains on and how wide, known before the first step.

Epochs are shuffled in blocks of about 4,096 rows with a generator per (seed, block). So iteration
``i`` has the same rows however many follow, and tiny data sets plan as fast as large ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.data.widths import STEP, choose_widths
from engine.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from engine.config import RunConfig
    from engine.data.encode import EncodedSplit

_BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one step trains on or one evaluation step looks at."""

    tokens: NDArray[np.int32]
    """``[B, T + 1]``: token ids, padded with 0 on the right."""
    trained: NDArray[np.bool_]
    """``[B, T]``: whether ``tokens[:, 1:]`` are targets; never true of padding."""
    width: int
    """T, in positions."""
    rows: NDArray[np.int32]
    """``[B]``: indices into the split; -1 for a row that only fills the shape."""
    epoch: float
    """Passes over the rows up to the end of this batch."""
    trained_tokens: int
    """Targets in the batch."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchPlan:
    """Every batch of a run, as indices."""

    rows: NDArray[np.int32]
    """``[iterations, B]``: indices into the training split."""
    width: NDArray[np.int32]
    """``[iterations]``: positions that each row is padded to."""
    trained_tokens: NDArray[np.int64]
    """``[iterations]``: targets."""
    widths: tuple[int, ...]
    """All widths that batches are padded to, ascending; multiples of 8."""
    batches_per_epoch: int
    used_positions: int
    """Positions of all iterations that hold a token."""

    @classmethod
    def of(cls, split: EncodedSplit, config: RunConfig) -> BatchPlan:
        """Plan a run over its encoded training rows; see ``build``."""
        return cls.build(
            split.lengths,
            split.trained_counts,
            config.batch_size,
            config.iters,
            config.seed,
            config.max_seq_length,
        )

    @classmethod
    def build(
        cls,
        lengths: NDArray[np.integer],
        trained_counts: NDArray[np.integer],
        batch_size: int,
        iterations: int,
        seed: int,
        max_seq_length: int,
        max_widths: int = 32,
    ) -> BatchPlan:
        """Plan all iterations.

        Each epoch shuffles the rows, leaves out the last ``rows % batch_size`` of them, sorts the
        others by the width they need (rows of one width stay shuffled) and shuffles the batches.

        Args:
            lengths: ``[rows]``, tokens of each row, 2 to ``max_seq_length``.
            trained_counts: ``[rows]``, targets of each row.
            batch_size: Rows in a batch.
            iterations: Batches to plan.
            seed: Not negative; equal seeds give equal plans.
            max_seq_length: Tokens that no row exceeds.
            max_widths: The most widths that batches are padded to.

        Raises:
            DataError: There are fewer rows than a batch needs.
            ValueError: A row is shorter than 2 tokens or longer than ``max_seq_length``.
        """
        if len(lengths) < batch_size:
            count = len(lengths)
            raise DataError(
                f"only {count} training row{'' if count == 1 else 's'} can be used, "
                f"fewer than the batch size of {batch_size}.",
                hint=f"Add rows, or set batch_size to {count} or less.",
            )
        if lengths.min() < 2 or lengths.max() > max_seq_length:
            raise ValueError(f"row lengths must lie between 2 and {max_seq_length} tokens")
        positions = lengths.astype(np.int64) - 1
        widths = choose_widths(positions, batch_size, max_widths)
        bucket = np.searchsorted(widths, positions)
        rows = _shuffled_rows(bucket, batch_size, iterations, seed)
        return cls(
            rows=rows,
            width=np.array(widths, np.int32)[bucket[rows].max(axis=1)],
            trained_tokens=trained_counts.astype(np.int64)[rows].sum(axis=1),
            widths=widths,
            batches_per_epoch=len(lengths) // batch_size,
            used_positions=int(positions[rows].sum()),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def batch_size(self) -> int:
        """Rows in a batch."""
        return self.rows.shape[1]

    @property
    def epoch(self) -> NDArray[np.float64]:
        """Passes over the rows up to the end of each iteration, ``[iterations]``."""
        return np.arange(1, len(self) + 1) / self.batches_per_epoch

    @property
    def positions(self) -> int:
        """Positions that all iterations compute, padding included."""
        return int(self.width.sum(dtype=np.int64)) * self.batch_size

    @property
    def padding_waste(self) -> float:
        """The share of positions that is padding, 0 to 1."""
        return 1 - self.used_positions / self.positions if len(self) else 0.0

    def batch(self, iteration: int, split: EncodedSplit) -> Batch:
        """Return the batch of one iteration, counted from 0."""
        width = int(self.width[iteration])
        epoch = (iteration + 1) / self.batches_per_epoch
        return assemble(split, self.rows[iteration], width, epoch)


def assemble(split: EncodedSplit, rows: NDArray[np.int32], width: int, epoch: float) -> Batch:
    """Pad rows of a split to ``[B, width + 1]``; an index of -1 gives a row without targets."""
    tokens = np.zeros((len(rows), width + 1), np.int32)
    trained = np.zeros((len(rows), width), np.bool_)
    for place, row in enumerate(rows):
        if row < 0:
            continue
        start, stop = split.offsets[row], split.offsets[row + 1]
        tokens[place, : stop - start] = split.tokens[start:stop]
        trained[place, : stop - start - 1] = split.trained[start + 1 : stop]
    return Batch(tokens, trained, width, rows, epoch, int(trained.sum()))


def _shuffled_rows(
    bucket: NDArray[np.intp], batch_size: int, iterations: int, seed: int
) -> NDArray[np.int32]:
    """``[iterations, batch_size]``: the rows of every batch, block of epochs by block of epochs."""
    batches = len(bucket) // batch_size
    epochs = max(1, _BLOCK_ROWS // len(bucket))
    # 16-bit keys let NumPy's stable sort count instead of compare.
    key = bucket.astype(np.uint16)
    rows = np.empty((iterations, batch_size), np.int32)
    for block, start in enumerate(range(0, iterations, epochs * batches)):
        generator = np.random.Generator(np.random.PCG64([seed, block]))
        every = np.tile(np.arange(len(bucket), dtype=np.int32), (epochs, 1))
        order = generator.permuted(every, axis=1)[:, : batches * batch_size]
        by_width = np.argsort(key[order], axis=1, kind="stable")
        sorted_rows = np.take_along_axis(order, by_width, axis=1)
        grouped = sorted_rows.reshape(epochs, batches, batch_size)
        shuffle = generator.permuted(np.tile(np.arange(batches), (epochs, 1)), axis=1)
        shuffled = np.take_along_axis(grouped, shuffle[:, :, None], axis=1)
        kept = rows[start : start + epochs * batches]
        kept[:] = shuffled.reshape(-1, batch_size)[: len(kept)]
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationBatches:
    """The batches of an evaluation: the same ones in the same order every time, longest first."""

    split: EncodedSplit
    rows: NDArray[np.int32]
    """``[batches, B]``: indices into the split; -1 fills the last batch up."""
    width: NDArray[np.int32]
    """``[batches]``: positions that each row is padded to."""

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Batch]:
        for index, (rows, width) in enumerate(zip(self.rows, self.width, strict=True)):
            yield assemble(self.split, rows, int(width), (index + 1) / len(self))

    @property
    def trained_tokens(self) -> int:
        """Targets of all batches together."""
        return int(self.split.trained_counts[self.rows[self.rows >= 0]].sum())


def evaluation_batches(
    split: EncodedSplit,
    batch_size: int,
    limit_batches: int,
    widths: Sequence[int],
    seed: int = 0,
) -> EvaluationBatches:
    """Plan an evaluation: rows from long to short, every one of them unless limited.

    Args:
        split: What to evaluate on.
        batch_size: Rows in a batch; a last batch with fewer is filled up with rows without targets.
        limit_batches: The most batches, -1 for all. Rows are then drawn evenly over the lengths.
        widths: The training plan's widths, so that shapes are shared; one more is added if a row
            is longer than all of them.
        seed: Chooses the rows when limited.
    """
    positions = split.lengths - 1
    order = np.argsort(-positions, kind="stable").astype(np.int32)
    wanted = len(order) if limit_batches < 0 else limit_batches * batch_size
    if wanted < len(order):
        order = _spread_sample(order, wanted, seed)
    batches = -(-len(order) // batch_size)
    rows = np.full(batches * batch_size, -1, np.int32)
    rows[: len(order)] = order
    rows = rows.reshape(batches, batch_size)
    longest = positions[rows[:, 0]]
    known = sorted({*widths, *_missing_width(longest, widths)})
    width = np.array(known, np.int32)[np.searchsorted(known, longest)]
    return EvaluationBatches(split, rows, width)


def _missing_width(longest: NDArray[np.int64], widths: Sequence[int]) -> tuple[int, ...]:
    """The width for rows longer than all given widths, if there are any."""
    most = int(longest.max(initial=1))
    return () if widths and most <= max(widths) else (-(-most // STEP) * STEP,)


def _spread_sample(order: NDArray[np.int32], count: int, seed: int) -> NDArray[np.int32]:
    """``[count]``: one row from each of ``count`` equal stretches of the order."""
    borders = np.linspace(0, len(order), count + 1).astype(np.int64)
    generator = np.random.Generator(np.random.PCG64([seed, len(order)]))
    return order[generator.integers(borders[:-1], borders[1:])]
