"""Measures any adapter, or its base, on any rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.parts import CannotTakeApartError, Parts
from engine.prepare import eager_on_cpu, step_settings
from engine.score import Score, score
from engine.step import LayerStep, WholeGraphStep
from engine.tail import StepInterrupted
from engine.use.chosen import base_files
from engine.use.rows import batches_of, find_rows
from engine.use.wardrobe import dressed
from engine.use.worker import Note

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from engine.step import Stepper
    from engine.use.chosen import Chosen
    from engine.use.rows import Measured, Part
    from engine.use.wardrobe import Wardrobe


@dataclass(frozen=True, slots=True)
class Done:
    """A measurement."""

    label: str
    data: str
    part: str
    score: Score


class _Control:
    """Only says whether to stop."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self.should_stop = should_stop

    def micro_batch(self) -> int:
        """One row at a time."""
        return 1


def evaluate(
    chosen: Chosen,
    should_stop: Callable[[], bool],
    *,
    data: str | None = None,
    part: Part | None = None,
    limit: int = -1,
    is_base: bool = False,
) -> Iterator[Note | Done]:
    """Measure an adapter on rows.

    Args:
        chosen: the adapter.
        should_stop: asked between layers.
        data: other data than the run's own.
        part: which rows of it.
        limit: the most rows; -1 for all.
        is_base: whether the base alone is measured.

    Raises:
        InputError: when base, adapter or data do not fit together.
    """
    found = find_rows(chosen.config, data, part)
    files = base_files(chosen)
    with eager_on_cpu():
        wardrobe = yield from dressed(chosen, files, is_base=is_base)
        label = f"{files.path.name} (base)" if is_base else chosen.label
        done = yield from measure(wardrobe, chosen, found, label, should_stop, limit)
        if done:
            yield done


def measure(
    wardrobe: Wardrobe,
    chosen: Chosen,
    found: Measured,
    label: str,
    should_stop: Callable[[], bool],
    limit: int = -1,
) -> Generator[Note, None, Done | None]:
    """Measure what a wardrobe wears; returns nothing when it was stopped.

    Raises:
        DataError: when no row has anything to measure.
    """
    batches, widths = batches_of(found.rows, wardrobe.tokenizer, chosen.config, limit)
    stepper = _stepper(wardrobe, chosen)
    total = sum(int((rows >= 0).sum()) for rows in batches.rows)
    rows = score(stepper, batches, _Control(should_stop), widths)
    while True:
        try:
            count = next(rows)
        except StopIteration as end:
            return Done(label, found.data, found.part, end.value)
        except StepInterrupted:
            return None
        yield Note(f"measuring {label}", done=count, total=total)


def _stepper(wardrobe: Wardrobe, chosen: Chosen) -> Stepper:
    """Layer by layer where the model comes apart: logits never exist for all positions at once."""
    wardrobe.model.eval()
    if chosen.config.step != "whole-graph":
        try:
            return LayerStep(Parts(wardrobe.model), step_settings(chosen.config))
        except CannotTakeApartError:
            pass
    return WholeGraphStep(wardrobe.model)
