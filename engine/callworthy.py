"""Decides what of a run is worth calling a person for: from its events alone, each thing once.

The clock is the events' own: the machine is looked at every second, whatever the run does. What the
person did, such as a pause, is no news to that person, unless it was forgotten.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from typing import Literal, get_args

from engine import events as ev
from engine.errors import DISK_FULL
from engine.event_words import duration

CallKind = Literal[
    "finished", "stopped", "failed", "waiting", "disk", "numbers", "stalled", "late"
]  # fmt: skip
CALL_KINDS: tuple[CallKind, ...] = get_args(CallKind)

WAITING_SECONDS = 300.0
"""How long a pause that nobody asked for may last."""
FORGOTTEN_SECONDS = 3600.0
"""And one that somebody asked for."""
LATE_SECONDS = 1800.0
"""What a run may become later than was forecast."""
LOADING_SECONDS = 60.0
"""Whoever started a run still looks for so long."""
_HIS_OWN_EXITS = frozenset({0, 128 + signal.SIGINT, 128 + signal.SIGHUP})
"""How a run ends that its person stopped: as asked, by Ctrl-C, by closing the window."""


@dataclass(frozen=True, slots=True)
class Call:
    """Something that a person should hear of."""

    kind: CallKind
    what: str
    """In a few words, to follow the run's name."""
    text: str
    """What happened and what to do."""
    time: float


@dataclass(slots=True)
class _Forecast:
    """When the run was said to be done, in seconds since the epoch."""

    finish: float
    latest: float
    """The end of its range. It comes nearer as forecasts get firmer, but not before ``finish``."""
    slept: float = 0.0
    paused: float = 0.0
    """Seconds since it was given that the machine was asleep, and that the guard paused."""

    def move(self, seconds: float) -> None:
        """Put it off by what the person wanted."""
        self.finish += seconds
        self.latest += seconds


@dataclass(slots=True)
class _Sofar:
    """What is known of the run since this process began with it."""

    began: float
    started: ev.Started | None = None
    paused: ev.Paused | None = None
    waits_since: float = 0.0
    has_told_pause: bool = False
    is_disk_told: bool = False
    is_stall_told: bool = False
    is_skip_told: bool = False
    forecast: _Forecast | None = None
    evaluated: ev.Evaluated | None = None
    best: ev.Evaluated | None = None
    saved: int = 0
    offer: dict[str, int] = field(default_factory=dict[str, int])
    """Settings with which the run needs less memory."""


class Callworthy:
    """Hears a run's events one by one, and says which of them to call about."""

    def __init__(self, run: str, since: float = 0.0) -> None:
        """Know the run.

        Args:
            run: its name as the command line takes it.
            since: what happened before, in seconds since the epoch, is no news.
        """
        self._run = run
        self._since = since
        self._sofar: _Sofar | None = None

    def hear(self, event: ev.Event) -> list[Call]:
        """Take an event; return what to call about now."""
        is_new_process = isinstance(event, ev.Progress) and event.stage == "libraries"
        if self._sofar is None or is_new_process:
            self._sofar = _Sofar(event.time)
        sofar = self._sofar
        told = self._take(event, sofar)
        told += self._tick(event.time, sofar)
        return [call for call in told if call.time >= self._since]

    def _take(self, event: ev.Event, sofar: _Sofar) -> list[Call]:  # noqa: C901 - a case per kind
        match event:
            case ev.Step():
                sofar.is_stall_told = False
                return self._late(event, sofar)
            case ev.Probed():
                return self._late(event, sofar)
            case ev.Warned(about="stall"):
                return self._stalled(event, sofar)
            case ev.Trouble(shape="divergence"):
                # Said once in a run. The other shapes can wait for the morning.
                what = f"learns no more: its loss rises at {event.iteration:,}"
                return [Call("numbers", what, f"{event.message}{self._look}", event.time)]
            case ev.Guard():
                return self._guard(event, sofar)
            case ev.Paused():
                return self._paused(event, sofar)
            case ev.Resumed():
                _go_on(event, sofar)
            case ev.Slept():
                sofar.waits_since += event.seconds
                if sofar.forecast:
                    sofar.forecast.slept += event.seconds
            case ev.Started():
                sofar.started = event
            case ev.Evaluated():
                sofar.evaluated = event
                sofar.best = event if event.best else sofar.best
            case ev.CheckpointSaved():
                sofar.saved = event.iteration
            case ev.Ended():
                return self._ended(event, sofar)
            case _:
                pass
        return []

    def _tick(self, now: float, sofar: _Sofar) -> list[Call]:
        """Look whether a pause lasts too long."""
        paused = sofar.paused
        if paused is None or sofar.has_told_pause:
            return []
        waited = now - sofar.waits_since
        is_guard = paused.by == "guard"
        if waited < (WAITING_SECONDS if is_guard else FORGOTTEN_SECONDS):
            return []
        sofar.has_told_pause = True
        by = "by the guard " if is_guard else ""
        advice = (
            "It goes on by itself once memory is free: close other programs."
            if is_guard
            else "It goes on when you say so."
        )
        text = (
            f"Paused {by}at {paused.iteration:,} for {duration(waited)} ({paused.reason}). "
            f"{advice}{self._look}"
        )
        return [Call("waiting", f"is paused and waiting at {paused.iteration:,}", text, now)]

    def _guard(self, event: ev.Guard, sofar: _Sofar) -> list[Call]:
        match event.action:
            case "abort":
                sofar.offer = event.offer
            case "pause" if event.why.startswith(DISK_FULL):
                return self._disk(event.time, event.why, sofar)
            case "skip_batch" if not sofar.is_skip_told:
                sofar.is_skip_told = True
                what = f"left out a batch after {event.iteration:,}"
                text = (
                    f"A batch after {event.iteration:,} was left out: {event.why}. Training goes "
                    "on, and further ones are not called about. If there are many, lower "
                    f"learning_rate or set max_grad_norm: 1.0.{self._look}"
                )
                return [Call("numbers", what, text, event.time)]
            case "reload":
                what = f"went back to {event.iteration:,}: its numbers went wrong"
                text = (
                    f"{event.why[:1].upper()}{event.why[1:]}, so it went back to what was saved at "
                    f"{event.iteration:,} and trains on from there. If that happens again it ends; "
                    f"then lower learning_rate or set max_grad_norm: 1.0.{self._look}"
                )
                return [Call("numbers", what, text, event.time)]
            case _:
                pass
        return []

    def _paused(self, event: ev.Paused, sofar: _Sofar) -> list[Call]:
        sofar.paused, sofar.waits_since, sofar.has_told_pause = event, event.time, False
        if not event.reason.startswith(DISK_FULL):
            return []
        # It was called about as what it is.
        sofar.has_told_pause = True
        return self._disk(event.time, event.reason, sofar)

    def _disk(self, when: float, why: str, sofar: _Sofar) -> list[Call]:
        if sofar.is_disk_told:
            return []
        sofar.is_disk_told = True
        why = why.removesuffix(" Training goes on by itself once there is space.")
        text = (
            f"{why} Free some space: training goes on by itself then, and what was saved is "
            f"intact.{self._look}"
        )
        return [Call("disk", "waits: the disk is full", text, when)]

    def _stalled(self, event: ev.Warned, sofar: _Sofar) -> list[Call]:
        if sofar.is_stall_told:
            return []
        sofar.is_stall_told = True
        text = f"{event.message}{self._look}{self._go_on}"
        return [Call("stalled", "has stalled", text, event.time)]

    def _late(self, event: ev.Step | ev.Probed, sofar: _Sofar) -> list[Call]:
        """Compare the forecast with the one before it, as far as that was sure."""
        if event.eta_seconds is None:
            return []
        finish = event.time + event.eta_seconds
        high = event.eta_high_seconds
        latest = finish if high is None else event.time + high
        said = sofar.forecast
        if said is None:
            sofar.forecast = _Forecast(finish, latest)
            return []
        said.latest = max(said.finish, min(said.latest, latest))
        if finish - said.latest <= LATE_SECONDS:
            return []
        sofar.forecast = _Forecast(finish, latest)
        causes = [
            f"{words} for {duration(seconds)}"
            for words, seconds in (
                ("the machine was asleep", said.slept),
                ("the guard paused", said.paused),
            )
            if seconds >= 60
        ]
        why = " and ".join(causes) or "steps take longer than they did"
        text = (
            f"It is done at about {_clock(finish, event.time)}, "
            f"{duration(finish - said.finish)} later than {_clock(said.finish, event.time)} as "
            f"was forecast: {why}. Nothing has to be done.{self._look}"
        )
        return [Call("late", f"will be late by {duration(finish - said.finish)}", text, event.time)]

    def _ended(self, event: ev.Ended, sofar: _Sofar) -> list[Call]:
        sofar.paused = None
        match event.status:
            case "completed":
                text = f"Completed at {event.iteration:,}{_time_taken(event, sofar)}."
                text = " ".join([text, *_validation(sofar)])
                text += f"\nTry it: lora-tui chat {self._run}"
                return [Call("finished", "finished", text, event.time)]
            case "aborted":
                less = ", ".join(f"{key}={value}" for key, value in sofar.offer.items())
                hint = f" A new run needs less memory with {less}." if less else ""
                text = f"Stopped by the guard at {event.iteration:,}: {event.reason}."
                text += f"{_saved(sofar)}{hint}{self._go_on_if_saved(sofar)}"
                return [Call("stopped", "was stopped by the guard", text, event.time)]
            case "stopped" if event.exit_code in _HIS_OWN_EXITS:
                return []
            case _:
                pass
        if sofar.started is None and event.time - sofar.began < LOADING_SECONDS:
            return []
        status = event.status.capitalize()
        reason = event.reason if event.reason.endswith(".") else f"{event.reason}."
        hint = f" {event.hint}" if event.status == "failed" and event.hint else ""
        text = f"{status} at {event.iteration:,}: {reason}{hint}{_saved(sofar)}"
        text += self._go_on_if_saved(sofar)
        return [Call("failed", f"{event.status} at {event.iteration:,}", text, event.time)]

    def _go_on_if_saved(self, sofar: _Sofar) -> str:
        # What was saved by an earlier process is known by where this one began.
        begun_at = sofar.started.iteration if sofar.started else 0
        return self._go_on if sofar.saved or begun_at else ""

    @property
    def _look(self) -> str:
        """Commands have lines of their own, to be copied."""
        return f"\nLook: lora-tui attach {self._run}"

    @property
    def _go_on(self) -> str:
        return f"\nGo on with: lora-tui run --resume {self._run}"


def _go_on(event: ev.Resumed, sofar: _Sofar) -> None:
    paused, sofar.paused, sofar.is_disk_told = sofar.paused, None, False
    if paused is None or sofar.forecast is None:
        return
    seconds = max(0.0, event.time - paused.time)
    if paused.by == "guard":
        sofar.forecast.paused += seconds
    elif not paused.reason.startswith(DISK_FULL):
        sofar.forecast.move(seconds)


def _validation(sofar: _Sofar) -> list[str]:
    last, best = sofar.evaluated, sofar.best
    if last is None:
        return []
    more = f", best {best.val_loss:.3f} at {best.iteration:,}" if best and best != last else ""
    return [f"Validation loss {last.val_loss:.3f}{more}."]


def _time_taken(event: ev.Ended, sofar: _Sofar) -> str:
    return f" after {duration(event.time - sofar.started.time)}" if sofar.started else ""


def _saved(sofar: _Sofar) -> str:
    return f" Saved at {sofar.saved:,}." if sofar.saved else ""


def _clock(moment: float, now: float) -> str:
    """Give the time of day, with the day where it is another one."""
    there, here = time.localtime(moment), time.localtime(now)
    is_same_day = there[:3] == here[:3]
    return time.strftime("%H:%M" if is_same_day else "%a %H:%M", there)
