"""The help screen: every key, from the one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.bindings import SECTIONS, keys
from tui.settings import shown_keys
from tui.words import wrap

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType

    from tui.bindings import Place

_KEY_WIDTH = 11
_INDENT = 2 + _KEY_WIDTH
_BOX_WIDTH, _MOST_PERCENT = 76, 96
_AROUND = 7
"""Cells of the frame, the padding and the scroll bar."""
_SIGNS = (
    ("⣿", "loss of every step: from the least to the greatest in that stretch"),
    ("━", "its moving average"),
    ("◆ ★", "validation loss, and the best of them"),
    ("▴", "a checkpoint"),
    ("↓ ‖ ●", "the guard shrank the run, paused it, let it go on"),
    ("∅ ↺ ■", "it skipped a batch, went back to a checkpoint, stopped the run"),
    ("█ ▓ ▒ ░", "memory: held, a step's activations, cache, other"),
    ("│ ╎", "the budget; what the device recommends one process to use"),
    ("✗ ▲", "a loss that is not a number; one that goes far beyond the picture"),
)


class HelpScreen(ModalScreen[None]):
    """Says what every key does and what the signs mean."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "dismiss", show=False)
    ]
    DEFAULT_CSS = """
    HelpScreen {
        align: center middle;
        background: $background;
        &:ansi { background: ansi_default; }
    }
    HelpScreen > VerticalScroll {
        width: 76;
        max-width: 96%;
        height: auto;
        max-height: 94%;
        padding: 0 2;
        background: $surface;
        border: round $primary;
        border-title-color: $primary;
        border-title-style: bold;
        border-subtitle-color: $text-muted;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        scrollbar-background: $surface;
        scrollbar-color: $foreground 30%;
    }
    """

    def __init__(self, moved: dict[str, str]) -> None:
        super().__init__()
        self._moved = moved

    def compose(self) -> ComposeResult:
        """Lay out the table, wrapped to the width that it will have."""
        width = min(_BOX_WIDTH, self.app.size.width * _MOST_PERCENT // 100) - _AROUND  # pyright: ignore[reportUnknownMemberType]
        with VerticalScroll() as box:
            box.border_title = "help"
            box.border_subtitle = "↑ ↓ scroll · esc closes"
            yield HelpText(max(1, width), self._moved)


class HelpText(Static):
    """The table, wrapped again where it gets another width than it was made for."""

    def __init__(self, width: int, moved: dict[str, str]) -> None:
        super().__init__(help_text(width, moved))
        self._moved = moved
        self._width = width

    def on_resize(self) -> None:
        """Wrap anew."""
        if self.size.width != self._width:
            self._width = self.size.width
            self.update(help_text(self._width, self._moved))


def help_text(width: int, moved: dict[str, str] | None = None) -> Content:
    """Write the table of keys and the meaning of the signs.

    Args:
        width: cells of a row; what is longer goes on below its beginning.
        moved: keys that a settings file moved, by their ids.
    """
    parts: list[tuple[str, str]] = []
    for title, places in SECTIONS.items():
        parts.append((f"{title}\n", "bold $primary"))
        for ids, shown, words in _described(places):
            parts += _row(shown_keys(ids, moved or {}) or shown, words, width)
        parts.append(("\n", ""))
    parts.append(("The signs\n", "bold $primary"))
    for sign, meaning in _SIGNS:
        parts += _row(sign, meaning, width)
    return Content.assemble(*parts).rstrip()


def _described(places: tuple[Place, ...]) -> list[tuple[list[str], str, str]]:
    """Gather keys that share a description: a key without one belongs to the key before it."""
    gathered: list[tuple[list[str], str, str]] = []
    for key in keys(*places):
        if key.help or not gathered:
            gathered.append(([key.id], key.shown, key.help))
        else:
            gathered[-1][0].append(key.id)
    return gathered


def _row(sign: str, words: str, width: int) -> list[tuple[str, str]]:
    first, *more = wrap(words, max(1, width - _INDENT)) or [""]
    return [
        (f"  {sign:<{_KEY_WIDTH}}", "bold"),
        (f"{first}\n", "$foreground"),
        *((f"{'':{_INDENT}}{row}\n", "$foreground") for row in more),
    ]
