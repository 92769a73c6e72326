"""What changes from step to step, and the plain part of it that a checkpoint holds."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import mlx.core as mx

    from engine.eta import EtaEstimator
    from engine.guard import Pulse
    from engine.heed import Heed
    from engine.mailbox import Mailbox
    from engine.prepare import Prepared
    from engine.runs import RunDirectory
    from engine.saving import Saver


@dataclass
class Position:
    """Where a run stands, in plain numbers: all that exact resume needs besides arrays."""

    iteration: int = 0
    """The last one done; the batch plan and all randomness follow from it and the seed."""
    trained_tokens: int = 0
    gradient_tokens: int = 0
    """Trained tokens that the accumulated gradients are summed over."""
    val_loss: float | None = None
    evaluated_iteration: int = -1
    best_val_loss: float | None = None
    best_iteration: int = 0
    evaluations_without_gain: int = 0
    skipped_batches: int = 0
    skipped_in_a_row: int = 0
    is_probed: bool = False
    """Whether the widest step was tried, and the plan held."""
    gone_wrong_at: int | None = None
    """Where the run went back from, until it has come past that point."""

    def facts(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            name: value if not isinstance(value, float) or math.isfinite(value) else None
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Position:
        """Return what ``facts`` said, with defaults for what it does not know."""
        return cls(**{f.name: facts[f.name] for f in fields(cls) if f.name in facts})


@dataclass
class State:
    """A run in motion."""

    prepared: Prepared
    directory: RunDirectory
    mailbox: Mailbox
    saver: Saver
    eta: EtaEstimator
    footprint: Callable[[], int | None]
    pulse: Pulse
    """Where the guard reads how the run stands."""
    heed: Heed
    position: Position = field(default_factory=Position)
    gradients: dict[str, mx.array] = field(default_factory=dict[str, "mx.array"])
    """Accumulated since the last update, summed over trained tokens."""

    @property
    def iteration(self) -> int:
        """The last iteration done."""
        return self.position.iteration
