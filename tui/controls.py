"""What the screens need of the world outside: a run to watch and steer, plain facts for home."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.events import Event, Policy


class RunControls(Protocol):
    """A run that can be watched and steered; of a past one only its journal is left to watch."""

    @property
    def events(self) -> Sequence[Event]:
        """Everything that happened so far; it only grows."""
        ...

    @property
    def path(self) -> str:
        """The run's folder."""
        ...

    @property
    def exit_code(self) -> int:
        """What the process should exit with once the run is over."""
        ...

    @property
    def outlives_app(self) -> bool:
        """Whether the run goes on when the app is left."""
        ...

    @property
    def can_detach(self) -> bool:
        """Whether it can be handed over to a process in the background."""
        ...

    def start(self) -> None:
        """Begin, once the first frame is on the screen."""
        ...

    def pause(self) -> None:
        """Stand still after the step in flight."""
        ...

    def resume(self) -> None:
        """Go on after a pause."""
        ...

    def checkpoint(self) -> None:
        """Save after the step in flight."""
        ...

    def evaluate(self) -> None:
        """Measure the validation loss after the step in flight."""
        ...

    def sample(self) -> None:
        """Answer the fixed prompts after the step in flight."""
        ...

    def set_policy(self, policy: Policy) -> None:
        """Choose what the guard does when memory runs short."""
        ...

    def stop(self, reason: str = "asked") -> None:
        """End after the step in flight; saves first."""
        ...

    def hang_up(self) -> None:
        """Hear that the terminal is gone; afterwards ``outlives_app`` says what becomes of it."""
        ...

    def detach(self) -> None:
        """Save and end here, and go on in the background once the app is left."""
        ...

    def is_alive(self) -> bool:
        """Whether the run still goes on."""
        ...


@dataclass(frozen=True, slots=True)
class PresetLine:
    """A ready configuration, as home lists it."""

    name: str
    description: str
    verdict: str = ""
    """Whether it fits this machine, in words; empty where that is not known yet."""


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run on this machine, as home lists it."""

    name: str
    path: str
    status: str
    """One word: training, completed, stopped, interrupted…"""
    iteration: int
    iterations: int
    val_loss: float | None = None
    """The best validation loss; None before the first evaluation."""
    saved_iteration: int | None = None
    """The newest checkpoint; None when there is none."""

    @property
    def can_go_on(self) -> bool:
        """Whether ``r`` goes on with it."""
        return self.status in {"interrupted", "stopped", "aborted", "failed"}


@dataclass(frozen=True, slots=True)
class HomeData:
    """Everything that the home screen shows."""

    presets: tuple[PresetLine, ...]
    runs: tuple[RunLine, ...]
    machine: str
    """This machine in one line."""


@dataclass(frozen=True, slots=True)
class Doors:
    """How home gets from a choice to a run."""

    start_preset: Callable[[str], RunControls]
    """Prepare the preset of this name; the app starts it."""
    open_run: Callable[[str], RunControls]
    """Open the run in this folder."""
    resume_run: Callable[[str], RunControls]
    """Prepare to go on with the run in this folder; the app starts it."""
