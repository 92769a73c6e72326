"""What a person should know of the machine though the guard does nothing about it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from engine.awake import sleep_warning
from engine.guard.actions import Warn

if TYPE_CHECKING:
    from engine.events import WarningAbout
    from engine.guard.facts import GuardSettings, TrainingFacts
    from engine.host.sample import HostSample

_WAITING = 8
_HOT = ("moderate", "heavy", "trapping", "sleeping")
_SOMETHING = "something"
"""Any tool that keeps the machine awake."""
_PACE_MEMORY = 0.25
"""Share of a new step in the average of how slow steps are."""
_DISPLAY = (
    "The display is lit: macOS may end a long GPU step to keep it smooth. "
    "Let it sleep while nobody looks; training goes on."
)


class Notices:
    """Says each thing once while it lasts, and one thing at a time."""

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._waiting: deque[Warn] = deque(maxlen=_WAITING)
        self._said: dict[str, float] = {}
        """When each kind of warning was given last."""
        self._true: set[str] = set()
        """Kinds of which the newest sample gives reason to warn."""
        self._slowness = 1.0
        """How many times their usual time the last steps took."""
        self._iteration = 0
        self._is_throttled = False
        self._stall_said: float | None = None
        """At which age the step in flight was last called stalled."""

    def look(self, sample: HostSample, facts: TrainingFacts) -> None:
        """Take a sample, and queue what it gives reason to say."""
        self._power(sample, facts)
        self._disk(sample, facts)
        self._stall(facts)
        self._heat(sample, facts)

    def add(self, text: str, about: WarningAbout = "") -> None:
        """Queue a warning of the guard's own."""
        self._waiting.append(Warn(text, about))

    def take(self) -> Warn | None:
        """Return the oldest warning that was not given yet."""
        return self._waiting.popleft() if self._waiting else None

    def _once(self, kind: str, text: str, seconds: float) -> None:
        """Say a text when it becomes true; empty is not true. Not again too soon."""
        if not text:
            self._true.discard(kind)
            return
        said = self._said.get(kind)
        is_news = said is None or seconds - said >= self._settings.repeat_seconds
        if kind not in self._true and is_news:
            self._said[kind] = seconds
            self.add(text)
        self._true.add(kind)

    def _power(self, sample: HostSample, facts: TrainingFacts) -> None:
        now, on_battery, percent = facts.seconds, sample.on_battery, sample.battery_percent
        self._once("battery", sleep_warning(on_battery, None, _SOMETHING), now)
        lid = sleep_warning(on_battery, True, _SOMETHING) if sample.lid_closed else ""
        self._once("lid", lid, now)
        keeper = _SOMETHING if facts.is_kept_awake else None
        self._once("awake", sleep_warning(None, None, keeper), now)
        is_empty = (
            on_battery and percent is not None and percent <= self._settings.low_battery_percent
        )
        self._once("empty", _nearly_empty(percent or 0.0) if is_empty else "", now)
        is_lit = facts.is_metal and sample.display_awake and facts.phase != "loading"
        self._once("display", _DISPLAY if is_lit else "", now)

    def _disk(self, sample: HostSample, facts: TrainingFacts) -> None:
        free = sample.disk_free_bytes
        needed = max(self._settings.low_disk_bytes, 2 * (facts.checkpoint_bytes or 0))
        text = "" if free is None or free >= needed else _nearly_full(free)
        self._once("disk", text, facts.seconds)

    def _stall(self, facts: TrainingFacts) -> None:
        """Report a step that does not end, again each time that its age has doubled."""
        age, norm = facts.in_flight_seconds, facts.in_flight_norm_seconds
        limit = self._settings.first_stall_seconds
        if norm:
            limit = max(self._settings.stall_factor * norm, self._settings.stall_seconds)
        if age is None or age < limit:
            self._stall_said = None
            return
        if self._stall_said is not None and age < 2 * self._stall_said:
            return
        self._stall_said = age
        usual = f"; others of its width take {norm:.1f} s" if norm else ""
        self.add(
            f"Step {facts.iteration + 1:,} has not ended for {_duration(age)}{usual}. "
            "What was saved is safe. If it goes on like this, stop and resume from there.",
            "stall",
        )

    def _heat(self, sample: HostSample, facts: TrainingFacts) -> None:
        """Warn once when heat slows training, until the machine has cooled."""
        seconds, norm = facts.step_seconds, facts.step_norm_seconds
        if facts.iteration != self._iteration and seconds and norm:
            self._slowness += _PACE_MEMORY * (seconds / norm - self._slowness)
        self._iteration = facts.iteration
        is_slow = self._slowness >= self._settings.throttle_factor
        if is_slow and sample.thermal in _HOT and not self._is_throttled:
            self._is_throttled = True
            self.add(
                f"The machine is hot ({sample.thermal}) and slows down: steps take "
                f"{self._slowness:.1f} times as long. Give it air; nothing else is needed."
            )
        elif sample.thermal == "nominal" and not is_slow:
            self._is_throttled = False


def _nearly_empty(percent: float) -> str:
    return (
        f"The battery is at {percent:.0f} %: soon the machine sleeps and the run stands still. "
        "Plug it in."
    )


def _nearly_full(free: int) -> str:
    return (
        f"Only {free / 1e9:.1f} GB are free on the disk: the next checkpoints may not fit. "
        "Free some space."
    )


def _duration(seconds: float) -> str:
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
