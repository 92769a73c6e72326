"""The checkpoints pane: what is safe on disk, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tui.paint import Line, Picture, centred, line
from tui.panes.pane import Pane
from tui.words import age, loss, size

if TYPE_CHECKING:
    from engine.events import CheckpointSaved
    from tui.watch import RunWatch

_SIZED = 31
_REASONED = 43


class CheckpointsPane(Pane):
    """Saved adapters with their validation loss, size, age and reason."""

    title: ClassVar[str] = "checkpoints"

    def picture(self, watch: RunWatch, width: int, height: int) -> Picture:
        """List what was saved."""
        view = watch.view
        if not view.checkpoints:
            words = "c saves one now" if watch.is_steerable else "none yet"
            return Picture(centred([line((words, "muted"))], width, height))
        best = view.best.iteration if view.best else None
        newest_first = reversed(_one_each(view.checkpoints))
        rows = [_row(saved, best, watch.today, width) for saved in newest_first]
        kept = f"{len(rows):,} saved"
        left = line((f"newest {size(view.checkpoints[-1].bytes)}", "muted"))
        return Picture(tuple(rows), line((kept, "muted")), left if width < _SIZED else ())


def _one_each(checkpoints: list[CheckpointSaved]) -> list[CheckpointSaved]:
    """Keep the newest of those saved twice at one iteration."""
    return list({saved.iteration: saved for saved in checkpoints}.values())


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
