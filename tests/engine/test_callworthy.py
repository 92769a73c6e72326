"""A person is called about each thing once, with what to do, and not about their own doing."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import pytest

from engine import events as ev
from engine.callworthy import (
    CALL_KINDS,
    FORGOTTEN_SECONDS,
    LATE_SECONDS,
    WAITING_SECONDS,
    Call,
    Callworthy,
)
from engine.errors import DiskFullError
from tests.engine.samples import emptied, filled

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NIGHT = 1_800_000_000.0
HOUR = 3600.0


class Night:
    """A run told event by event; the clock is ours."""

    def __init__(self, since: float = 0.0) -> None:
        self.worth = Callworthy("the-run", since)
        self.now = NIGHT
        self.iteration = 0
        self.done_at = NIGHT + 8 * HOUR
        self.calls: list[Call] = []
        self.events: list[ev.Event] = []

    def tell(self, kind: type[ev.Event], **values: Any) -> None:
        event = dataclasses.replace(emptied(kind), **{"time": self.now, **values})
        self.events.append(event)
        self.calls += self.worth.hear(event)

    def begin(self, iteration: int = 0) -> None:
        self.tell(ev.Progress, stage="libraries")
        self.iteration = iteration
        self.tell(ev.Started, iteration=iteration)

    def step(self, seconds: float = 60.0, **values: Any) -> None:
        self.now += seconds
        self.iteration += 1
        left = self.done_at - self.now
        self.tell(ev.Step, iteration=self.iteration, **{"eta_seconds": left, **values})

    def wait(self, seconds: float) -> None:
        """Let time pass as the watcher's samples show it."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + 20.0, until)
            self.tell(ev.Host)

    def pause(self, by: ev.PausedBy, reason: str = "memory pressure yellow for 60 s") -> None:
        self.tell(ev.Paused, iteration=self.iteration, by=by, reason=reason)

    def resume(self) -> None:
        self.tell(ev.Resumed, iteration=self.iteration)

    def end(self, status: ev.EndStatus, code: int = 0, reason: str = "a reason") -> None:
        self.tell(
            ev.Ended,
            status=status,
            iteration=self.iteration,
            exit_code=code,
            reason=reason,
            hint="",
        )

    @property
    def kinds(self) -> list[str]:
        return [call.kind for call in self.calls]


@pytest.fixture
def night() -> Night:
    night = Night()
    night.begin()
    night.step()
    return night


def test_an_undisturbed_night_calls_once_at_its_end(night: Night) -> None:
    for _ in range(3):
        night.step(2 * HOUR)
    night.tell(ev.Evaluated, iteration=3, val_loss=1.25, best=True)
    night.tell(ev.Evaluated, iteration=4, val_loss=1.5, best=False)
    night.tell(ev.CheckpointSaved, iteration=4)
    assert night.calls == []
    night.end("completed")
    (call,) = night.calls
    assert call.kind == "finished"
    assert call.text == (
        "Completed at 4 after 6 h 01 min. Validation loss 1.500, best 1.250 at 3.\n"
        "Try it: lora-tui chat the-run"
    )


def test_a_run_stopped_by_the_guard_says_how_to_go_on(night: Night) -> None:
    night.tell(ev.CheckpointSaved, iteration=1)
    night.tell(ev.Guard, action="abort", why="memory pressure red", offer={"batch_size": 2})
    night.end("aborted", 3, "memory pressure red")
    (call,) = night.calls
    assert call.kind == "stopped"
    assert call.text == (
        "Stopped by the guard at 1: memory pressure red. Saved at 1. A new run needs less "
        "memory with batch_size=2.\nGo on with: lora-tui run --resume the-run"
    )


@pytest.mark.parametrize(
    ("status", "code", "kinds"),
    [
        ("stopped", 0, []),
        ("stopped", 130, []),
        ("stopped", 129, []),
        ("stopped", 143, ["failed"]),
        ("failed", 1, ["failed"]),
    ],
)
def test_who_stopped_it_is_not_called(
    night: Night, status: ev.EndStatus, code: int, kinds: list[str]
) -> None:
    night.end(status, code)
    assert night.kinds == kinds


def test_what_fails_while_somebody_still_looks_is_no_call() -> None:
    for seconds, kinds in ((5.0, []), (600.0, ["failed"])):
        night = Night()
        night.tell(ev.Progress, stage="libraries")
        night.now += seconds
        night.end("failed", 2)
        assert night.kinds == kinds


def test_a_pause_of_the_guards_calls_once_when_it_lasts(night: Night) -> None:
    night.pause("guard")
    night.wait(WAITING_SECONDS - 1)
    assert night.calls == []
    night.wait(2 * HOUR)
    (call,) = night.calls
    assert call.kind == "waiting"
    assert "Paused by the guard at 1 for 5 min (memory pressure yellow for 60 s)." in call.text
    assert "lora-tui attach the-run" in call.text
    night.resume()
    night.pause("guard")
    night.wait(WAITING_SECONDS)
    assert night.kinds == ["waiting", "waiting"]


def test_a_short_pause_is_no_call(night: Night) -> None:
    for _ in range(5):
        night.pause("guard")
        night.wait(WAITING_SECONDS - 20)
        night.resume()
        night.wait(HOUR)
    assert night.kinds == []


def test_a_pause_that_was_asked_for_calls_only_when_it_is_forgotten(night: Night) -> None:
    night.pause("person", "asked")
    night.wait(FORGOTTEN_SECONDS - 1)
    assert night.calls == []
    night.wait(HOUR)
    assert night.kinds == ["waiting"]


def test_sleep_is_no_waiting(night: Night) -> None:
    night.pause("guard")
    night.wait(60)
    night.now += 3 * HOUR
    night.tell(ev.Slept, seconds=3 * HOUR)
    night.wait(120)
    assert night.calls == []
    night.wait(121)
    assert night.kinds == ["waiting"]


@pytest.mark.parametrize("has_guard_event", [True, False])
def test_a_full_disk_calls_once_until_it_is_freed(
    night: Night, tmp_path: Path, has_guard_event: bool
) -> None:
    why = DiskFullError(tmp_path, 148_000_000, 0).message
    for times in (1, 2):
        if has_guard_event:
            why_guard = f"{why} Training goes on by itself once there is space."
            night.tell(ev.Guard, action="pause", why=why_guard)
        night.pause("person", why)
        night.wait(3 * HOUR)
        assert night.kinds == ["disk"] * times
        night.resume()
    assert "Free some space" in night.calls[0].text
    assert "148 MB" in night.calls[0].text


def test_numbers_gone_wrong_call_once_and_again_when_it_goes_back(night: Night) -> None:
    for _ in range(3):
        night.tell(ev.Guard, action="skip_batch", why="its loss is not finite", iteration=1)
    assert night.kinds == ["numbers"]
    night.tell(ev.Guard, action="reload", why="3 batches in a row gave none", iteration=1)
    assert night.kinds == ["numbers", "numbers"]
    assert "learning_rate" in night.calls[0].text
    assert "went back to what was saved at 1" in night.calls[1].text


def test_of_the_shapes_of_trouble_only_divergence_wakes_anybody(night: Night) -> None:
    night.begin()
    night.tell(ev.Trouble, shape="plateau", words="It is flat.")
    assert night.calls == []
    night.tell(ev.Trouble, shape="divergence", iteration=70, words="It rises.")
    (call,) = night.calls
    assert (call.kind, call.what) == ("numbers", "learns no more: its loss rises at 70")
    assert call.text.startswith("It rises.")


def test_a_stall_calls_once_until_it_goes_on(night: Night) -> None:
    for _ in range(2):
        for _ in range(3):
            night.tell(ev.Warned, message="Step 2 has not ended for 10 min.", about="stall")
        night.tell(ev.Warned, message="The machine is hot.", about="")
        night.step()
    assert night.kinds == ["stalled", "stalled"]
    assert "lora-tui run --resume the-run" in night.calls[0].text


def test_becoming_late_calls_at_every_half_hour(night: Night) -> None:
    night.done_at += LATE_SECONDS
    night.step()
    assert night.calls == []
    night.done_at += 60
    for _ in range(5):
        night.step()
    (call,) = night.calls
    done = time.strftime("%H:%M", time.localtime(night.done_at))
    before = time.strftime("%H:%M", time.localtime(NIGHT + 8 * HOUR))
    assert call.kind == "late"
    assert call.what == "will be late by 31 min"
    for words in (done, before, "31 min later"):
        assert words in call.text
    night.done_at += LATE_SECONDS
    night.step()
    assert len(night.calls) == 1
    night.done_at += 1
    night.step()
    assert len(night.calls) == 2


def test_becoming_faster_first_makes_nothing_late(night: Night) -> None:
    for done_at in (NIGHT + 6 * HOUR, NIGHT + 8 * HOUR):
        night.done_at = done_at
        night.step()
    assert night.calls == []


def test_a_forecast_that_was_a_wide_guess_is_not_held_to_its_middle() -> None:
    night = Night()
    night.begin()
    night.step(eta_high_seconds=14 * HOUR)
    night.done_at = NIGHT + 12 * HOUR
    night.step(eta_high_seconds=12.5 * HOUR)
    assert night.calls == []
    night.done_at += 2 * HOUR
    night.step(eta_high_seconds=14.5 * HOUR)
    assert night.kinds == ["late"]


def test_what_the_person_paused_for_is_not_late_but_what_the_machine_slept_is(
    night: Night,
) -> None:
    night.pause("person", "asked")
    night.now += 0.9 * HOUR
    night.done_at += 0.9 * HOUR
    night.resume()
    night.step()
    assert night.calls == []
    night.now += HOUR
    night.done_at += HOUR
    night.tell(ev.Slept, seconds=HOUR)
    night.step()
    (call,) = night.calls
    assert "the machine was asleep for 1 h 00 min" in call.text


def stormy(night: Night) -> None:
    night.begin()
    night.step()
    night.tell(ev.Guard, action="skip_batch", why="no number", iteration=1)
    night.tell(ev.Warned, message="Step 2 has not ended for 10 min.", about="stall")
    night.done_at += 2 * HOUR
    night.step()
    night.pause("guard")
    night.wait(HOUR)


def test_history_that_is_told_again_calls_nobody() -> None:
    before = Night()
    stormy(before)
    assert before.kinds == ["numbers", "stalled", "late", "waiting"]
    again = Night(since=before.now + 1)
    for event in before.events:
        again.calls += again.worth.hear(event)
    # The process died in that pause, and somebody goes on hours later.
    again.now, again.done_at = before.now + 5 * HOUR, before.now + 9 * HOUR
    again.begin(1)
    again.step()
    again.wait(HOUR)
    assert again.calls == []
    again.end("completed")
    assert again.kinds == ["finished"]


def test_every_kind_of_event_can_be_heard() -> None:
    def heard(events: Iterable[ev.Event]) -> None:
        worth = Callworthy("r")
        for event in events:
            assert {call.kind for call in worth.hear(event)} <= set(CALL_KINDS)

    heard(filled(kind) for kind in ev.KINDS.values())
    heard(emptied(kind) for kind in ev.KINDS.values())
