"""Memory stays flat over many steps of mixed widths, and the widths are few."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import numpy as np

from engine import events as ev
from tests.tiny import chat_row, write_rows

if TYPE_CHECKING:
    from tests.engine.workshop import Workshop

STEPS, WARM_UP, GROWTH = 200, 20, 0.02
ROWS = 120
MOST_WIDTHS = 32


def test_memory_does_not_grow_over_steps_of_mixed_widths(workshop: Workshop) -> None:
    """Rows of many lengths, two in a batch, so that nearly every batch has another width."""
    rows = [chat_row("Rome?", "A town. " * (1 + i % 20)) for i in range(ROWS)]
    data = workshop.folder / "data"
    # What other tests left would be freed on the way.
    gc.collect()
    write_rows(data / "train.jsonl", rows)
    run = workshop.run(
        data=str(data),
        iters=STEPS,
        batch_size=2,
        save_every=50,
        grad_accumulation_steps=2,
        optimizer="adamw",
    )
    steps = run.of(ev.Step)
    (started,) = run.of(ev.Started)
    used = {step.width for step in steps}
    assert len(used) <= MOST_WIDTHS
    assert used <= set(started.widths)
    # Every second step ends with gradients that wait for the next; compared are like with like.
    active = np.array([step.memory.active for step in steps])
    for kind in (active[::2], active[1::2]):
        first = kind[: WARM_UP // 2].max()
        assert kind[WARM_UP // 2 :].max() <= (1 + GROWTH) * first
    assert active[0] > active[1]
    # Which buffer is reused for what moves single peaks by some percent, but has no direction.
    peaks = np.array([step.memory.peak for step in steps])
    widths = np.array([step.width for step in steps])
    growths = [
        late.mean() / early.mean()
        for early, late in (np.array_split(peaks[widths == width], 2) for width in used)
    ]
    assert len(growths) >= 8
    assert np.mean(growths) <= 1 + GROWTH


def test_what_is_kept_for_reuse_stays_within_its_limit(workshop: Workshop) -> None:
    """An eighth of the budget."""
    run = workshop.run(iters=12, memory_budget_bytes=100_000_000)
    caches = [step.memory.cache for step in run.of(ev.Step)]
    assert max(caches) <= 100_000_000 // 8
    assert max(caches) > 0
