"""The batch plan: what every epoch holds, how wide, how fast, and always the same."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from engine.data.encode import EncodedSplit, EncodeStatistics
from engine.data.plan import BatchPlan, evaluation_batches
from engine.data.widths import STEP, choose_widths, round_up
from engine.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_LENGTH = 2048


def chat_lengths(rows: int, seed: int = 0, median: int = 300) -> NDArray[np.int64]:
    """Token counts as chats have them: lognormal, 20 to 2,048."""
    drawn = np.random.default_rng(seed).lognormal(np.log(median), 0.8, rows)
    return np.clip(drawn, 20, MAX_LENGTH).astype(np.int64)


def split_of(lengths: NDArray[np.int64], seed: int = 0) -> EncodedSplit:
    """Rows of random tokens from 1 up, about half of them targets, the last token always."""
    generator = np.random.default_rng(seed)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    total = int(offsets[-1])
    trained = generator.random(total) < 0.5
    trained[offsets[1:] - 1] = True
    trained[offsets[:-1]] = False
    tokens = generator.integers(1, 1000, total).astype(np.int32)
    lines = np.arange(1, len(lengths) + 1, dtype=np.int32)
    return EncodedSplit(tokens, trained, offsets, lines, EncodeStatistics())


def plan_for(
    lengths: NDArray[np.int64],
    batch_size: int = 4,
    iterations: int = 1000,
    seed: int = 0,
    max_widths: int = 32,
) -> BatchPlan:
    """A plan in which all but the first token are targets."""
    return BatchPlan.build(
        lengths, lengths - 1, batch_size, iterations, seed, MAX_LENGTH, max_widths
    )


@pytest.mark.parametrize(("rows", "batch_size"), [(4, 4), (5, 1), (11, 4), (100, 7), (5000, 8)])
def test_an_epoch_has_every_row_once_but_for_leftovers(rows: int, batch_size: int) -> None:
    plan = plan_for(chat_lengths(rows), batch_size, iterations=3 * (rows // batch_size))
    epochs = plan.rows.reshape(3, -1)
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == rows - rows % batch_size
    assert plan.epoch[rows // batch_size - 1] == 1.0
    assert plan.epoch[-1] == 3.0


def test_leftovers_differ_between_epochs_and_rows_are_even_over_time() -> None:
    plan = plan_for(chat_lengths(11), iterations=2 * 1000)
    left_out = [frozenset(range(11)) - {*epoch} for epoch in plan.rows.reshape(1000, -1).tolist()]
    assert len(set(left_out)) > 100
    seen = np.bincount(plan.rows.ravel(), minlength=11)
    assert seen.min() > 0.9 * seen.mean()


def test_rows_of_a_batch_meet_others_every_epoch() -> None:
    plan = plan_for(chat_lengths(1000), iterations=500, max_widths=8)
    first, second = plan.rows[:250], plan.rows[250:]
    together = {frozenset(batch) for batch in first.tolist()}
    assert not together & {frozenset(batch) for batch in second.tolist()}
    assert first.tolist() != second.tolist()


def test_batches_come_in_no_order_of_width() -> None:
    width = plan_for(chat_lengths(1000), iterations=250).width.astype(float)
    assert abs(np.corrcoef(width, np.arange(250))[0, 1]) < 0.2


@pytest.mark.parametrize("max_widths", [1, 2, 8, 16, 32])
@pytest.mark.parametrize("rows", [40, 1003])
def test_widths_are_few_and_fit(rows: int, max_widths: int) -> None:
    lengths = chat_lengths(rows)
    plan = plan_for(lengths, max_widths=max_widths)
    assert len(plan.widths) <= max_widths
    assert all(width % STEP == 0 for width in plan.widths)
    assert list(plan.widths) == sorted(set(plan.widths))
    assert set(plan.width.tolist()) <= set(plan.widths)
    needed = (lengths - 1)[plan.rows].max(axis=1)
    assert (plan.width >= needed).all()
    # The next smaller width would not do.
    below = np.array([0, *plan.widths])[np.searchsorted(plan.widths, plan.width)]
    assert (below < needed).all()
    assert max(plan.widths) <= MAX_LENGTH


def test_full_rows_are_as_wide_as_the_limit() -> None:
    assert plan_for(np.full(8, MAX_LENGTH)).widths == (MAX_LENGTH,)


@pytest.mark.parametrize("seed", range(5))
def test_chosen_widths_are_the_best_there_are(seed: int) -> None:
    positions = np.random.default_rng(seed).integers(1, 12 * STEP, 48)
    batch_widths = np.sort(round_up(positions))[3::4]

    def padded(widths: tuple[int, ...]) -> int:
        return sum(min(w for w in widths if w >= needed) for needed in batch_widths.tolist())

    candidates = np.unique(round_up(positions)).tolist()
    best = min(
        padded((*some, candidates[-1])) for some in itertools.combinations(candidates[:-1], 3)
    )
    assert padded(choose_widths(positions, 4, 4)) == best


def test_widths_of_many_different_lengths_are_found_quickly() -> None:
    positions = np.random.default_rng(0).integers(20, 131_072, 20_000)
    begin = time.process_time()
    widths = choose_widths(positions, 1, 32)
    assert time.process_time() - begin < 3
    assert widths[-1] == round_up(positions).max()


def test_padding_waste_on_chats() -> None:
    plan = plan_for(chat_lengths(1000), iterations=15_000)
    assert 0 < plan.padding_waste <= 0.05
    lengths = chat_lengths(1000)
    used = int((lengths - 1)[plan.rows].sum())
    assert plan.used_positions == used
    assert plan.positions == int(plan.width.astype(np.int64).sum()) * 4
    assert plan.padding_waste == 1 - used / plan.positions


def test_equal_seeds_give_equal_plans_whatever_the_global_generator() -> None:
    lengths = chat_lengths(103)
    np.random.seed(1)
    first = plan_for(lengths)
    np.random.seed(2)
    second = plan_for(lengths)
    other = plan_for(lengths, seed=1)
    assert first.rows.tolist() == second.rows.tolist()
    assert first.rows.tolist() != other.rows.tolist()


@pytest.mark.parametrize("rows", [5, 103, 5000])
def test_a_longer_run_begins_like_a_shorter_one(rows: int) -> None:
    lengths = chat_lengths(rows)
    short, long = plan_for(lengths, iterations=777), plan_for(lengths, iterations=3000)
    assert short.widths == long.widths
    assert short.rows.tolist() == long.rows[:777].tolist()
    assert short.width.tolist() == long.width[:777].tolist()


@pytest.mark.parametrize("rows", [4, 1000])
def test_a_million_iterations_are_planned_in_two_seconds(rows: int) -> None:
    lengths = chat_lengths(rows)
    begin = time.process_time()
    plan = plan_for(lengths, iterations=1_000_000)
    assert time.process_time() - begin < 2
    assert len(plan) == 1_000_000
    assert plan.rows.nbytes + plan.width.nbytes + plan.trained_tokens.nbytes <= 28_000_000


def test_batches_hold_the_rows_and_never_train_on_padding() -> None:
    split = split_of(chat_lengths(103))
    plan = BatchPlan.build(split.lengths, split.trained_counts, 4, 60, 0, MAX_LENGTH)
    for iteration in range(len(plan)):
        batch = plan.batch(iteration, split)
        assert batch.tokens.shape == (4, batch.width + 1)
        assert batch.trained.shape == (4, batch.width)
        assert (batch.tokens.dtype, batch.trained.dtype) == (np.int32, np.bool_)
        # Tokens of these rows are never 0, so a 0 is padding.
        assert not batch.trained[batch.tokens[:, 1:] == 0].any()
        for place, row in enumerate(batch.rows):
            part = slice(split.offsets[row], split.offsets[row + 1])
            length = split.lengths[row]
            assert (batch.tokens[place, :length] == split.tokens[part]).all()
            assert (batch.trained[place, : length - 1] == split.trained[part][1:]).all()
        assert batch.trained_tokens == batch.trained.sum() == plan.trained_tokens[iteration]
        assert batch.epoch == plan.epoch[iteration]
        assert batch.rows.tolist() == plan.rows[iteration].tolist()


def test_no_iterations() -> None:
    plan = plan_for(chat_lengths(10), iterations=0)
    assert (len(plan), plan.positions, plan.padding_waste) == (0, 0, 0.0)


def test_fewer_usable_rows_than_a_batch() -> None:
    with pytest.raises(DataError) as caught:
        plan_for(chat_lengths(3))
    assert caught.value.message == (
        "only 3 training rows can be used, fewer than the batch size of 4."
    )
    assert caught.value.hint == "Add rows, or set batch_size to 3 or less."


@pytest.mark.parametrize("length", [1, MAX_LENGTH + 1])
def test_rows_of_impossible_length(length: int) -> None:
    with pytest.raises(ValueError, match="between 2 and 2048 tokens"):
        plan_for(np.array([10, length, 10, 10]))


def test_evaluation_has_every_row_once_longest_first() -> None:
    split = split_of(chat_lengths(103))
    plan = plan_for(chat_lengths(1000))
    batches = evaluation_batches(split, 4, -1, plan.widths)
    drawn = list(batches)
    assert len(batches) == len(drawn) == 26
    rows = [row for batch in drawn for row in batch.rows.tolist()]
    assert sorted(row for row in rows if row >= 0) == list(range(103))
    assert rows[-1] == -1
    widths = [batch.width for batch in drawn]
    assert widths == sorted(widths, reverse=True)
    assert set(widths) <= set(plan.widths)
    assert all(batch.tokens.shape == (4, batch.width + 1) for batch in drawn)
    assert sum(batch.trained_tokens for batch in drawn) == int(split.trained.sum())
    assert batches.trained_tokens == int(split.trained.sum())


def test_rows_that_fill_a_batch_up_have_no_targets() -> None:
    (batch,) = evaluation_batches(split_of(np.array([9, 12])), 4, -1, (16,))
    assert batch.rows.tolist() == [1, 0, -1, -1]
    assert not batch.trained[2:].any()
    assert not batch.tokens[2:].any()
    assert batch.epoch == 1.0


def test_longer_evaluation_rows_add_one_width() -> None:
    split = split_of(np.array([10, 40, 400, 700]))
    widths = [batch.width for batch in evaluation_batches(split, 1, -1, (16, 64))]
    assert widths == [round_up(np.array([699]))[0], round_up(np.array([699]))[0], 64, 16]
    assert [batch.width for batch in evaluation_batches(split, 4, -1, ())] == [704]


@pytest.mark.parametrize("limit", [1, 5, 25])
def test_limited_evaluation_is_a_fixed_sample_over_all_lengths(limit: int) -> None:
    split = split_of(chat_lengths(1000))
    batches = evaluation_batches(split, 4, limit, (64, MAX_LENGTH))
    again = evaluation_batches(split, 4, limit, (64, MAX_LENGTH))
    assert batches.rows.tolist() == again.rows.tolist()
    rows = batches.rows.ravel()
    assert len(set(rows.tolist())) == len(rows) == 4 * limit
    rank = np.empty(1000, np.int64)
    rank[np.argsort(-split.lengths, kind="stable")] = np.arange(1000)
    # One row from every equal stretch of the lengths.
    assert (rank[rows] * len(rows) // 1000 == np.arange(len(rows))).all()


def test_evaluation_of_nothing() -> None:
    split = split_of(np.array([9, 12]))
    assert list(evaluation_batches(split, 4, 0, (16,))) == []
    empty = split_of(np.zeros(0, np.int64))
    assert list(evaluation_batches(empty, 4, -1, (16,))) == []
