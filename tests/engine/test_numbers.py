"""Losses and gradients that are no numbers: the batch is left out, and several in a row end it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from engine import events as ev
from engine.view import RunView
from tests.tiny import chat_row, make_tiny_model, write_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.engine.workshop import Finished, Workshop

POISON = "~"
"""A character whose weights are not finite."""


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that gives numbers as long as one token does not occur."""
    folder = make_tiny_model(tmp_path_factory.mktemp("poisoned"), tie_word_embeddings=False)
    weights = load_file(folder / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    weights["lm_head.weight"] = embedding.copy()
    tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
    embedding[tokenizer.token_to_id(POISON)] = np.inf
    save_file(weights, folder / "model.safetensors", {"format": "mlx"})
    return folder


@pytest.fixture
def run_with(workshop: Workshop, poisoned: Path) -> Callable[..., Finished]:
    """Trains on 16 rows of which these hold poison."""

    def run(*bad: int, **changes: Any) -> Finished:
        rows = [
            chat_row("What is Rome?", f"A town{POISON if i in bad else '.'}") for i in range(16)
        ]
        write_rows(workshop.folder / "data" / "train.jsonl", rows)
        data = str(workshop.folder / "data")
        return workshop.run(data=data, model=str(poisoned), validation_split=0.0, **changes)

    return run


def test_a_bad_batch_is_left_out_and_the_others_are_learned(
    run_with: Callable[..., Finished],
) -> None:
    """One row of sixteen: one batch of every four."""
    run = run_with(5, iters=24, save_every=100)
    assert run.ended.status == "completed"
    assert run.of(ev.Started)[0].step == "layers"
    skipped = [guard.iteration for guard in run.of(ev.Guard)]
    assert len(skipped) == 6
    assert {guard.action for guard in run.of(ev.Guard)} == {"skip_batch"}
    steps = run.of(ev.Step)
    assert [step.iteration for step in steps if math.isnan(step.loss)] == skipped
    assert steps[-1].updates == 18
    good = [step.loss for step in steps if math.isfinite(step.loss)]
    assert good[-1] < 0.9 * good[0]
    saved = load_file(run.directory.adapters / "adapters.safetensors")
    assert all(np.isfinite(array).all() for array in saved.values())
    view = RunView()
    view.apply_all(run.events)
    assert view.skipped_batches == 6


def test_several_in_a_row_end_the_run(run_with: Callable[..., Finished]) -> None:
    run = run_with(*range(16), iters=50)
    assert (run.ended.status, run.ended.exit_code, run.ended.iteration) == ("failed", 1, 9)
    assert "5 batches in a row" in run.ended.reason
    assert "learning_rate" in run.ended.hint
    assert [step.updates for step in run.of(ev.Step)] == [0] * 10
    assert [guard.action for guard in run.of(ev.Guard)] == [
        *["skip_batch"] * 5, "reload", *["skip_batch"] * 5
    ]  # fmt: skip
    # What was never good is never saved.
    assert {path.name for path in run.directory.adapters.iterdir()} <= {
        "adapter_config.json",
        *(f"{i:07d}_{what}" for i in (4, 8) for what in ("adapters.safetensors", "state")),
        "adapters.safetensors",
        "README.md",
        "curve.svg",
    }


def test_a_rate_that_is_far_too_high_ends_the_run(workshop: Workshop) -> None:
    run = workshop.run(iters=60, optimizer="sgd", learning_rate=1e30, save_every=100)
    assert (run.ended.status, run.ended.exit_code) == ("failed", 1)
    assert "in a row" in run.ended.reason
    assert run.of(ev.Step)[0].loss > 0


def test_a_bad_batch_spoils_no_others_that_are_accumulated_with_it(
    run_with: Callable[..., Finished],
) -> None:
    """Every update is of four batches, one of them bad: the other three are learned."""
    run = run_with(5, iters=16, grad_accumulation_steps=4)
    assert run.ended.status == "completed"
    steps = run.of(ev.Step)
    assert steps[-1].updates == 4
    assert len(run.of(ev.Guard)) == 4
    good = [step.loss for step in steps if math.isfinite(step.loss)]
    assert good[-1] < good[0]
