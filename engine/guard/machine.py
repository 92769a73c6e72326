"""Decides what a run does when memory runs short: samples and facts in, one action at a time out.

The ladder of ``protect``: keep less for reuse, evaluate fewer rows at once, pause. Each rung waits
for pressure to last, and each is given time to be felt before the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from engine.guard.actions import Abort, Halve, Pause, Resume, Tighten, next_reduction
from engine.guard.blame import Blame, Growth
from engine.guard.facts import GuardSettings
from engine.guard.notices import Notices
from engine.guard.pace import Paging

if TYPE_CHECKING:
    from engine.config import RunConfig
    from engine.guard.actions import Action
    from engine.guard.facts import TrainingFacts
    from engine.host.sample import HostSample

Strain = Literal["green", "yellow", "red"]
_WORTH_CLEARING_BYTES = 16_000_000
_PAUSE_SECONDS = 120.0
"""A pause that has not begun after so long, its checkpoint included, was not carried out."""


class Guard:
    """The state machine. It has no clock, no thread, and does nothing itself."""

    def __init__(self, config: RunConfig, settings: GuardSettings | None = None) -> None:
        """Guard a run.

        Args:
            config: the run's settings; what to offer when it is stopped follows from them.
            settings: when to act; from ``config`` by default.
        """
        self.settings = settings or GuardSettings.of(config)
        self.growth = Growth()
        """What came to be used since the machine was calm, by the newest sample."""
        self._config = config
        self._blame = Blame()
        self._paging = Paging(self.settings)
        self._notices = Notices(self.settings)
        self._seconds: float | None = None
        """When the newest sample was."""
        self._strain: Strain | None = None
        """How the machine is, by the newest sample; None is unknown."""
        self._has_judged = False
        """Whether it was ever known."""
        self._strained = 0.0
        """Seconds of strain that count towards the next action; calm wears them off."""
        self._strained_in_all = 0.0
        self._calm = 0.0
        """Seconds of green without a break."""
        self._has_acted = False
        """Whether this episode of strain already had an action."""
        self._is_tolerated = False
        """Whether a person knows of this strain and wants to train all the same."""
        self._is_tight = False
        self._rows = 0
        """The micro-batch asked for last; 0 before."""
        self._pausing_since: float | None = None
        """When a pause was asked for that has not begun."""
        self._is_held = False
        """Whether the run stands still for the guard, as of the newest sample."""
        self._is_resuming = False
        """Whether the guard asked to go on and the run has not yet."""
        self._resumed: float | None = None
        """When the guard last asked to go on."""
        self._needed_calm = self.settings.green_seconds
        self._warned_of: Strain | None = None
        """The worst that this episode's warnings of ``watch`` spoke of."""
        self._is_over = False

    def look(self, sample: HostSample, facts: TrainingFacts) -> Action | None:
        """Take a sample, about one a second, and return what to do now, if anything.

        Actions are to be carried out in order; the next samples' facts show what came of them.
        After ``Abort`` nothing follows.
        """
        paging = self._take_in(sample, facts)
        if self._is_over:
            return None
        if action := self._decide(sample, facts, paging):
            return action
        return self._notices.take()

    def _take_in(self, sample: HostSample, facts: TrainingFacts) -> str:
        """Bring the timers up to date; return how the machine pages, in words."""
        then = facts.seconds if self._seconds is None else self._seconds
        elapsed = min(max(facts.seconds - then, 0.0), self.settings.longest_gap_seconds)
        paging = self._paging.look(sample, facts, elapsed)
        before, strain = self._strain, sample.pressure
        if paging and strain in (None, "green"):
            strain = "yellow"
        elif facts.is_paused and strain == "green" and self._paging.is_swapping:
            # No calm to go on in, and no reason to stop either.
            strain = None
        self._seconds, self._strain = facts.seconds, strain
        if sample.sleep_gap_seconds:
            # A machine that just woke is short of memory for moments; what was before is past.
            self._strained = self._calm = 0.0
        else:
            self._count(before, elapsed)
        self._judge_start(sample, facts)
        self.growth = self._blame.look(sample, facts, is_calm=strain == "green")
        self._notices.look(sample, facts)
        self._follow_pauses(facts)
        return paging

    def _count(self, before: Strain | None, elapsed: float) -> None:
        """Count the time between two samples that agree; of any other nothing is known."""
        if self._strain in ("yellow", "red"):
            self._calm = 0.0
            if before in ("yellow", "red"):
                most = max(self.settings.yellow_seconds, self.settings.grace_seconds)
                self._strained = min(self._strained + elapsed, most)
                self._strained_in_all += elapsed
        elif self._strain == before == "green":
            self._strained = max(self._strained - elapsed, 0.0)
            self._calm += elapsed
            if self._calm >= self.settings.green_seconds:
                self._end_episode()

    def _judge_start(self, sample: HostSample, facts: TrainingFacts) -> None:
        """Say once, of the first sample that tells, that the machine is short already."""
        if self._has_judged or self._strain is None:
            return
        self._has_judged = True
        if sample.pressure == "yellow":
            self._is_tolerated = True
            self._notices.add(already_short(sample) + _TOLERATED[facts.policy])

    def _end_episode(self) -> None:
        self._strained = self._strained_in_all = 0.0
        self._has_acted = self._is_tolerated = False
        self._warned_of = None

    def _follow_pauses(self, facts: TrainingFacts) -> None:
        """See whether a pause that was asked for began, and whether a person ended one."""
        since = self._pausing_since
        if facts.is_paused or (since is not None and facts.seconds - since > _PAUSE_SECONDS):
            self._pausing_since = None
        was_held, self._is_held = self._is_held, facts.paused_by == "guard"
        if was_held and not facts.is_paused and not self._is_resuming:
            # Not the guard's doing: who goes on in spite of the strain knows of it.
            self._is_tolerated = True
        self._is_resuming = self._is_resuming and self._is_held

    def _decide(self, sample: HostSample, facts: TrainingFacts, paging: str) -> Action | None:
        if facts.policy == "watch":
            return self._watch(sample, facts, paging)
        if sample.pressure == "red":
            return self._stop_at_red(facts)
        if facts.phase == "saving" and not facts.is_paused:
            # It cannot be hurried, and what comes next needs it.
            return None
        if facts.policy == "abort":
            return self._stop_at_yellow(facts, paging)
        if facts.is_paused:
            return self._go_on(facts)
        is_pausing = self._pausing_since is not None
        if facts.phase == "loading" or is_pausing or not self._is_due:
            return None
        return self._give_back(facts, paging)

    @property
    def _is_due(self) -> bool:
        """Whether the machine is strained, and was for long enough for the next action."""
        wait = self.settings.grace_seconds if self._has_acted else self.settings.yellow_seconds
        return self._strain in ("yellow", "red") and self._strained >= wait

    def _watch(self, sample: HostSample, facts: TrainingFacts, paging: str) -> Action | None:
        """Only say what would be acted on."""
        if self._is_held:
            return self._resume(facts, "the guard only watches now")
        is_red = sample.pressure == "red"
        is_news = self._warned_of is None or (is_red and self._warned_of != "red")
        if is_news and (is_red or (self._is_due and (paging or not self._is_tolerated))):
            self._warned_of = self._strain
            self._notices.add(f"{_sentence(self._why(paging))} The guard only watches.")
        return None

    def _stop_at_red(self, facts: TrainingFacts) -> Action | None:
        if facts.is_paused and facts.is_deep:
            # All that could be given back was; to end would lose the place and free nothing.
            return None
        return self._abort("memory pressure red")

    def _stop_at_yellow(self, facts: TrainingFacts, paging: str) -> Action | None:
        if self._is_held and not self._is_due:
            return self._go_on(facts)
        if not self._is_due or (self._is_tolerated and not paging):
            return None
        return self._abort(self._strain_words(paging))

    def _give_back(self, facts: TrainingFacts, paging: str) -> Action | None:
        """Take the next rung of the ladder."""
        why, settings = self._why(paging), self.settings
        rows = min(facts.micro_batch, self._rows or facts.micro_batch)
        action: Action
        spare = (facts.cache_bytes or 0) + facts.kept_bytes
        if not self._is_tight and spare >= _WORTH_CLEARING_BYTES:
            self._is_tight = True
            action = Tighten(why, settings.tight_cache_bytes)
        elif rows > 1:
            self._rows = rows // 2
            action = Halve(why, self._rows)
        elif self._is_tolerated and not paging:
            return None
        else:
            self._pausing_since = facts.seconds
            self._lengthen_calm(facts.seconds)
            action = Pause(why, settings.deep_pause)
        self._has_acted, self._strained = True, 0.0
        return action

    def _lengthen_calm(self, now: float) -> None:
        """Ask for a longer calm from a run that no sooner went on than it has to pause again."""
        settings = self.settings
        has_relapsed = self._resumed is not None and now - self._resumed < settings.relapse_seconds
        longer = min(2 * self._needed_calm, max(settings.longest_green_seconds, self._needed_calm))
        self._needed_calm = longer if has_relapsed else settings.green_seconds

    def _go_on(self, facts: TrainingFacts) -> Action | None:
        is_calm = self._strain == "green" and self._calm >= self._needed_calm
        if not self._is_held or not is_calm:
            return None
        return self._resume(facts, f"memory pressure green for {self._calm:.0f} s")

    def _resume(self, facts: TrainingFacts, why: str) -> Action | None:
        if self._is_resuming:
            return None
        self._is_resuming, self._resumed = True, facts.seconds
        return Resume(why)

    def _abort(self, strain: str) -> Action:
        self._is_over = True
        return Abort(self._with_fault(strain), next_reduction(self._config))

    def _why(self, paging: str) -> str:
        return self._with_fault(self._strain_words(paging))

    def _with_fault(self, strain: str) -> str:
        growth = str(self.growth)
        return f"{strain}; {growth}" if growth else strain

    def _strain_words(self, paging: str) -> str:
        lasted = f"for {self._strained_in_all:.0f} s"
        if paging:
            return f"{paging}, {lasted}"
        return f"memory pressure {self._strain} {lasted}"


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


_TOLERATED = {
    "watch": " The guard only watches.",
    "protect": " The guard gives memory back, pauses when the machine pages, and stops at red.",
    "abort": " The guard stops when the machine pages, at red, or at yellow after green.",
}


def already_short(sample: HostSample) -> str:
    """Say how short of memory the machine is before a run begins; empty when it is not."""
    if sample.pressure not in ("yellow", "red"):
        return ""
    parts = [f"Memory pressure is {sample.pressure} before the run has begun"]
    if sample.available_bytes is not None:
        parts.append(f"{sample.available_bytes / 1e9:.1f} GB available")
    if sample.swap_used_bytes:
        parts.append(f"{sample.swap_used_bytes / 1e9:.1f} GB swapped")
    return f"{', '.join(parts)}."
