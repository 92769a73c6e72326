"""What a step in flight heeds between its parts."""

from __future__ import annotations

import mlx.core as mx

from engine import events as ev
from engine.guard import Tighten
from engine.guard.pulse import Pulse
from engine.heed import Heed
from engine.mailbox import Mailbox


def test_memory_is_tightened_within_a_step() -> None:
    class Keeper:
        method = "whole-graph"

    mailbox = Mailbox(micro_batch=4)
    heed = Heed(mailbox, Pulse(), Keeper())  # pyright: ignore[reportArgumentType]
    before = mx.set_cache_limit(10**9)
    try:
        mailbox.order(Tighten("yellow", 1000))
        assert [event.kind for event in heed.done(6)] == ["guard"]
        assert mx.set_cache_limit(10**9) == 1000
        mailbox.order(Tighten("yellow", 2000))
        assert not heed.should_stop()
        assert mx.set_cache_limit(10**9) == 2000
        (event,) = heed.done(7)
    finally:
        mx.set_cache_limit(before)
    assert isinstance(event, ev.Guard)
    assert (event.action, event.iteration, event.freed is not None) == ("shrink", 7, True)
    assert list(heed.done(8)) == []
