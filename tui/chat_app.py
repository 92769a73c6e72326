"""The chat alone, for ``lora-tui chat``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from textual.app import App

from tui.bindings import bindings
from tui.chat import ChatScreen
from tui.help import HelpScreen
from tui.themes import DEFAULT_THEME, THEMES

if TYPE_CHECKING:
    from textual.binding import BindingType

    from tui.chat import TalkControls


class ChatApp(App[None]):
    """One chat screen; leaving it leaves the program."""

    TITLE = "lora-tui chat"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("app")]

    def __init__(self, talk: TalkControls) -> None:
        # Textual greys its colours out for NO_COLOR, which asks for none at all.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self._talk = talk
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = DEFAULT_THEME

    def get_default_screen(self) -> ChatScreen:
        """Begin with the chat."""
        return ChatScreen(self._talk, is_alone=True)

    def action_leave(self) -> None:
        """Leave: nothing is lost."""
        self.exit()

    def action_interrupt(self) -> None:
        """Leave, as ``ctrl+c`` does anywhere."""
        self.exit()

    def action_help(self) -> None:
        """Show every key."""
        self.push_screen(HelpScreen({}))

    def action_suspend_run(self) -> None:
        """Give the shell back for now."""
        self.action_suspend_process()
