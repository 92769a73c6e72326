"""What is measured beside the steps takes no more memory than they do, and its time is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine import events as ev
from engine.eta import EtaEstimator
from engine.step import LayerStep
from tests.engine.workshop import Workshop, mixed_data

if TYPE_CHECKING:
    from pathlib import Path

    import mlx.core as mx

    from engine.step import Control, MicroBatch


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, int]]:
    """Rows and positions of all that evaluations work at once."""
    seen: set[tuple[int, int]] = set()
    loss = LayerStep.loss

    def seeing(self: LayerStep, batch: MicroBatch, control: Control) -> mx.array:
        seen.add(batch.trained.shape)
        return loss(self, batch, control)

    monkeypatch.setattr(LayerStep, "loss", seeing)
    return seen


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_an_evaluation_works_as_many_rows_at_once_as_a_step(
    rows: int, tiny: Workshop, tmp_path: Path, shapes: set[tuple[int, int]]
) -> None:
    """Six rows in batches of four: the second is filled up with rows that count for nothing."""
    workshop = Workshop(tmp_path, tiny.model, mixed_data(tmp_path / "data"))
    settings: dict[str, Any] = {"iters": 1, "steps_per_eval": 100, "step": "layers"}
    at_once = workshop.run("whole", micro_batch_size=4, **settings)
    assert {count for count, _ in shapes} == {4}
    shapes.clear()
    cut = workshop.run("cut", micro_batch_size=rows, **settings)
    assert max(count for count, _ in shapes) == rows
    widest = max(cut.of(ev.Started)[0].widths)
    assert max(width for _, width in shapes) <= widest
    ours, theirs = cut.of(ev.Evaluated), at_once.of(ev.Evaluated)
    assert len(ours) == len(theirs) == 2
    assert [e.val_loss for e in ours] == pytest.approx([e.val_loss for e in theirs], rel=1e-5)
    assert [e.tokens for e in ours] == [e.tokens for e in theirs]


def test_the_time_of_answers_is_foreseen(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[float] = []
    monkeypatch.setattr(EtaEstimator, "add_sample", lambda _, seconds: added.append(seconds))
    run = workshop.run(sample_prompts=["Rome?", "Oslo?"], sample_max_tokens=2)
    assert added == [sampled.seconds for sampled in run.of(ev.Sampled)]
    assert len(added) == 6
