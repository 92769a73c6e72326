"""Numbers become words that fit their place."""

from __future__ import annotations

import math
from typing import Any

import pytest

from engine.events import Progress
from tests.tui.scripted import START
from tui import words
from tui.paint import bar, centred, fit, line, plain, spread, width_of


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (None, "n/a"), (0, "0 B"), (999, "999 B"), (1500, "1.50 kB"), (148_000_000, "148 MB"),
        (999_600_000, "1.00 GB"), (3_090_000_000, "3.09 GB"), (16_000_000_000, "16.0 GB"),
        (128_000_000_000, "128 GB"),
    ],
)  # fmt: skip
def test_sizes(count: float | None, said: str) -> None:
    assert words.size(count) == said
    assert len(words.size(count)) <= 7


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "n/a"), (math.nan, "n/a"), (-3, "0 s"), (45.4, "45 s"), (59.6, "1 min 00 s"),
        (305, "5 min 05 s"), (720, "12 min"), (11_520, "3 h 12 min"), (187_200, "2 d 4 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, said: str) -> None:
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "now"), (59, "now"), (61, "1 min"), (3599, "59 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_ages(seconds: float, said: str) -> None:
    assert words.age(seconds) == said


def test_clocks_name_the_day_when_it_is_far() -> None:
    assert words.clock(START + 3600, START) == "15:13"
    assert words.clock(START + 30 * 3600, START) == "Tue 20:13"


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "n/a"), (math.nan, "n/a"), (1.2344, "1.234"), (0.0, "0.000"), (0.0004, "4.0e-04"),
     (123.4, "123.4")],
)  # fmt: skip
def test_losses(value: float | None, said: str) -> None:
    assert words.loss(value) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0.4812, "0.48"), (12.34, "12.3"), (99.96, "100"), (1762.2, "1,762")]
)
def test_figures_that_matter(value: float, said: str) -> None:
    assert words.significant(value) == said


def test_axis_counts_are_short() -> None:
    counts = (0, 500, 1500, 15_000, 2e6)
    assert [words.short_count(count) for count in counts] == ["0", "500", "1.5k", "15k", "2M"]


def test_text_of_a_model_cannot_disturb_the_terminal() -> None:
    assert words.one_line("a\x1b[2J\n\tb\x07\u200b c") == "a [2J b c"


def test_cutting_counts_cells_and_says_so() -> None:
    assert words.shorten("abcdef", 6) == "abcdef"
    assert words.shorten("abcdefg", 6) == "abcde…"
    assert words.shorten("日本語日本", 6) == "日本…"
    assert words.shorten("abc", 0) == ""


def test_wrapping_breaks_at_spaces_and_only_then_in_words() -> None:
    assert words.wrap("the cat sat on the mat", 8) == ["the cat", "sat on", "the mat"]
    assert words.wrap("aaaaaaaaaaaa bb", 5) == ["aaaaa", "aaaaa", "aa bb"]
    assert words.wrap("日本語日本語", 4) == ["日本", "語日", "本語"]
    assert words.wrap("  ", 5) == []


def test_rows_are_cut_and_filled_to_their_width() -> None:
    assert plain(fit(line("ab", ("cd", "muted")), 6)) == "abcd  "
    assert plain(fit(line("ab", ("cdef", "muted")), 4)) == "abc…"
    assert plain(spread(line("left side"), line("right"), 12)) == "left s…right"
    assert width_of(line("日本", "a")) == 5


def test_bars_show_something_for_anything() -> None:
    assert plain(bar(0.5, 4, rest="─")) == "━━──"
    assert plain(bar(0.001, 4)) == "╸   "
    assert plain(bar(0.0, 4)) == "    "
    assert plain(bar(7.0, 4)) == "━━━━"


def test_centred_rows_share_their_left_edge() -> None:
    rows = centred([line("abcd"), line("ab")], 10, 4)
    assert [plain(row) for row in rows] == ["", "   abcd", "   ab"]


def test_downloads_say_how_far_how_fast_and_how_long() -> None:
    def said(**how: Any) -> str:
        return words.transfer(Progress(time=0, stage="download", message="downloading", **how))

    whole = {"done": 1_200_000_000, "total": 3_090_000_000}
    assert said(**whole) == "1.20 of 3.09 GB"
    assert said(**whole, per_second=24e6, seconds_left=80) == (
        "1.20 of 3.09 GB, 24.0 MB/s, 1 min 20 s left"
    )
    assert said(**whole, trouble="the connection broke") == "the connection broke"
    assert said(done=12, total=900) == "12 of 900 B"
    assert said() == ""
