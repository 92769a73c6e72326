"""One line at the bottom of the screen, for words that the log should be about."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.screen import ModalScreen
from textual.widgets import Input

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult
    from textual.binding import BindingType

HINT = "guard, checkpoint, warning, or any word · enter keeps, esc shows all"


class FilterBox(ModalScreen[None]):
    """Filters while one types; enter keeps the filter, escape drops it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "drop", show=False)]
    DEFAULT_CSS = """
    FilterBox {
        align: left bottom;
        background: transparent;
        Input {
            width: 1fr;
            height: 3;
            border: round $primary;
            background: $surface;
            border-title-color: $primary;
            border-subtitle-color: $text-muted;
            &:focus { border: round $primary; }
        }
    }
    """

    def __init__(self, words: str, changed: Callable[[str], None]) -> None:
        super().__init__()
        self._words = words
        self._changed = changed

    def compose(self) -> ComposeResult:
        """Show the line."""
        box = Input(self._words, select_on_focus=False)
        box.cursor_blink = False
        box.border_title = "the log shows only"
        box.border_subtitle = HINT
        yield box

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter by what is there so far."""
        self._changed(event.value)

    def on_input_submitted(self) -> None:
        """Keep the filter."""
        self.dismiss()

    def action_drop(self) -> None:
        """Show everything again."""
        self._changed("")
        self.dismiss()
