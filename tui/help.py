"""The help screen: every key, from the one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.bindings import SECTIONS, keys

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType

_KEY_WIDTH = 11
_SIGNS = (
    ("⣿", "loss of every step: from the least to the greatest in that stretch"),
    ("━", "its moving average"),
    ("◆ ★", "validation loss, and the best of them"),
    ("▴ !", "a checkpoint; something the guard did"),
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
        scrollbar-size-vertical: 1;
        scrollbar-background: $surface;
        scrollbar-color: $foreground 30%;
    }
    """

    def compose(self) -> ComposeResult:
        """Lay out the table."""
        with VerticalScroll() as box:
            box.border_title = "help"
            box.border_subtitle = "↑ ↓ scroll · esc closes"
            yield Static(help_text())


def help_text() -> Content:
    """Write the table of keys and the meaning of the signs."""
    parts: list[Content | tuple[str, str]] = []
    for title, places in SECTIONS.items():
        parts.append((f"{title}\n", "bold $primary"))
        for key in keys(*places):
            if key.help:
                parts.append((f"  {key.shown:<{_KEY_WIDTH}}", "bold"))
                parts.append((f"{key.help}\n", "$foreground"))
        parts.append(("\n", ""))
    parts.append(("The signs\n", "bold $primary"))
    for sign, meaning in _SIGNS:
        parts.append((f"  {sign:<{_KEY_WIDTH}}", "bold"))
        parts.append((f"{meaning}\n", "$foreground"))
    return Content.assemble(*parts).rstrip()
