"""A framed list that keeps its cursor on the same thing while its rows change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widgets import OptionList
from textual.widgets.option_list import Option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual import events
    from textual.content import Content

FRAME_WIDTH = 5
"""Border, a space on both sides, and the scrollbar."""


class Shelf(OptionList):
    """Rows by their ids; a click moves the cursor, a click on the cursor chooses."""

    DEFAULT_CSS = """
    Shelf {
        height: 1fr;
        width: 1fr;
        min-height: 4;
        padding: 0 0 0 1;
        background: transparent;
        border: round $foreground 30%;
        border-title-color: $foreground;
        border-title-style: bold;
        border-subtitle-color: $text-muted;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
        text-wrap: nowrap;
        text-overflow: ellipsis;
        &:focus { border: round $primary; background-tint: transparent; }
    }
    Shelf > .option-list--option-highlighted { background: $foreground 8%; }
    Shelf:focus > .option-list--option-highlighted {
        background: $primary 28%; color: $foreground; text-style: bold;
    }
    Shelf:nocolor > .option-list--option-highlighted { text-style: none; }
    Shelf:nocolor:focus > .option-list--option-highlighted { text-style: bold underline; }
    """

    def show(self, rows: Iterable[tuple[str, Content]], nothing: str = "") -> None:
        """Show rows by their ids; the cursor stays on its row, or near it.

        Args:
            rows: an id and what is shown of each.
            nothing: said where there are none.
        """
        before, place = self.current, self.highlighted
        options = [Option(content, key) for key, content in rows]
        self.set_options(options or [Option(nothing, disabled=True)])
        if not options:
            return
        ids = [option.id for option in options]
        self.highlighted = ids.index(before) if before in ids else min(place or 0, len(options) - 1)

    def go_to(self, key: str) -> bool:
        """Put the cursor on a row by its id; say whether it is there."""
        ids = [option.id for option in self.options]
        if key in ids:
            self.highlighted = ids.index(key)
        return key in ids

    @property
    def current(self) -> str:
        """The id under the cursor, or nothing."""
        option = self.highlighted_option
        return (option.id if option else None) or ""

    @property
    def row_width(self) -> int:
        """Cells of a row."""
        return max(0, self.size.width - 2)

    async def _on_click(self, event: events.Click) -> None:
        clicked: int | None = event.style.meta.get("option")
        if clicked is None or self.get_option_at_index(clicked).disabled:
            return
        event.prevent_default()
        if self.highlighted == clicked and event.chain > 1:
            self.action_select()
        self.highlighted = clicked
