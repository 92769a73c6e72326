"""Draws inside a step are uniform, and depend on their keys and their place in the row alone."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from engine.randomness import drawing_for, keyed_randomness, row_keys

ROWS = range(4)


def draws(
    keys: mx.array, shape: tuple[int, ...], p: float = 0.5, skip: int = 0
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """What ``mx.random.bernoulli`` draws under these keys, after some others."""
    with keyed_randomness(keys):
        for _ in range(skip):
            mx.random.bernoulli(0.5, shape)
        return np.array(mx.random.bernoulli(p, shape))


def numbers(
    keys: mx.array, shape: tuple[int, ...]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The numbers behind the draws, to 8 bits: a draw is whether its number lies below ``p``."""
    found = np.zeros(shape)
    for bit in range(8):
        step = 2.0 ** -(bit + 1)
        with keyed_randomness(keys):
            found += step * (1 - np.array(mx.random.bernoulli(mx.array(found + step), shape)))
    return found


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


KEYS = row_keys(seed=1, iteration=2, rows=ROWS, stream=3)
PLACES = 1 << 16
NOISE = 4 / np.sqrt(len(ROWS) * PLACES)
"""Four standard errors of a correlation of numbers that have nothing to do with one another."""


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.95, 0.999])
def test_the_share_of_draws_is_the_probability(p: float) -> None:
    share = draws(KEYS, (len(ROWS), PLACES), p).mean(axis=1)
    assert share == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / PLACES))


def test_nothing_and_everything() -> None:
    assert not draws(KEYS, (4, PLACES), 0.0).any()
    assert draws(KEYS, (4, PLACES), 1.0).all()


def test_numbers_are_uniform() -> None:
    drawn = numbers(KEYS, (len(ROWS), PLACES))
    count = np.histogram(drawn, bins=256, range=(0, 1))[0]
    expected = drawn.size / 256
    # 255 degrees of freedom: mean 255, standard deviation 22.6.
    assert ((count - expected) ** 2 / expected).sum() < 255 + 5 * 22.6
    assert drawn.mean() == pytest.approx(0.5 - 2**-9, abs=4 * 0.2887 / np.sqrt(drawn.size))
    assert drawn.var() == pytest.approx(1 / 12, rel=0.01)


def test_neighbours_in_a_row_have_nothing_to_do_with_one_another() -> None:
    drawn = numbers(KEYS, (len(ROWS), PLACES))
    for distance in (1, 2, 7, 64):
        assert abs(correlation(drawn[:, distance:], drawn[:, :-distance])) < NOISE


def test_rows_have_nothing_to_do_with_one_another() -> None:
    drawn = numbers(KEYS, (len(ROWS), PLACES))
    for other in ROWS[1:]:
        assert abs(correlation(drawn[0], drawn[other])) < 2 * NOISE


@pytest.mark.parametrize(
    "changes", [{"seed": 2}, {"iteration": 3}, {"stream": 4}, {"rows": range(4, 8)}]
)
def test_other_seeds_steps_layers_and_rows_draw_other_numbers(changes: dict[str, Any]) -> None:
    given: dict[str, Any] = {"seed": 1, "iteration": 2, "rows": ROWS, "stream": 3}
    drawn = numbers(row_keys(**given | changes), (len(ROWS), PLACES))
    assert abs(correlation(drawn, numbers(KEYS, drawn.shape))) < NOISE


def test_the_next_draw_is_another() -> None:
    first, second = (draws(KEYS, (4, PLACES), skip=skip) for skip in (0, 1))
    assert abs(correlation(first, second)) < NOISE


def test_the_same_keys_draw_the_same() -> None:
    again = row_keys(seed=1, iteration=2, rows=ROWS, stream=3)
    assert np.array_equal(draws(KEYS, (4, 100)), draws(again, (4, 100)))


@pytest.mark.parametrize("rows", [[0], [2], [1, 3], [0, 1, 2, 3]])
def test_a_row_draws_the_same_in_any_micro_batch(rows: list[int]) -> None:
    whole = draws(KEYS, (4, 10, 8))
    keys = row_keys(seed=1, iteration=2, rows=rows, stream=3)
    assert np.array_equal(draws(keys, (len(rows), 10, 8)), whole[rows])


def test_a_row_draws_the_same_however_wide_it_is_padded() -> None:
    narrow, wide = draws(KEYS, (4, 10, 8)), draws(KEYS, (4, 24, 8))
    assert np.array_equal(wide[:, :10], narrow)


def test_an_array_that_has_no_rows_draws_too() -> None:
    drawn = draws(KEYS, (7, 64))
    assert drawn.shape == (7, 64)
    assert 0.3 < drawn.mean() < 0.7


def test_draws_of_a_place_do_not_depend_on_those_before() -> None:
    def at_places(*places: int) -> list[np.ndarray]:
        drawn: list[np.ndarray] = []
        with keyed_randomness(KEYS):
            for place in places:
                with drawing_for(place):
                    drawn.append(np.array(mx.random.bernoulli(0.5, (4, PLACES))))
            drawn.append(np.array(mx.random.bernoulli(0.5, (4, PLACES))))
        return drawn

    first, second, after = at_places(0, 1)
    assert abs(correlation(first, second)) < NOISE
    swapped = at_places(1, 0)
    assert np.array_equal(swapped[0], second)
    assert np.array_equal(swapped[1], first)
    # Outside of places the count goes on as if they had not been.
    assert np.array_equal(after, draws(KEYS, (4, PLACES)))


def test_mlx_has_its_own_generator_back_afterwards() -> None:
    original = mx.random.bernoulli
    with pytest.raises(KeyError), keyed_randomness(KEYS):
        raise KeyError
    assert mx.random.bernoulli is original
    with keyed_randomness(KEYS), keyed_randomness(row_keys(9, 9, ROWS, 9)):
        pass
    assert mx.random.bernoulli is original


def test_without_keys_mlx_draws() -> None:
    mx.random.seed(5)
    expected = np.array(mx.random.bernoulli(0.5, (4, 100)))
    mx.random.seed(5)
    with keyed_randomness(None), drawing_for(3):
        assert np.array_equal(np.array(mx.random.bernoulli(0.5, (4, 100))), expected)


def test_a_key_of_its_own_is_respected() -> None:
    key = mx.random.key(7)
    expected = np.array(mx.random.bernoulli(0.5, (4, 100), key))
    with keyed_randomness(KEYS):
        assert np.array_equal(np.array(mx.random.bernoulli(0.5, (4, 100), key)), expected)


def test_mlx_draws_the_same_after_a_step_as_before() -> None:
    """Its hidden state is not touched."""
    mx.random.seed(5)
    expected = np.array(mx.random.normal((10,)))
    mx.random.seed(5)
    draws(KEYS, (4, 100))
    assert np.array_equal(np.array(mx.random.normal((10,))), expected)
