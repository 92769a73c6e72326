"""Lets a screen ask, open another, and copy; Textual does not say of what kind its app is."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.screen import Screen
    from textual.widget import Widget

T = TypeVar("T")


async def ask(owner: Widget, question: Screen[T]) -> T | None:
    """Show a question and wait for its answer; only from a worker."""
    return await owner.app.push_screen_wait(question)  # pyright: ignore[reportUnknownMemberType]


def show(owner: Widget, screen: Screen[T], then: Callable[[T | None], None]) -> None:
    """Show a screen, and hand over what it is left with."""
    owner.app.push_screen(screen, then)  # pyright: ignore[reportUnknownMemberType]


def copy(owner: Widget, text: str) -> None:
    """Put a text on the clipboard, as far as the terminal lets us, and show it."""
    owner.app.copy_to_clipboard(text)  # pyright: ignore[reportUnknownMemberType]
    owner.notify(text, title="Copied", markup=False)
