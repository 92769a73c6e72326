"""What the screens need of the world outside: a run to watch and steer, plain facts for home."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual.screen import Screen

    from engine.events import Event, Policy
    from tui.chat import TalkControls
    from tui.draft import Draft, Planner
    from tui.records import Records


class RunControls(Protocol):
    """A run that can be watched and steered; of a past one only its journal is left to watch."""

    @property
    def events(self) -> Sequence[Event]:
        """Everything that happened so far; it only grows, but for a new edition."""
        ...

    @property
    def edition(self) -> int:
        """Another number once what happened before is told again, in more detail."""
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
    def refusal(self) -> str:
        """Why it may only be looked at, in words; empty where it may be steered."""
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

    def leave(self) -> None:
        """Hear that nobody looks at it here any more."""
        ...

    def open_talk(self, iteration: int | None) -> TalkControls:
        """Prepare to talk to a checkpoint, the newest if None; the chat screen starts it.

        Raises:
            LoraTuiError: when there is none, or its base is gone.
        """
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
    short_verdict: str = ""
    """The same in two or three words."""
    fits: bool | None = None
    """None where it is not known yet."""


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run on this machine, as home lists it."""

    name: str
    """Without the date and time that its folder begins with."""
    path: str
    status: str
    """One word: training, completed, stopped, interrupted…"""
    iteration: int
    iterations: int
    val_loss: float | None = None
    """The best validation loss; None before the first evaluation."""
    saved_iteration: int | None = None
    """The newest checkpoint; None when there is none."""
    time: float = 0.0
    """When it last said something."""
    losses: tuple[float, ...] = ()
    """How its loss fell, in a few points; NaN where nothing is known."""
    model: str = ""
    data: str = ""

    @property
    def is_going_on(self) -> bool:
        """Whether a process trains it."""
        return self.status in {"loading", "training", "paused"}

    @property
    def can_go_on(self) -> bool:
        """Whether ``r`` goes on with it."""
        return self.status in {"interrupted", "stopped", "aborted", "failed"}


@dataclass(frozen=True, slots=True)
class HomeData:
    """Everything that the home screen shows."""

    presets: tuple[PresetLine, ...]
    runs: tuple[RunLine, ...] | None
    """The newest first; None before anybody looked."""
    machine: str
    """This machine in one line."""
    is_measured: bool = True
    """Whether this machine's speed is known, and so how long runs take."""


@dataclass(frozen=True, slots=True)
class Doors:
    """How home gets from a choice to a run."""

    start_preset: Callable[[str], RunControls]
    """Prepare the preset of this name; the app starts it."""
    open_run: Callable[[str], RunControls]
    """Open the run in this folder."""
    resume_run: Callable[[str], RunControls]
    """Prepare to go on with the run in this folder; the app starts it. With ``@4500`` behind the
    folder it is a new run from that checkpoint."""
    start_draft: Callable[[Draft], RunControls] | None = None
    """Prepare the run that somebody filled in; the app starts it."""
    planner: Planner | None = None
    """None where new runs cannot be made."""
    look: Callable[[], HomeData] | None = None
    """Look at the machine again; takes a while, so never on the thread that draws."""
    measure: Callable[[], None] | None = None
    """Measure this machine's speed; takes some seconds."""
    records: Records | None = None
    """What lies on disk of runs."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What can be done with checkpoints besides going on from them."""

    records: Records
    """What lies on disk of runs."""
    fuse: Callable[[str, int], Screen[Any]]
    """A screen that makes a model of a checkpoint: the run's folder, the iteration."""
