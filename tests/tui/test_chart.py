"""The chart is still where it should be, and shows what must not be missed."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from tests.tui.test_curve import history, noisy
from tui.braille import fill, strokes
from tui.chart import GUTTER, ChartStyle, Marks, draw_chart, progress_ruler, value_ruler
from tui.curve import Buckets, trace
from tui.paint import plain
from tui.plot import Plotter
from tui.scale import Limits, extent, log_limits, round_step, row_limits, value_limits


def chart(losses: list[float], marks: Marks | None = None, *, log: bool = False) -> list[str]:
    """Draw losses on 60 columns and 16 rows, as plain text."""
    steps = history(losses)
    buckets = Buckets()
    buckets.absorb(steps)
    style = ChartStyle(log=log)
    curve = trace(buckets, steps, "iterations", style.window)
    span = Limits(0.0, float(len(losses)))
    lines = draw_chart(Plotter(), curve, marks or Marks(), style, span, (60, 16))
    return [plain(row) for row in lines]


def test_every_row_is_as_wide_as_the_chart() -> None:
    assert {len(row) for row in chart(noisy(500))} == {60}


def test_the_canvas_does_not_move_with_the_numbers() -> None:
    for factor in (0.001, 1, 10, 1000):
        rows = chart([loss * factor for loss in noisy(500)])
        assert {row[GUTTER - 1] for row in rows[:-2]} <= {"│", "┤"}


def test_a_flat_curve_and_a_single_step_can_be_drawn() -> None:
    assert any("⠒" in row or "⠤" in row or "⣀" in row or "⠉" in row for row in chart([2.0] * 50))
    assert chart([2.0])
    assert chart([0.0, 0.0])
    assert chart([math.nan, math.nan])


def test_a_spike_far_above_the_rest_is_marked_and_does_not_flatten_it() -> None:
    losses = noisy(500)
    losses[250] = 80.0
    rows = chart(losses)
    assert rows[0].count("▲") == 1
    assert abs(rows[0].index("▲") - (GUTTER + 27)) <= 1


def test_a_loss_that_is_no_number_is_marked() -> None:
    losses = noisy(500)
    losses[100] = math.nan
    rows = chart(losses)
    assert rows[13].count("✗") == 1


def test_validation_best_checkpoints_and_guard_are_marked() -> None:
    marks = Marks([(100, 2.4), (300, 1.4)], (300, 1.4), [100, 300], [(400, "shrink")])
    rows = chart(noisy(500), marks)
    text = "\n".join(rows)
    assert text.count("◆") == 1
    assert text.count("★") == 1
    assert rows[14].count("▴") == 2
    assert rows[14].count("↓") == 1


def test_a_logarithmic_scale_takes_losses_of_nothing() -> None:
    rows = chart([1.0, 0.1, 0.01, 0.0] * 20, log=True)
    assert any("0.1" in row for row in rows)


@pytest.mark.parametrize("rows", [3, 5, 7, 9, 14, 30, 60])
@pytest.mark.parametrize(
    "limits", [Limits(0.7, 3.9), Limits(1.2, 1.21), Limits(0, 1e-4), Limits(5, 5), Limits(-2, 40)]
)
def test_ticks_lie_on_the_middles_of_evenly_spaced_rows(rows: int, limits: Limits) -> None:
    wide, ticks = row_limits(limits, rows)
    assert wide.low <= limits.low
    assert wide.high >= limits.high
    assert ticks
    places = [wide.share(tick) * rows for tick in ticks]
    if len(ticks) > 1:
        gaps = {round(b - a, 6) for a, b in pairwise(places)}
        assert len(gaps) == 1
        assert all(abs(place % 1 - 0.5) < 1e-6 for place in places)


def test_limits_stand_still_while_numbers_change_a_little() -> None:
    assert row_limits(Limits(0.95, 3.8), 12) == row_limits(Limits(0.96, 3.79), 12)


def test_labels_are_always_as_wide() -> None:
    for low, high in ((0.7, 3.9), (0.001, 0.002), (100, 900)):
        ruler = value_ruler([low], [high], [], 12, log=False)
        assert {len(label) for _, label in ruler.ticks} == {GUTTER - 1}


def test_log_ticks_lie_inside_and_are_not_too_many() -> None:
    for low, high in ((-0.1, 0.6), (-3, 1), (0.30, 0.31)):
        limits, ticks = log_limits(Limits(low, high), 5)
        assert limits.low <= low
        assert limits.high >= high
        assert all(limits.low <= tick <= limits.high for tick in ticks)
        assert 1 <= len(ticks) <= 6


def test_steps_are_round() -> None:
    assert [round_step(raw) for raw in (0.9, 1.1, 2.1, 6)] == [1.0, 2.0, 5.0, 10.0]


def test_limits_leave_out_a_single_spike_but_not_a_plateau() -> None:
    calm = [1.0 + 0.01 * i for i in range(100)]
    assert value_limits(calm, [*calm[:-1], 50.0]) == pytest.approx((1.0, 1.98))
    plateau = [*calm[:60], *[50.0] * 40]
    assert value_limits(calm, plateau) == Limits(1.0, 50.0)
    assert value_limits([math.nan], [math.nan]) is None


@pytest.mark.parametrize(
    ("reached", "whole", "end"),
    [(1, 1000, 1.953125), (400, 1000, 500), (501, 1000, 1000), (1000, 1000, 1000), (3, None, 4)],
)
def test_the_axis_of_progress_doubles(reached: float, whole: float | None, end: float) -> None:
    assert extent(reached, whole) == Limits(0.0, end)


def test_progress_ticks_have_units_where_they_need_them() -> None:
    hours = progress_ruler(Limits(0, 8), "hours", 60)
    assert [label for _, label in hours.ticks] == ["0", "2 h", "4 h", "6 h", "8 h"]
    minutes = progress_ruler(Limits(0, 0.5), "hours", 60)
    assert [label for _, label in minutes.ticks] == ["0", "10 min", "20 min", "30 min"]
    iterations = progress_ruler(Limits(0, 15_000), "iterations", 60)
    assert [label for _, label in iterations.ticks] == ["0", "5k", "10k", "15k"]


def test_braille_fills_from_the_least_to_the_greatest() -> None:
    assert fill([(0.0, 1.0), None], Limits(0, 1), 2) == ["⡇", "⡇"]
    assert fill([None, (0.0, 0.1)], Limits(0, 1), 2) == [" ", "⢀"]
    assert fill([(-5.0, 9.0)] * 2, Limits(0, 1), 1) == ["⣿"]


def test_strokes_bridge_neighbours_and_keep_gaps() -> None:
    bridged = strokes([0, 4], [0.0, 4.0], [0.0, 4.0], Limits(0, 5), 5)
    assert bridged == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]
    gap = strokes([0, 2, 4], [0.0, math.nan, 4.0], [0.0, math.nan, 4.0], Limits(0, 5), 5)
    assert gap == [(0, 0), None, None, None, (4, 4)]


def test_strokes_keep_the_extremes_of_a_column() -> None:
    assert strokes([0, 0.1], [1.0, 0.5], [2.0, 9.0], Limits(0, 10), 5)[0] == (0.5, 9.0)
