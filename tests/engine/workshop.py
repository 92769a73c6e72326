"""Trains a tiny model through the engine's own front door, and waits for what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from engine import events as ev
from engine.callworthy import Callworthy
from engine.config import RunConfig, validate
from engine.runs import RunDirectory
from engine.session import Session
from tests.tiny import TOWNS, chat_row, write_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PATIENCE = 60.0
"""Seconds that nothing here needs on the slowest machine."""

E = TypeVar("E", bound=ev.Event)

SETTINGS: dict[str, Any] = {
    "iters": 6,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "num_layers": -1,
    "steps_per_eval": 3,
    "save_every": 4,
    "sample_rows": 0,
    "lora_parameters": {"rank": 4, "scale": 10.0, "dropout": 0.0},
}
ENDLESS: dict[str, Any] = {"iters": 100_000, "steps_per_eval": 100_000, "save_every": 100_000}


@dataclass(frozen=True)
class Finished:
    """A run that is over."""

    session: Session
    config: RunConfig
    directory: RunDirectory
    events: Sequence[ev.Event]

    def of(self, kind: type[E]) -> list[E]:
        """Return its events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def ended(self) -> ev.Ended:
        """Its last event, which says how it ended."""
        last = self.events[-1]
        assert isinstance(last, ev.Ended), last
        return last

    @property
    def calls(self) -> list[str]:
        """What a person was called about, in order; that it became late, a busy machine decides."""
        worth = Callworthy("run")
        told = [call.kind for event in self.events for call in worth.hear(event)]
        return [kind for kind in told if kind != "late"]

    @property
    def losses(self) -> list[float]:
        """The loss of every step."""
        return [step.loss for step in self.of(ev.Step)]

    @property
    def weights(self) -> bytes:
        """The newest adapters' file."""
        return (self.directory.adapters / "adapters.safetensors").read_bytes()


@dataclass(frozen=True)
class Workshop:
    """A model, data for it, and a folder for runs."""

    folder: Path
    model: Path
    data: Path

    def config(self, **changes: Any) -> RunConfig:
        """Return settings that train in a moment; a setting of None is left out."""
        return validate({"model": str(self.model), "data": str(self.data)} | SETTINGS | changes)

    def session(self, run: str = "run", **changes: Any) -> Session:
        """Return a run that has not begun."""
        return Session(self.config(**changes), RunDirectory(self.folder / run))

    def run(self, run: str = "run", **changes: Any) -> Finished:
        """Train to the end."""
        return finish(self.session(run, **changes))


def finish(session: Session) -> Finished:
    """Let a run go to its end."""
    if not session.events:
        session.start()
    assert session.join(PATIENCE), "the run does not end"
    return Finished(session, session.config, session.directory, tuple(session.events))


def wait_for(session: Session, wanted: Callable[[ev.Event], bool], seen: int = 0) -> int:
    """Wait until a wanted event comes, and return how many there are up to it.

    Args:
        session: a run that was started.
        wanted: whether this is the event.
        seen: events that were looked at before.
    """
    while True:
        events = session.events
        for index in range(seen, len(events)):
            if wanted(events[index]):
                return index + 1
        seen = len(events)
        grown = session.wait_for_events(seen, PATIENCE)
        assert grown > seen, f"it never came; the last was {events[-1:]}"


def wait_for_kind(session: Session, kind: type[E], seen: int = 0) -> tuple[E, int]:
    """Wait for an event of one kind; return it and how many there are up to it."""
    count = wait_for(session, lambda event: isinstance(event, kind), seen)
    event = session.events[count - 1]
    assert isinstance(event, kind)
    return event, count


def mixed_data(folder: Path, rows: int = 24) -> Path:
    """Write chat rows of very different lengths."""
    for name, count in (("train", rows), ("valid", 6)):
        made = [
            chat_row(f"What do you know of {TOWNS[i % len(TOWNS)]}?", "A town. " * (1 + i * 7 % 11))
            for i in range(count)
        ]
        write_rows(folder / f"{name}.jsonl", made)
    return folder
