"""The checkpoints pane: what is safe on disk, newest first, with a cursor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from textual.message import Message

from tui.bindings import bindings
from tui.paint import Line, Picture, centred, fit, line, plain
from tui.panes.pane import Pane
from tui.words import age, loss, size

if TYPE_CHECKING:
    from textual import events
    from textual.binding import BindingType

    from engine.events import CheckpointSaved
    from tui.watch import RunWatch

Act = Literal["open", "resume", "try", "fuse", "compare", "reveal", "delete"]
"""What somebody can do with a checkpoint."""
BASIC: frozenset[Act] = frozenset({"open", "try", "compare", "reveal"})
"""What can be done whoever trains the run."""
_SIZED = 31
_REASONED = 43
_BORDER = 1


class CheckpointsPane(Pane):
    """Saved adapters with their validation loss, size, age and reason."""

    title: ClassVar[str] = "checkpoints"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("checkpoint")]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"pane--cursor"}
    DEFAULT_CSS = """
    CheckpointsPane .pane--cursor { text-style: reverse; }
    """

    @dataclass
    class Asked(Message):
        """Somebody wants to do something with a checkpoint."""

        act: Act
        saved: CheckpointSaved

    def __init__(self) -> None:
        super().__init__()
        self.offers: frozenset[Act] = frozenset()
        """What can be done here besides ``BASIC``, once the run is over."""
        self._cursor: int | None = None
        """The iteration that it is on; None means the newest."""

    def picture(self, watch: RunWatch, width: int, height: int) -> Picture:
        """List what was saved."""
        saved = self._newest_first()
        if not saved:
            words = "c saves one now" if watch.is_steerable else "none yet"
            return Picture(centred([line((words, "muted"))], width, height))
        best = watch.view.best.iteration if watch.view.best else None
        rows = [_row(each, best, watch.today, width) for each in saved]
        if self.has_focus:
            at = self._place(saved)
            rows[at] = ((plain(fit(rows[at], width)), "cursor"),)
            # The frame shows the rows from here on.
            self._scrolled = max(min(self._scrolled, at), at - height + 1)
        kept = f"{len(rows):,} saved"
        left = line((f"newest {size(saved[0].bytes)}", "muted"))
        return Picture(tuple(rows), line((kept, "muted")), left if width < _SIZED else ())

    @property
    def current(self) -> CheckpointSaved | None:
        """The checkpoint under the cursor."""
        saved = self._newest_first()
        return saved[self._place(saved)] if saved else None

    def _newest_first(self) -> list[CheckpointSaved]:
        return list(reversed(self._run.view.checkpoints)) if self._run else []

    def _place(self, saved: list[CheckpointSaved]) -> int:
        """Where the cursor is; where its checkpoint is gone, on the next older one."""
        if self._cursor is None:
            return 0
        older = (i for i, each in enumerate(saved) if each.iteration <= (self._cursor or 0))
        return next(older, len(saved) - 1)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys are only there while they do something."""
        if action in ("scroll", "scroll_page"):
            return len(self._newest_first()) > 1
        if action.endswith("_checkpoint"):
            act = action.removesuffix("_checkpoint")
            is_over = self._run is not None and self._run.is_over
            return self.current is not None and (act in BASIC or (is_over and act in self.offers))
        return super().check_action(action, parameters)

    def action_scroll(self, rows: int) -> None:
        """Move the cursor, and what is in sight with it."""
        saved = self._newest_first()
        if saved:
            self._move_to(saved, self._place(saved) + rows)

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the row; on the cursor's own row, open it."""
        saved = self._newest_first()
        row = event.y - _BORDER + self._scrolled
        if not 0 <= row < len(saved) or not 0 < event.y < self.size.height - _BORDER:
            return
        if event.chain > 1 and row == self._place(saved):
            self._ask("open")
        else:
            self._move_to(saved, row)

    def _move_to(self, saved: list[CheckpointSaved], place: int) -> None:
        place = min(len(saved) - 1, max(0, place))
        # At the top it stays with the newest, whatever comes.
        self._cursor = saved[place].iteration if place else None
        self.redraw()
        self.refresh_bindings()

    def action_open_checkpoint(self) -> None:
        """Show all about it."""
        self._ask("open")

    def action_resume_checkpoint(self) -> None:
        """Begin a new run from it."""
        self._ask("resume")

    def action_try_checkpoint(self) -> None:
        """Talk with it."""
        self._ask("try")

    def action_fuse_checkpoint(self) -> None:
        """Make a model of it."""
        self._ask("fuse")

    def action_compare_checkpoint(self) -> None:
        """Set it beside another."""
        self._ask("compare")

    def action_reveal_checkpoint(self) -> None:
        """Say where it is."""
        self._ask("reveal")

    def action_delete_checkpoint(self) -> None:
        """Delete it."""
        self._ask("delete")

    def _ask(self, act: Act) -> None:
        if (saved := self.current) is not None:
            self.post_message(self.Asked(act, saved))


def _row(saved: CheckpointSaved, best: int | None, now: float, width: int) -> Line:
    is_best = saved.iteration == best
    spans = [
        ("★ " if is_best else "  ", "good"),
        (f"{saved.iteration:>6,}", "strong" if is_best else ""),
        (f" {loss(saved.val_loss):>6}", "val"),
    ]
    if width >= _SIZED:
        spans.append((f" {size(saved.bytes):>7}", "muted"))
    spans.append((f" {age(now - saved.time):>6}", "muted"))
    if width >= _REASONED:
        spans.append((f"  {saved.reason}", "muted"))
    return line(*spans)
