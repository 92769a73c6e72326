"""The reference itself is right: its loss is what the logits say, and training lowers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm import load
from mlx_lm.tuner.trainer import default_loss

from tests.smollm2.reference import Batch, Lora, Optimizer, stock_losses

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def batch(smollm2: Path) -> Batch:
    """Give two rows of different lengths, the second one learned from its third token."""
    tokenizer = load(str(smollm2), lazy=True)[1]
    rows = [tokenizer.encode(text) for text in ("Hello there, how are you?", "Fine, thanks!")]
    tokens = np.zeros((2, 12), np.int32)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row
    return Batch(tokens, np.array([[0, len(rows[0])], [2, len(rows[1])]], np.int32))


def test_first_loss_is_the_untrained_models(smollm2: Path, batch: Batch) -> None:
    losses = stock_losses(smollm2, [batch], Lora(), Optimizer(), seed=0)
    model = load(str(smollm2))[0]
    model.set_dtype(mx.float32)
    # mlx-lm's mask ends one token later, hence the shorter rows.
    spans = mx.array(batch.spans) - mx.array([0, 1])
    expected, count = default_loss(model, mx.array(batch.tokens), spans)
    assert losses == pytest.approx([expected.item()], rel=1e-5)
    assert count.item() == batch.spans[:, 1].sum() - 1 - 2


def test_losses_fall_and_repeat(smollm2: Path, batch: Batch) -> None:
    optimizer = Optimizer("adamw", learning_rate=1e-3, clip_norm=1.0)
    lora = Lora(rank=4, num_layers=2, keys=("self_attn.q_proj", "self_attn.v_proj"))
    first = stock_losses(smollm2, [batch] * 4, lora, optimizer, seed=1)
    again = stock_losses(smollm2, [batch] * 4, lora, optimizer, seed=1)
    assert first[-1] < first[0]
    assert first == again


def test_a_mask_of_tokens_narrows_the_span(smollm2: Path, batch: Batch) -> None:
    learned = np.zeros(batch.tokens.shape, np.bool_)
    learned[0, 3] = True
    narrow = Batch(batch.tokens, batch.spans, learned)
    one = Batch(batch.tokens, np.array([[3, 4], [0, 0]], np.int32))
    settings = (Lora(num_layers=1), Optimizer())
    assert stock_losses(smollm2, [narrow], *settings, seed=0) == pytest.approx(
        stock_losses(smollm2, [one], *settings, seed=0)
    )
