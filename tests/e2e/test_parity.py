"""Training a real model comes to mlx-lm's own losses, whichever way a step is evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.scene import EXCHANGES

if TYPE_CHECKING:
    from tests.e2e.scene import Trained

# The runs are made once for every process that needs them.
pytestmark = pytest.mark.xdist_group("trained")
STEPS = 20
RELATIVE_ERROR = 1e-4
CURVE_ERROR = 1e-3


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_losses_are_those_of_mlx_lm(trained: dict[str, Trained], name: str) -> None:
    run = trained[name]
    assert run.outcome.code == 0, run.outcome.err
    assert len(run.losses) >= STEPS
    assert run.losses[:STEPS] == pytest.approx(run.stock[:STEPS], rel=RELATIVE_ERROR)
    # Equal losses say little where nothing was learned: these are the same rows again.
    epoch = EXCHANGES // 2
    assert sum(run.losses[epoch : 2 * epoch]) < 0.95 * sum(run.losses[:epoch])


def test_layer_by_layer_and_whole_graph_give_one_curve(trained: dict[str, Trained]) -> None:
    layers, whole = trained["adamw"], trained["whole-graph"]
    methods = [run.of_kind("started")[0]["step"] for run in (layers, whole)]
    assert methods == ["layers", "whole-graph"]
    assert len(layers.losses) == 30
    assert layers.losses == pytest.approx(whole.losses, rel=CURVE_ERROR)


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_the_event_lines_are_those_of_a_run(trained: dict[str, Trained], name: str) -> None:
    run = trained[name]
    assert run.outcome.out == (run.folder / "events.jsonl").read_text(encoding="utf-8")
    steps, ended = run.of_kind("step"), run.of_kind("ended")[-1]
    assert [step["iteration"] for step in steps] == list(range(1, len(steps) + 1))
    assert sum(step["tokens"] for step in steps) == steps[-1]["trained_tokens"]
    assert all(step["gradient_norm"] > 0 for step in steps)
    assert [saved["reason"] for saved in run.of_kind("checkpoint")] == ["final"]
    assert (ended["status"], ended["iteration"]) == ("completed", len(steps))
    assert run.of_kind("started")[0]["trainable_parameters"] in (4 * 81_408, 30 * 81_408)
