"""The frame, the styles and the scrolling that all panes share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui.bindings import bindings
from tui.paint import Line, Picture, fit, line, width_of

if TYPE_CHECKING:
    from rich.style import Style
    from textual import events
    from textual.binding import BindingType

    from tui.watch import RunWatch

FRAME_WIDTH = 4
"""Border and one space, on both sides."""
FRAME_HEIGHT = 2
STYLES = (
    "accent", "average", "bad", "band", "faint", "focus", "frame",
    "good", "muted", "strong", "text", "title", "val", "warn",
)  # fmt: skip


class Pane(Widget, can_focus=True):
    """A framed part of the dashboard that shows one side of a run."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"pane--{style}" for style in STYLES}
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("pane")]
    DEFAULT_CSS = """
    Pane {
        width: 1fr;
        height: 1fr;
        color: $foreground;
        .pane--accent { color: $primary; }
        .pane--average { color: $primary; text-style: bold; }
        .pane--bad { color: $error; text-style: bold; }
        .pane--band { color: $primary 45%; }
        .pane--faint { color: $foreground 22%; }
        .pane--focus { color: $primary; }
        .pane--frame { color: $foreground 30%; }
        .pane--good { color: $success; }
        .pane--muted { color: $text-muted; }
        .pane--strong { text-style: bold; }
        .pane--text { color: $foreground; }
        .pane--title { color: $foreground; text-style: bold; }
        .pane--val { color: $secondary; text-style: bold; }
        .pane--warn { color: $warning; text-style: bold; }
        &:ansi {
            .pane--average { color: ansi_bright_blue; }
            .pane--band { color: ansi_blue; text-style: none; }
            .pane--faint, .pane--frame, .pane--muted { color: ansi_bright_black; }
        }
    }
    """

    title: ClassVar[str] = ""
    follows_end: ClassVar[bool] = False
    """Whether the newest row is at the bottom and stays in sight."""

    def __init__(self) -> None:
        super().__init__(id=self.title)
        self._looked_up: dict[str, Style] = {}
        self._run: RunWatch | None = None
        self._frame: tuple[Line, ...] = ()
        self._scrolled = 0
        """Rows scrolled away from where the pane starts: its top, or its end if it follows that."""
        self._hidden = 0

    def picture(self, watch: RunWatch, width: int, height: int) -> Picture:
        """Say what the pane shows in a space of so many cells."""
        raise NotImplementedError

    def show(self, watch: RunWatch) -> None:
        """Draw the run as it is now; what has not changed is not painted again."""
        self._run = watch
        width, height = self.size
        inner_width, inner_height = width - FRAME_WIDTH, height - FRAME_HEIGHT
        if inner_width < 1 or inner_height < 1:
            return
        picture = self.picture(watch, inner_width, inner_height)
        rows = self._framed(picture, inner_width, inner_height)
        old, self._frame = self._frame, rows
        if len(old) != len(rows):
            self.refresh()
        elif changed := [Region(0, y, width, 1) for y, row in enumerate(rows) if row != old[y]]:
            self.refresh(*changed)

    def redraw(self) -> None:
        """Draw again what was drawn last, in a new size or place."""
        if self._run is not None:
            self.show(self._run)

    def render_line(self, y: int) -> Strip:
        """Give one row of the pane, frame included."""
        row = self._frame[y] if y < len(self._frame) else line(" " * self.size.width)
        return Strip([Segment(text, self._style(name)) for text, name in row], self.size.width)

    def on_resize(self) -> None:
        """Draw in the new size."""
        self.redraw()

    def watch_has_focus(self, has_focus: bool) -> None:
        """Show in the frame whether keys go here."""
        super().watch_has_focus(has_focus)
        self.redraw()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll with the wheel."""
        event.stop()
        self.action_scroll(-1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll with the wheel."""
        event.stop()
        self.action_scroll(1)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Scrolling keys are only there while something is out of sight."""
        if action in ("scroll", "scroll_page"):
            return self._hidden > 0
        return super().check_action(action, parameters)

    def action_scroll(self, rows: int) -> None:
        """Move the rows in sight."""
        step = -rows if self.follows_end else rows
        self._scrolled = min(self._hidden, max(0, self._scrolled + step))
        self.redraw()

    def action_scroll_page(self, pages: int) -> None:
        """Move by as many rows as are in sight."""
        self.action_scroll(pages * max(1, self.size.height - FRAME_HEIGHT - 1))

    def notify_style_update(self) -> None:
        """Look the styles up again: the theme is another."""
        self._looked_up.clear()
        super().notify_style_update()

    def _style(self, name: str) -> Style:
        style = self._looked_up.get(name)
        if style is None:
            style = self.get_component_rich_style(f"pane--{name or 'text'}")
            self._looked_up[name] = style
        return style

    def _framed(self, picture: Picture, width: int, height: int) -> tuple[Line, ...]:
        lines = picture.lines
        self._hidden = max(0, len(lines) - height)
        self._scrolled = min(self._scrolled, self._hidden)
        first = self._hidden - self._scrolled if self.follows_end else self._scrolled
        bottom = picture.bottom
        if self._scrolled:
            bottom = ((f"{first + 1}–{first + height} of {len(lines)}", "muted"),)
        shown = [*lines[first : first + height], *((),) * height][:height]
        edge = "focus" if self.has_focus else "frame"
        lead = "▸ " if self.has_focus else "─ "
        title: Line = ((lead, edge), (self.title, "title"), (" ", ""))
        left: Line = (("─ ", edge), *picture.bottom_left, (" ", "")) if picture.bottom_left else ()
        return (
            _rule("╭", title, _before_corner(picture.top, edge), "╮", width + FRAME_WIDTH, edge),
            *((("│ ", edge), *fit(row, width), (" │", edge)) for row in shown),
            _rule("╰", left, _before_corner(bottom, edge), "╯", width + FRAME_WIDTH, edge),
        )


def _before_corner(words: Line, edge: str) -> Line:
    return ((" ", ""), *words, (" ─", edge)) if words else ()


def _rule(start: str, left: Line, right: Line, end: str, width: int, edge: str) -> Line:
    """Draw an edge of the frame with words in it; those on the right give way."""
    head: Line = fit(((start, edge), *left), min(width_of(left) + 1, width - 1))
    room = width - width_of(head) - 1
    if width_of(right) > room:
        right = ()
    return (*head, ("─" * (room - width_of(right)), edge), *right, (end, edge))
