"""The least that Textual can show: what a screen costs that is not ours. Run by its path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import App
from textual.widgets import Static

if TYPE_CHECKING:
    from textual.app import ComposeResult


class Bare(App[None]):
    """A line of text, and a key that ends it."""

    def compose(self) -> ComposeResult:
        yield Static("cores, and quit")

    def key_q(self) -> None:
        self.exit()


if __name__ == "__main__":
    Bare().run()
