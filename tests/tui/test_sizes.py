"""At every size each word is whole, inside its pane, and where the pane put it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len

from tests.tui.conftest import Watched, app_for, watched
from tests.tui.scripted import ScriptedRun, trained
from tui.paint import Line, plain, width_of
from tui.panes.pane import FRAME_HEIGHT, FRAME_WIDTH, Pane

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = [(80, 24), (100, 30), (120, 40), (200, 60)]
FREE_TEXT = ("log", "samples")
"""Their words are anybody's: they may be cut, and say so with an ellipsis."""
EXPECTED = {
    "loss": ("avg", "val", "★"),
    "memory": ("plan", "base", "LoRA", "activations", "cache", "other", "peak", "footprint"),
    "machine": ("to yellow", "swap", "guard"),
    "pace": ("it/s", "tok/s", "left", "eval", "save"),
}
"""What no size is too small for."""


def long_run() -> ScriptedRun:
    """A run whose numbers are as wide as they get."""
    run = trained(14_990)
    run.shrink()
    return run


def over() -> ScriptedRun:
    run = trained(3000, 3000)
    run.finish()
    return run


def shown(seen: Watched, pane: Pane) -> list[str]:
    """The screen's own cells where a pane is."""
    region = pane.region
    rows = seen.text().splitlines()[region.y : region.bottom]
    return [row[region.x : region.right] for row in rows]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize(
    ("make", "keys"),
    [(long_run, ()), (long_run, ("v", "z")), (over, ("left", "left", "z"))],
    ids=["training", "rates", "looking back"],
)
async def test_no_word_is_clipped_or_covered(
    make: Callable[[], ScriptedRun], keys: tuple[str, ...], size: tuple[int, int]
) -> None:
    async with watched(app_for(make()), size) as seen:
        await seen.look()
        await seen.press(*keys)
        await seen.look()
        rows = seen.text().splitlines()
        assert [cell_len(row) for row in rows] == [size[0]] * size[1]
        panes = [pane for pane in seen.dashboard.query(Pane) if pane.region.width]
        assert len(panes) == 7
        for pane in panes:
            assert_whole(seen, pane)
        for one in panes:
            for other in panes:
                assert one is other or not one.region.overlaps(other.region)


def assert_whole(seen: Watched, pane: Pane) -> None:
    """Each of a pane's words is on the screen, uncut, between the pane's own edges."""
    width = pane.size.width - FRAME_WIDTH
    height = pane.size.height - FRAME_HEIGHT
    picture = pane.picture(seen.dashboard.run_watch, width, height)
    cells = shown(seen, pane)
    assert all(row[0] in "╭│╰" and row[-1] in "╮│╯" for row in cells)
    if pane.id in FREE_TEXT:
        return
    for words in (picture.top, picture.bottom_left, picture.bottom):
        edge = cells[0] if words is picture.top else cells[-1]
        # What does not fit a frame gives way as a whole; in these panes it always fits.
        is_there = plain(words) in edge or pane.id == "checkpoints"
        assert is_there, f"{pane.id}: {plain(words)!r} is not in {edge!r}"
    for row, at in zip(picture.lines[:height], cells[1:-1], strict=False):
        assert width_of(row) <= width, f"{pane.id}: {plain(row)!r} is wider than {width}"
        assert plain(row).rstrip() in at, f"{pane.id}: {plain(row)!r} is not in {at!r}"
    text = "\n".join(cells)
    assert "…" not in text, text
    if pane.id != "loss" or "gradient norm" not in text:
        for words in EXPECTED.get(str(pane.id), ()):
            assert words in text, f"{pane.id} does not say {words!r}:\n{text}"
    assert not _runs_together(picture.lines), text


def _runs_together(rows: tuple[Line, ...]) -> list[str]:
    """Find numbers that touch the word before them, as columns too narrow make them."""
    found: list[str] = []
    for row in rows:
        for (before, _), (after, _) in itertools.pairwise(row):
            if before[-1:].isalpha() and after[:1].isdigit():
                found.append(plain(row))
    return found
