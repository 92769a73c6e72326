"""Holds rows out of the training data to measure on, where the data has none for that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.data.formats import Row

MOST_ROWS = 500
"""More would make an evaluation long without making its mean much surer."""
FEWEST_ROWS = 8
"""Fewer would make it a matter of luck, unless the data is small."""
_LARGEST_SHARE = 10
"""At most one row in so many, however small the data."""
_STREAM = 0x5EED
"""Sets the draw apart from the plan's shuffles of the same seed."""


def held_out_count(rows: int, share: float, batch_size: int) -> int:
    """Return how many of ``rows`` to hold out: 0 where training would be left with too few."""
    if share <= 0:
        return 0
    wanted = max(math.ceil(share * rows), FEWEST_ROWS)
    count = min(wanted, MOST_ROWS, max(rows // _LARGEST_SHARE, math.floor(share * rows)))
    return count if rows - count >= batch_size else 0


def hold_out(
    rows: Sequence[Row], share: float, batch_size: int, seed: int
) -> tuple[list[Row], list[Row]]:
    """Return the rows to train on and those held out, both in their order.

    Equal rows and seeds give equal splits.
    """
    # Imported here: a plan counts rows, and is there at once without it.
    import numpy as np

    count = held_out_count(len(rows), share, batch_size)
    generator = np.random.Generator(np.random.PCG64([seed, _STREAM]))
    chosen = np.zeros(len(rows), np.bool_)
    chosen[generator.permutation(len(rows))[:count]] = True
    train = [row for row, is_out in zip(rows, chosen, strict=True) if not is_out]
    return train, [row for row, is_out in zip(rows, chosen, strict=True) if is_out]
