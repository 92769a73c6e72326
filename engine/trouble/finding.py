"""What a detector found, and the robust statistics that it was found with."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.events import TroubleShape

_MAD_TO_SIGMA = 1.4826
"""Of a normal distribution: one standard deviation in median absolute deviations."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A trouble, in words and numbers."""

    shape: TroubleShape
    words: str
    suggestion: str
    evidence: dict[str, float] = field(default_factory=dict[str, float])


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the median, and the standard deviation as the median deviation from it suggests.

    A few wild values move neither.
    """
    centre = median(values)
    return centre, _MAD_TO_SIGMA * median([abs(value - centre) for value in values])
