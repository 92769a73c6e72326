"""Follows one run: folds its new events, and remembers what was asked and not yet answered."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engine.events import CheckpointDeleted, Ended, Progress, Started
from engine.view import RunView
from tui.signals import HANG_UP
from tui.timeline import Timeline
from tui.words import one_line, transfer

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Sequence

    from engine.events import Event, Policy
    from tui.controls import RunControls

Request = Literal["pause", "resume", "checkpoint", "evaluate", "sample", "stop", "detach"]
Standing = Literal[
    "loading",
    "training",
    "paused",
    "completed",
    "stopped",
    "aborted",
    "failed",
    "interrupted",
]

REQUEST_WORDS: dict[Request, str] = {
    "pause": "pausing after this step…",
    "resume": "going on…",
    "checkpoint": "saving after this step…",
    "evaluate": "evaluating after this step…",
    "sample": "sampling after this step…",
    "stop": "stopping after this step, saving first…",
    "detach": "handing over, saving first…",
}
BAD_INPUT = 2
POLICIES: tuple[Policy, ...] = ("watch", "protect", "abort")
"""In the order in which a key goes through them."""
FOLD_AT_ONCE = 20_000
"""Events folded in one go, so that a long journal does not hold up the keys."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Something asked of the run, and what had happened of its kind by then."""

    request: Request
    happened: float


class RunWatch:
    """One run as the screens see it."""

    def __init__(self, controls: RunControls, now: Callable[[], float]) -> None:
        self.controls = controls
        self.whole = RunView()
        """The run as far as it got, wherever somebody looks."""
        self.place: int | None = None
        """The step that somebody looks back at, as a place in the history; None at the end."""
        self._past = self.whole
        self._timeline: Timeline | None = None
        self.progress: Progress | None = None
        """The newest word on work besides training, while it goes on."""
        self.asked: list[Asked] = []
        self._now = now
        self._last_time = 0.0
        self._folded = 0
        self._edition = controls.edition
        self.is_started = False
        self._is_broken_off = False
        self._past_time = 0.0
        self._load_began: float | None = None
        self.loading_seconds: float | None = None
        """How long it took this time from the beginning to the first step; None if not known."""

    @property
    def view(self) -> RunView:
        """The run as it is, or as it was where somebody looks back."""
        return self.whole if self.place is None else self._past

    def look_at(self, place: int | None) -> None:
        """Look back at a step of a run that is over; None or the last step is the end."""
        last = len(self.whole.steps) - 1
        if not self.is_over or place is None or place >= last:
            self.place = None
            return
        if self._timeline is None:
            self._timeline = Timeline(self.controls.events)
        self.place = max(0, place)
        self._past = self._timeline.view_at(self.place)
        self._past_time = self._timeline.time_at(self.place)

    def start(self) -> None:
        """Begin the run."""
        self.controls.start()
        self.is_started = True

    def poll(self) -> bool:
        """Fold what is new; say whether anything was."""
        # Asked before the events are read: what a run says last comes before it dies.
        is_alive = self.controls.is_alive()
        events = self.controls.events
        is_told_anew = self.controls.edition != self._edition
        if is_told_anew:
            self._begin_anew(events)
        new = events[self._folded : self._folded + FOLD_AT_ONCE]
        self._folded += len(new)
        for event in new:
            self.whole.apply(event)
            self._last_time = event.time
            if isinstance(event, Progress):
                self.progress = event
                # A download is not done again.
                if event.stage in ("libraries", "download"):
                    self._load_began = event.time
            elif isinstance(event, Started) and self._load_began is not None:
                self.loading_seconds = event.time - self._load_began
        if not self.whole.activity:
            self.progress = None
        open_before = len(self.asked)
        self.asked = [asked for asked in self.asked if not self._is_answered(asked)]
        is_caught_up = self._folded >= len(events)
        broken_off = self.is_started and is_caught_up and not is_alive and not self.whole.is_over
        changed = bool(new) or is_told_anew or broken_off != self._is_broken_off
        changed = changed or len(self.asked) != open_before
        self._is_broken_off = broken_off
        return changed

    def ask(self, request: Request, reason: str = "asked") -> None:
        """Ask something of the run; it answers when the step in flight is done."""
        controls = self.controls
        match request:
            case "pause":
                controls.pause()
            case "resume":
                controls.resume()
            case "checkpoint":
                controls.checkpoint()
            case "evaluate":
                controls.evaluate()
            case "sample":
                controls.sample()
            case "stop":
                controls.stop(reason)
            case "detach":
                controls.detach()
        self.asked = [asked for asked in self.asked if not _replaces(request, asked.request)]
        # A pause taken back before it happened leaves nothing to wait for.
        if request != "resume" or self.view.status == "paused":
            self.asked.append(Asked(request, self._happened(request)))

    def hear(self, number: signal.Signals) -> None:
        """Stop the run for a signal, unless it goes on without this screen."""
        if number == HANG_UP:
            self.controls.hang_up()
        if not self.controls.outlives_app:
            self.ask("stop", f"signal {number.name}")

    def forget_checkpoint(self, iteration: int) -> None:
        """Show a checkpoint no more that was deleted from here."""
        self.view.apply(CheckpointDeleted(time=self._last_time, iteration=iteration))

    def next_policy(self) -> None:
        """Let the guard do the next thing in turn when memory runs short."""
        turn = POLICIES.index(self.view.policy) + 1
        self.controls.set_policy(POLICIES[turn % len(POLICIES)])
        self.poll()

    @property
    def now(self) -> float:
        """The time of day that clocks count from: of a run that is over, its last word."""
        if self.place is not None:
            return self._past_time
        return self._last_time if self.is_over else self._now()

    @property
    def today(self) -> float:
        """The time of day here and now."""
        return self._now()

    @property
    def standing(self) -> Standing:
        """Where the run stands, in one word."""
        return "interrupted" if self._is_broken_off else self.whole.status

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of this run."""
        return self.whole.is_over or self._is_broken_off

    @property
    def is_still(self) -> bool:
        """Whether nothing will change soon: the run neither loads nor trains, nor is asked to."""
        return self.standing not in ("loading", "training") and not self.asked

    @property
    def may_be_left(self) -> bool:
        """Whether leaving the screen takes nothing from the run."""
        return self.is_over or self.controls.outlives_app

    @property
    def is_left_alone(self) -> bool:
        """Whether it would train on unseen in this process, though nobody wants that."""
        goes_on = self.controls.is_alive() and not self.is_stopping
        return goes_on and not self.controls.outlives_app

    @property
    def can_be_handed_over(self) -> bool:
        """Whether it can go on in the background instead of here."""
        return self.is_steerable and self.controls.can_detach and not self.is_stopping

    @property
    def can_be_tried(self) -> bool:
        """Whether somebody can talk to it: two models would not fit where one is trained."""
        # A run in another process has no model to lend, even while it stands still.
        is_lent = self.standing == "paused" and not self.controls.outlives_app
        return bool(self.view.checkpoints) and (self.is_over or is_lent)

    @property
    def is_steerable(self) -> bool:
        """Whether pausing, saving, evaluating and sampling mean anything now."""
        return self.view.status in ("training", "paused") and not self.is_over

    @property
    def is_stopping(self) -> bool:
        """Whether the run was asked to stop and has not yet."""
        return any(asked.request in ("stop", "detach") for asked in self.asked)

    @property
    def wants_resume(self) -> bool:
        """Whether the run stands still, or was asked to."""
        asked = {asked.request for asked in self.asked}
        return "pause" in asked or (self.view.status == "paused" and "resume" not in asked)

    @property
    def doing(self) -> str:
        """What goes on besides training, and how far it is; or nothing."""
        words = one_line(self.view.activity)
        work = self.progress
        is_counted = work and work.total and not self.transfer
        return f"{words} {work.done:,} of {work.total:,}" if work and is_counted else words

    @property
    def transfer(self) -> str:
        """How far a download is, or what keeps it; nothing when there is none."""
        work = self.progress
        return transfer(work) if work and work.stage == "download" else ""

    @property
    def asked_words(self) -> str:
        """What was asked last and is not answered yet, or nothing."""
        return REQUEST_WORDS[self.asked[-1].request] if self.asked else ""

    @property
    def refused_input(self) -> Ended | None:
        """The end of a run that never started because what it was given is wrong."""
        ended = self.whole.ended
        if ended and ended.exit_code == BAD_INPUT and self.whole.started is None:
            return ended
        return None

    def _begin_anew(self, events: Sequence[Event]) -> None:
        """Show the same run in more detail."""
        self._edition = self.controls.edition
        at = None if self.place is None else self.whole.steps.iteration[self.place]
        self.whole = self._past = RunView()
        self.whole.apply_all(events)
        self._folded, self._timeline = len(events), None
        if at is not None:
            self.look_at(bisect_left(self.whole.steps.iteration, at))

    def _is_answered(self, asked: Asked) -> bool:
        return self.is_over or self._happened(asked.request) != asked.happened

    def _happened(self, request: Request) -> float:
        """Give what is another number once the request is answered.

        Not how many there are: a checkpoint may take the place of one, and old ones go.
        """
        view = self.view
        match request:
            case "pause":
                return int(view.status == "paused")
            case "resume":
                return int(view.status == "training")
            case "checkpoint":
                return view.checkpoints[-1].time if view.checkpoints else 0
            case "evaluate":
                return len(view.evaluations)
            case "sample":
                return view.samples[-1].time if view.samples else 0
            case "stop" | "detach":
                return 0


def _replaces(new: Request, old: Request) -> bool:
    return new == old or {new, old} == {"pause", "resume"}
