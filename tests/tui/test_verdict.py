"""A plan's verdict is one line that a person understands."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.config import load_config
from engine.planning import Seconds, make_plan
from tests.engine.test_planning import FULL, MAC
from tui.verdict import of_budget, span, verdict

PLAN = make_plan(load_config("maximum"), MAC, lengths=FULL)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (32_400, 43_200, "9–12 h"),
        (2400, 10_800, "40 min – 3 h"),
        (0.1, 0.2, "1 s"),
        (40, 59, "40–59 s"),
        (3500, 3590, "58–60 min"),
        (200_000, 500_000, "2–6 d"),
        (7100, 7200, "2 h"),
    ],
)
def test_a_span_is_said_in_the_unit_that_suits_it(low: float, high: float, words: str) -> None:
    assert span(Seconds(low, high)) == words


def test_what_fits_says_how_much_and_how_long() -> None:
    plan = replace(PLAN, budget=5_600_000_000, seconds=Seconds(32_400, 43_200))
    assert verdict(plan) == "fits: 5.13 of 5.60 GB, about 9–12 h"
    assert verdict(replace(plan, seconds=None)) == "fits: 5.13 of 5.60 GB"


def test_what_does_not_fit_says_by_how_much_and_what_to_try() -> None:
    plan = replace(PLAN, budget=PLAN.memory.peak - 1_200_000_000)
    assert verdict(plan) == "too large by 1.20 GB"
    assert verdict(plan, "careful") == "too large by 1.20 GB; try careful"


def test_a_small_peak_keeps_its_own_unit() -> None:
    small = make_plan(load_config("demo"), MAC)
    assert of_budget(small).endswith(" MB of 5.15 GB")
