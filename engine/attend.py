"""What the trainer does between two steps: serves wishes, and stands still while that is wished."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine import events as ev
from engine.deep import bring_back, put_away
from engine.heed import give_back, held_bytes
from engine.measure import evaluate, sample
from engine.saving import reason_to_save, save
from engine.use.wardrobe import LentWardrobe

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from engine.mailbox import Hold, Request
    from engine.state import State


def attend(state: State) -> Iterator[ev.Event]:
    """Do what others asked for since the last step, and stand still while that is wished."""
    mailbox = state.mailbox
    while not mailbox.stop_wish():
        yield from state.heed.done(state.iteration)
        yield from _serve(state)
        hold = mailbox.hold()
        if hold is None:
            return
        with mailbox.standing_still():
            yield from _stand_still(state, hold)


def measure(state: State) -> Generator[ev.Event, None, bool]:
    """Evaluate, and keep what is the best so far.

    Returns:
        False when the guard's pause left it unfinished, so that it has to be done again.
    """
    is_done = yield from evaluate(state)
    if is_done and state.position.best_iteration == state.iteration:
        yield from save(state, reason_to_save(state) or "best")
    return is_done


def _stand_still(state: State, hold: Hold) -> Iterator[ev.Event]:
    """Save, give memory back, and wait until nobody holds the run any more."""
    mailbox, is_guard = state.mailbox, hold.by == "guard"
    yield from save(state, "pressure" if is_guard else "pause")
    is_deep = is_guard and state.heed.is_deep()
    before = held_bytes()
    if is_deep:
        put_away(state.prepared)
    give_back()
    freed = max(before - held_bytes(), 0)
    by: ev.PausedBy = "guard" if is_guard else "person"
    state.pulse.pause(by, is_deep=is_deep)
    if is_guard:
        yield from state.heed.paused(state.iteration, freed)
    began = time.monotonic()
    yield ev.Paused(
        time=time.time(),
        iteration=state.iteration,
        reason=hold.reason,
        by=by,
        freed=freed,
        deep=is_deep,
    )
    put_off: list[Request] = []
    while mailbox.hold() is not None and not mailbox.stop_wish():
        mailbox.wait()
        yield from _serve(state, put_off if is_deep else None)
        _lend(state, is_deep=is_deep)
    if mailbox.stop_wish():
        return
    if is_deep:
        yield from _come_back(state)
    for request in put_off:
        mailbox.request(request)
    seconds = time.monotonic() - began
    state.pulse.resume()
    yield from state.heed.resumed(state.iteration)
    yield ev.Resumed(time=time.time(), iteration=state.iteration, paused_seconds=seconds)


def _lend(state: State, *, is_deep: bool) -> None:
    """Let somebody talk with the model while the run stands still; it comes back as it was."""
    mailbox, prepared = state.mailbox, state.prepared
    planned = prepared.memory.peak - prepared.memory.data
    most_bytes = min(planned, prepared.budget_bytes)

    def is_wanted_back() -> bool:
        return mailbox.hold() is None or mailbox.stop_wish() is not None

    for job in mailbox.take_jobs():
        # Without the base weights there is nobody to talk to.
        if is_deep:
            job(None, is_wanted_back)
            continue
        wardrobe = LentWardrobe(prepared.adapted, prepared.files, prepared.answers, most_bytes)
        try:
            job(wardrobe, is_wanted_back)
        finally:
            wardrobe.take_off()


def _come_back(state: State) -> Iterator[ev.Event]:
    yield ev.Progress(time=time.time(), stage="model", message="loading the base weights again")
    with state.pulse.phase("loading"):
        bring_back(state.prepared)


def _serve(state: State, put_off: list[Request] | None = None) -> Iterator[ev.Event]:
    """Do what was asked for; put off what needs the base weights, when they are not there."""
    for request in state.mailbox.take():
        if request == "checkpoint":
            yield from save(state, "requested")
        elif put_off is not None:
            put_off.append(request)
            message = f"The base weights are given back: “{request}” waits until training goes on."
            yield ev.Warned(time=time.time(), message=message)
        elif request == "sample":
            yield from sample(state)
        elif not (yield from measure(state)):
            # The guard's pause comes first; it is measured while the run stands still.
            state.mailbox.request("evaluate")
