"""Prints the losses that mlx-lm's own parts come to: ``python -m tests.e2e.stock CONFIG.yaml``.

The batches are the rows that the engine's plan names, encoded and masked by mlx-lm's own data sets.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx_lm
import numpy as np
from mlx_lm.tuner.datasets import CacheDataset, ChatDataset

from engine.config import load_config
from engine.data.encode import encode
from engine.data.plan import BatchPlan
from engine.data.rows import Features, read_data
from tests.smollm2 import reference

if TYPE_CHECKING:
    from engine.config import RunConfig


def stock_batches(config: RunConfig) -> list[reference.Batch]:
    """Give a run's batches with mlx-lm's tokens and spans."""
    rows = read_data(config.data, Features(), config.batch_size).train
    tokenizer: Any = mlx_lm.load(config.model, lazy=True)[1]
    split = encode(rows, tokenizer, config.mask_prompt, config.max_seq_length)
    plan = BatchPlan.of(split, config)
    messages: Any = [{"messages": list(row.messages)} for row in rows]
    dataset: Any = CacheDataset(ChatDataset(messages, tokenizer, mask_prompt=config.mask_prompt))
    return [
        _batch([dataset[int(split.lines[row]) - 1] for row in chosen], int(width))
        for chosen, width in zip(plan.rows, plan.width, strict=True)
    ]


def _batch(rows: list[tuple[list[int], int]], width: int) -> reference.Batch:
    tokens = np.zeros((len(rows), width + 1), np.int32)
    for place, (row, _) in enumerate(rows):
        tokens[place, : len(row)] = row
    spans = np.array([(offset, len(row)) for row, offset in rows], np.int32)
    return reference.Batch(tokens, spans)


def stock_losses(config: RunConfig) -> list[float]:
    """Train as ``mlx_lm.lora`` would and give every step's loss."""
    lora = config.lora_parameters
    schedule = config.lr_schedule
    return reference.stock_losses(
        Path(config.model),
        stock_batches(config),
        reference.Lora(lora.rank, lora.scale, lora.dropout, num_layers=config.num_layers),
        reference.Optimizer(
            config.optimizer,
            config.learning_rate,
            None if schedule is None else schedule.model_dump(),
            config.optimizer_config.get(config.optimizer, {}),
            config.max_grad_norm,
        ),
        config.seed,
    )


if __name__ == "__main__":
    print(json.dumps(stock_losses(load_config(sys.argv[1]))))
