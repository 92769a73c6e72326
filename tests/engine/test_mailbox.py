"""Wishes reach the trainer from any thread, once, in order, and wake it when it sleeps."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from engine.guard import Halve, Pause, Resume
from engine.mailbox import Hold, Mailbox, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 30.0
MOMENT = 0.05
"""Seconds in which a sleeper that wakes for nothing would be seen."""


class Sleeper(threading.Thread):
    """Waits in a mailbox."""

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__(daemon=True)
        self.mailbox = mailbox
        self.begun = threading.Event()
        self.awake = threading.Event()

    def run(self) -> None:
        self.begun.set()
        self.mailbox.wait()
        self.awake.set()


def asleep(mailbox: Mailbox) -> Sleeper:
    sleeper = Sleeper(mailbox)
    sleeper.start()
    assert sleeper.begun.wait(PATIENCE)
    assert not sleeper.awake.wait(MOMENT)
    return sleeper


def test_nothing_is_wished_at_first() -> None:
    mailbox = Mailbox(micro_batch=3)
    assert mailbox.hold() is None
    assert mailbox.stop_wish() is None
    assert not mailbox.should_stop()
    assert mailbox.micro_batch() == 3
    assert mailbox.take() == []


def test_pause_and_resume() -> None:
    mailbox = Mailbox()
    mailbox.pause()
    assert mailbox.hold() == Hold("person", "asked")
    mailbox.pause("lunch")
    assert mailbox.hold() == Hold("person", "lunch")
    mailbox.resume()
    assert mailbox.hold() is None


def test_the_guards_pause_drops_the_step_in_flight_and_ends_by_its_own_order() -> None:
    mailbox, pause = Mailbox(), Pause("yellow")
    mailbox.order(pause)
    assert mailbox.hold() == Hold("guard", "yellow")
    assert mailbox.take_orders() == [pause]
    assert (mailbox.should_stop(), mailbox.stop_wish()) == (True, None)
    with mailbox.standing_still():
        # What is asked for meanwhile is done.
        assert not mailbox.should_stop()
    assert mailbox.should_stop()
    mailbox.order(Resume("green"))
    assert (mailbox.should_stop(), mailbox.hold()) == (False, None)
    assert mailbox.take_resume() == Resume("green")
    assert mailbox.take_resume() is None


def test_a_person_comes_before_the_guard() -> None:
    mailbox = Mailbox()
    mailbox.order(Pause("yellow"))
    mailbox.pause("lunch")
    assert mailbox.hold() == Hold("person", "lunch")
    mailbox.order(Resume("green"))
    assert mailbox.hold() == Hold("person", "lunch")
    mailbox.order(Pause("yellow again"))
    mailbox.pause("no space left", "disk")
    mailbox.resume()
    assert mailbox.hold() == Hold("disk", "no space left")
    mailbox.resume("disk")
    assert mailbox.hold() is None


def test_the_guard_only_ever_lowers_the_micro_batch() -> None:
    mailbox, halve = Mailbox(micro_batch=8), Halve("yellow", 4)
    mailbox.order(halve)
    assert mailbox.micro_batch() == 4
    mailbox.order(Halve("yellow", 6))
    assert mailbox.micro_batch() == 4
    assert mailbox.take_orders() == [halve, Halve("yellow", 6)]
    assert mailbox.take_orders() == []


def test_a_wait_for_space_is_no_busy_loop_while_the_guard_holds_too() -> None:
    mailbox = Mailbox()
    mailbox.order(Pause("yellow"))
    began = time.monotonic()
    mailbox.wait_for_stop(MOMENT)
    assert time.monotonic() - began >= MOMENT


def test_requests_are_taken_once_in_order_and_not_twice() -> None:
    mailbox = Mailbox()
    for what in ("sample", "checkpoint", "sample", "evaluate", "checkpoint"):
        mailbox.request(what)
    assert mailbox.take() == ["sample", "checkpoint", "evaluate"]
    assert mailbox.take() == []
    mailbox.request("sample")
    assert mailbox.take() == ["sample"]


def test_the_first_to_stop_gives_the_reason() -> None:
    mailbox = Mailbox()
    first = Stop("signal SIGTERM", "signal", 143)
    mailbox.stop(first)
    mailbox.stop(Stop("asked"))
    assert mailbox.stop_wish() == first
    assert mailbox.should_stop()


def test_the_micro_batch_is_the_last_that_was_set() -> None:
    mailbox = Mailbox()
    mailbox.set_micro_batch(4)
    mailbox.set_micro_batch(2)
    assert mailbox.micro_batch() == 2


WAKERS: dict[str, Callable[[Mailbox], None]] = {
    "resume": Mailbox.resume,
    "request": lambda mailbox: mailbox.request("checkpoint"),
    "stop": lambda mailbox: mailbox.stop(Stop("asked")),
}


@pytest.mark.parametrize("wish", WAKERS)
def test_a_paused_trainer_wakes_for_a_wish(wish: str) -> None:
    mailbox = Mailbox()
    mailbox.pause()
    sleeper = asleep(mailbox)
    WAKERS[wish](mailbox)
    assert sleeper.awake.wait(PATIENCE)
    sleeper.join(PATIENCE)


def test_a_paused_trainer_sleeps_on_when_the_micro_batch_or_the_reason_changes() -> None:
    mailbox = Mailbox()
    mailbox.pause()
    sleeper = asleep(mailbox)
    mailbox.set_micro_batch(2)
    mailbox.pause("pressure")
    assert not sleeper.awake.wait(MOMENT)
    mailbox.resume()
    assert sleeper.awake.wait(PATIENCE)


@pytest.mark.parametrize("wish", WAKERS)
def test_nobody_sleeps_when_the_wish_is_there_already(wish: str) -> None:
    mailbox = Mailbox()
    mailbox.pause()
    WAKERS[wish](mailbox)
    sleeper = Sleeper(mailbox)
    sleeper.start()
    assert sleeper.awake.wait(PATIENCE)


def test_wishes_of_many_threads_are_all_seen_once() -> None:
    """Each thread asks again when its wish was taken; nothing is lost and nothing comes twice."""
    mailbox, rounds = Mailbox(), 200
    taken = {what: threading.Semaphore(0) for what in ("checkpoint", "evaluate", "sample")}
    counts = dict.fromkeys(taken, 0)

    def ask(what: str) -> None:
        for _ in range(rounds):
            mailbox.request(what)  # pyright: ignore[reportArgumentType]
            assert taken[what].acquire(timeout=PATIENCE)

    askers = [threading.Thread(target=ask, args=(what,), daemon=True) for what in taken]
    mailbox.pause()
    for asker in askers:
        asker.start()
    while sum(counts.values()) < rounds * len(taken):
        mailbox.wait()
        for what in mailbox.take():
            counts[what] += 1
            taken[what].release()
    for asker in askers:
        asker.join(PATIENCE)
    assert set(counts.values()) == {rounds}
    assert mailbox.take() == []
