"""What the guard is told of a run, and when it acts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from engine.config import RunConfig
    from engine.events import PausedBy, Policy

Phase = Literal["loading", "training", "evaluating", "sampling", "saving"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts:
    """How the run stands at the moment of a sample."""

    seconds: float
    """A clock that never goes back and stands still while the machine sleeps."""
    policy: Policy = "protect"
    """What to do when memory runs short, as it is set now."""
    phase: Phase = "training"
    """What the trainer does, or did last when it stands still."""
    paused_by: PausedBy | None = None
    """Who made it stand still; None while it goes on."""
    is_deep: bool = False
    """Whether the pause gave back the base weights too."""
    micro_batch: int = 1
    """Rows that a step evaluates at once."""
    active_bytes: int | None = None
    """MLX's arrays that are alive."""
    cache_bytes: int | None = None
    """Freed buffers that MLX keeps for reuse."""
    kept_bytes: int = 0
    """Layers' outputs that a step keeps only so as not to compute them twice."""
    iteration: int = 0
    """The last iteration done."""
    step_seconds: float | None = None
    """What that iteration took; None before the first."""
    step_norm_seconds: float | None = None
    """What iterations of its width take otherwise; None while that is not known."""
    in_flight_seconds: float | None = None
    """How long the step in flight lasts by now; None between steps."""
    in_flight_norm_seconds: float | None = None
    """What iterations of its width take otherwise; None while that is not known."""
    is_kept_awake: bool = True
    """Whether something keeps the machine from going to sleep by itself."""
    is_metal: bool = False
    """Whether it computes on an Apple GPU."""
    checkpoint_bytes: int | None = None
    """What the newest checkpoint takes on the disk; None before the first."""

    @property
    def is_paused(self) -> bool:
        """Whether training stands still."""
        return self.paused_by is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """When the guard acts. Seconds are those in which the machine was awake."""

    yellow_seconds: float = 5.0
    """Yellow for so long before the first action; a moment of it is nothing to act on."""
    grace_seconds: float = 10.0
    """Yellow for so long again before the next: what was given back takes time to be felt."""
    green_seconds: float = 30.0
    """Green for so long, without a break, before a paused run goes on."""
    longest_green_seconds: float = 900.0
    """What ``green_seconds`` is doubled up to by runs that no sooner go on than they pause."""
    relapse_seconds: float = 600.0
    """A pause within so long after going on is a relapse."""
    deep_pause: bool = False
    """Whether a pause gives back the base weights too; they are loaded again to go on."""
    tight_cache_bytes: int = 64_000_000
    """What MLX may keep for reuse once memory ran short."""
    longest_gap_seconds: float = 3.0
    """What at most counts of the time between two samples; nobody saw the rest."""
    slow_factor: float = 3.0
    """A step is far slower than others of its width from so many times their time on."""
    swap_out_bytes_per_second: float = 2_000_000.0
    """Written to swap, averaged over some seconds, from which a slow step is a paging one."""
    throttle_factor: float = 1.25
    """Pace is down from so many times the usual time of a step on."""
    stall_factor: float = 10.0
    """A step in flight stalls from so many times the usual time on …"""
    stall_seconds: float = 60.0
    """… but not before this."""
    first_stall_seconds: float = 600.0
    """The same for a step of which nothing is known, which may compile."""
    low_battery_percent: float = 10.0
    low_disk_bytes: int = 1_000_000_000
    """Free space below which it is said that a checkpoint may not fit."""
    repeat_seconds: float = 3600.0
    """The same warning is said again after so long, if it is true again."""

    @classmethod
    def of(cls, config: RunConfig) -> GuardSettings:
        """Take what a run's settings say, and the defaults."""
        return cls(
            yellow_seconds=config.yellow_seconds,
            grace_seconds=config.grace_seconds,
            green_seconds=config.green_seconds,
            deep_pause=config.deep_pause,
        )
