"""The footer: the keys that do something now, as many as fit without cutting a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

if TYPE_CHECKING:
    from textual.app import ComposeResult

_ALWAYS = ("app.leave", "app.help", "go_back", "end_filter", "leave_chat", "stop_reply")
"""What a person who is lost needs."""


class KeyFooter(Footer):
    """Leaves out whole keys where there is no room for all; help lists them."""

    def __init__(self) -> None:
        super().__init__(compact=True, show_command_palette=False)
        # Textual's own is empty until a frame later, though what the screen offers is known.
        self._bindings_ready = True

    def compose(self) -> ComposeResult:
        """Keep the ways out, and of the others the first that fit."""
        offered = [key for key in super().compose() if isinstance(key, FooterKey)]
        kept = {key for key in offered if key.action in _ALWAYS}
        # Behind the last there is no gap.
        room = self.app.size.width + 1 - sum(map(_width, kept))  # pyright: ignore[reportUnknownMemberType]
        for key in offered:
            if key not in kept and _width(key) <= room:
                kept.add(key)
                room -= _width(key)
        yield from (key for key in offered if key in kept)

    async def on_resize(self) -> None:
        """Choose anew."""
        await self.recompose()


def _width(key: FooterKey) -> int:
    return cell_len(key.key_display) + cell_len(key.description) + 2
