"""What a run's memory holds, and what it is expected to hold."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Memory:
    """MLX's own counters and the process's footprint, in bytes."""

    active: int = 0
    """Arrays that are alive."""
    peak: int = 0
    """The most that was alive at once during this step."""
    cache: int = 0
    """Freed buffers that MLX keeps for reuse."""
    footprint: int | None = None
    """What the operating system charges this process with; None where it cannot be read."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Where a run's memory is expected to go, by component, in bytes."""

    base: int = 0
    adapters: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    tail: int = 0
    data: int = 0
    other: int = 0
    samples: int = 0
    """What answering the prompts takes beyond a step."""

    @property
    def peak(self) -> int:
        """The sum: what MLX's peak counter should show."""
        return sum(getattr(self, f.name) for f in fields(self))
