"""``pytest.approx`` with types that pyright's strict mode knows."""

from __future__ import annotations

import pytest


def near(value: float, within: float | None = None) -> object:
    """Equal to a float but for rounding, or for an absolute ``within``."""
    return pytest.approx(value, abs=within)  # pyright: ignore[reportUnknownMemberType]
