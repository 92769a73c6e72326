"""Draws a screen as it looks at both sizes, in the light and without colours, and compares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_textual_snapshot import SVGImageExtension
from textual.widgets import Input

from tests.tui.conftest import Watched, watched
from tui.themes import DEFAULT_THEME

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from tui.app import LoraTuiApp

SMALL, WIDE = (80, 24), (120, 40)
LIGHT, ANSI = "lora-light", "ansi-dark"
SIZES = {"80x24": (SMALL, DEFAULT_THEME), "120x40": (WIDE, DEFAULT_THEME)}
LOOKS = SIZES | {"light": (SMALL, LIGHT)}
"""Size and theme by name."""
WITHOUT_COLOURS = {"no_color": (SMALL, DEFAULT_THEME)}
Snapshot = Any  # The plugin's fixture has no type of its own.
SETTLED_SECONDS = 0.02


async def assert_sizes(
    snapshot: Snapshot, make: Callable[[], LoraTuiApp], act: Callable[[Watched], Awaitable[None]]
) -> None:
    """Compare one app's pictures at both sizes, once somebody has acted."""
    await _assert_drawn(snapshot, make(), act, SIZES)


async def assert_looks(
    snapshot: Snapshot,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[], LoraTuiApp],
    act: Callable[[Watched], Awaitable[None]],
) -> None:
    """Compare the pictures at both sizes, in the light, and without colours."""
    await _assert_drawn(snapshot, make(), act, LOOKS)
    # Read when an app is made.
    monkeypatch.setenv("NO_COLOR", "1")
    await _assert_drawn(snapshot, make(), act, WITHOUT_COLOURS)


async def assert_look(
    snapshot: Snapshot,
    app: LoraTuiApp,
    act: Callable[[Watched], Awaitable[None]],
    size: tuple[int, int],
    theme: str = DEFAULT_THEME,
) -> None:
    """Compare one picture."""
    await _assert_drawn(snapshot, app, act, {"x".join(map(str, size)): (size, theme)})


def pressing(*keys: str) -> Callable[[Watched], Awaitable[None]]:
    """Press keys one after the other, each once the one before is answered."""

    async def act(seen: Watched) -> None:
        for key in keys:
            await seen.press(key)

    return act


async def _assert_drawn(
    snapshot: Snapshot,
    app: LoraTuiApp,
    act: Callable[[Watched], Awaitable[None]],
    looks: dict[str, tuple[tuple[int, int], str]],
) -> None:
    pictures: dict[str, str] = {}
    (first, _), *_ = looks.values()
    async with watched(app, first) as seen:
        app.animation_level = "none"
        # Home's look around, and the curves' library.
        await app.workers.wait_for_complete()
        if app.run_watch is not None:
            await seen.look()
        await act(seen)
        for name, (size, theme) in looks.items():
            app.theme = theme
            await seen.pilot.resize_terminal(*size)
            await _settle(seen)
            # One run of text a row would be drawn where the viewer's font puts it.
            pictures[name] = app.export_screenshot(simplify=name not in WITHOUT_COLOURS)
    # All of them, so that one run of --snapshot-update is enough.
    drawn = snapshot.use_extension(SVGImageExtension)
    assert [name for name, picture in pictures.items() if drawn(name=name) != picture] == []


async def _settle(seen: Watched) -> None:
    """Wait until nothing on the screen changes any more."""
    before = ""
    while (now := seen.text()) != before:
        before = now
        for field in seen.app.screen.query(Input):
            field.cursor_blink = False
        await seen.pilot.pause(SETTLED_SECONDS)
        await seen.pilot.wait_for_scheduled_animations()
