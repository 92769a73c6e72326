"""Which part of a run is looked at: plain arithmetic on places in its history."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_STEPS = 16
"""What is looked at never gets shorter than this."""


@dataclass(frozen=True, slots=True)
class Zoom:
    """A part of a run; the whole of it where ``width`` is 0."""

    width: int = 0
    """Steps in sight."""
    last: int = 0
    """Place of the newest of them."""
    follows: bool = True
    """Whether it moves along with the run."""

    @property
    def is_whole(self) -> bool:
        """Whether everything is in sight."""
        return self.width == 0

    def part(self, total: int, cursor: int | None = None) -> tuple[int, int]:
        """Give the first and last place in sight; they move where the cursor would be out of it."""
        if self.is_whole or self.width >= total:
            return 0, total - 1
        last = total - 1 if self.follows else min(self.last, total - 1)
        if cursor is not None and not last - self.width < cursor <= last:
            last = cursor if cursor > last else cursor + self.width - 1
        last = max(last, self.width - 1)
        return last - self.width + 1, last

    def by(self, factor: float, total: int, share: float, cursor: int | None = None) -> Zoom:
        """Look closer (below 1) or from farther away; what lies at a share of the part stays."""
        first, last = self.part(total, cursor)
        fixed = first + share * (last - first)
        width = max(LEAST_STEPS, round((last - first + 1) * factor))
        if width >= total:
            return Zoom()
        return self._ending(round(fixed + (1 - share) * (width - 1)), width, total)

    def moved(self, steps: int, total: int) -> Zoom:
        """Look at what is so many steps later."""
        if self.is_whole:
            return self
        _, last = self.part(total)
        return self._ending(last + steps, self.width, total)

    @staticmethod
    def _ending(last: int, width: int, total: int) -> Zoom:
        last = max(width - 1, min(total - 1, last))
        return Zoom(width, last, follows=last == total - 1)
