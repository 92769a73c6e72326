"""Checkpoints are judged on the same rows, and what differs between them is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.errors import InputError
from engine.score import Score, is_surely_lower
from engine.use.chosen import choose
from engine.use.compare import Comparison, compare

if TYPE_CHECKING:
    from tests.engine.workshop import Workshop


def never() -> bool:
    return False


def test_the_best_on_the_same_rows(workshop: Workshop) -> None:
    good = workshop.run("good", learning_rate=1e-2)
    poor = workshop.run("poor", learning_rate=1e-5, mask_prompt=True)
    names = [f"{good.directory.path}@3", str(good.directory.path), str(poor.directory.path)]
    *_, found = compare([choose(name) for name in names], never, max_tokens=3)
    assert isinstance(found, Comparison)
    assert [c.label for c in found.contenders] == ["good@3", "good@6", "poor@6"]
    assert (found.best, found.judged_by) == ("good@6", "validation rows")
    assert found.differing["learning_rate"] == [1e-2, 1e-2, 1e-5]
    assert found.differing["mask_prompt"] == [False, False, True]
    assert "lora_parameters.rank" not in found.differing
    # Measured as the first one was, though the third was trained with masked prompts.
    assert len({c.scores["validation rows"].tokens for c in found.contenders}) == 1
    of_good = found.contenders[1]
    assert of_good.scores["validation rows"].loss == pytest.approx(of_good.curve[-1][1], rel=1e-5)
    assert [i for i, _ in of_good.curve] == [0, 3, 6]
    assert set(of_good.answers) == {"What do you know of Paris?", "What do you know of Madrid?"}


def test_one_alone_is_nothing_to_compare(workshop: Workshop) -> None:
    run = workshop.run()
    with pytest.raises(InputError, match="nothing to compare"):
        list(compare([choose(str(run.directory.path))], never))


def score_of(*rows: tuple[float, int]) -> Score:
    loss = sum(s for s, _ in rows) / sum(n for _, n in rows)
    return Score(loss, loss - 9, loss + 9, len(rows), sum(n for _, n in rows), 1.0, rows)


def test_a_small_difference_is_sure_when_every_row_agrees() -> None:
    """Row by row what makes a row hard cancels out, although both intervals are wide."""
    one = score_of((10.0, 10), (50.0, 10), (90.0, 10))
    assert is_surely_lower(one, score_of((10.5, 10), (50.6, 10), (90.5, 10)))
    assert not is_surely_lower(one, score_of((8.0, 10), (54.0, 10), (90.0, 10)))
    assert not is_surely_lower(one, one)
