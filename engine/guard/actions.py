"""What the guard decides. Nothing here is done by the guard itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from engine.config import RunConfig
    from engine.events import GuardAction, WarningAbout

EXIT_CODE = 3
"""What the process returns when the guard ended the run."""


@dataclass(frozen=True, slots=True)
class Tighten:
    """Keep nothing that only saves time: outputs that can be computed again, most of the cache."""

    event: ClassVar[GuardAction] = "shrink"
    why: str
    cache_limit_bytes: int


@dataclass(frozen=True, slots=True)
class Halve:
    """Evaluate fewer rows at once: the same mathematics in less memory."""

    event: ClassVar[GuardAction] = "shrink"
    why: str
    micro_batch: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Drop the step in flight, save, give memory back, and stand still."""

    event: ClassVar[GuardAction] = "pause"
    why: str
    is_deep: bool = False
    """Whether the base weights are given back too."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on after a pause of the guard's own."""

    event: ClassVar[GuardAction] = "resume"
    why: str


@dataclass(frozen=True, slots=True)
class Abort:
    """Drop the step in flight, save, and end the run with ``EXIT_CODE``."""

    event: ClassVar[GuardAction] = "abort"
    why: str
    offer: Reduction | None = None
    """What to change when it is run again; None when there is nothing left to reduce."""


@dataclass(frozen=True, slots=True)
class Warn:
    """Tell the person; change nothing."""

    why: str
    about: WarningAbout = ""


Action = Tighten | Halve | Pause | Resume | Abort | Warn


@dataclass(frozen=True, slots=True)
class Reduction:
    """One setting made smaller, so that a run needs less memory."""

    key: str
    before: int
    after: int

    @property
    def settings(self) -> dict[str, int]:
        """The change as settings by key."""
        return {self.key: self.after}

    def __str__(self) -> str:
        return f"{self.key} {self.before} → {self.after}"


_FLOORS = (
    {"batch_size": 2, "max_seq_length": 1024, "grad_accumulation_steps": 16},
    {"batch_size": 1, "max_seq_length": 256, "grad_accumulation_steps": 1},
)
"""How far each setting is halved before the next one's turn comes; then once more, further."""


def next_reduction(config: RunConfig) -> Reduction | None:
    """Return the next setting to halve: batch first, then length, then accumulation.

    None when a run with these settings cannot be made smaller.
    """
    for floors in _FLOORS:
        for key, floor in floors.items():
            value = int(getattr(config, key))
            if value > floor:
                return Reduction(key, value, max(value // 2, floor))
    return None
