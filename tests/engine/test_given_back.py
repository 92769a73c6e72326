"""What a run takes of MLX it gives back, however it ends: limits, memory, functions it wrapped."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest
from mlx_lm.models import qwen2

from engine.errors import RunError
from engine.step import run_step
from tests.engine.test_train import DROPPING
from tests.engine.workshop import finish

if TYPE_CHECKING:
    from tests.engine.workshop import Workshop


def test_what_mlx_gave_is_given_back(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []
    set_limit = mx.set_memory_limit

    def noted(limit: int) -> int:
        limits.append(limit)
        return set_limit(limit)

    functions = (mx.random.bernoulli, mx.fast.scaled_dot_product_attention)
    call = qwen2.TransformerBlock.__call__
    before = set_limit(7_000_000_000), mx.set_cache_limit(900_000_000)
    monkeypatch.setattr(mx, "set_memory_limit", noted)
    try:
        workshop.run(memory_budget_bytes=3_000_000_000, **DROPPING)
        assert limits == [3_000_000_000, 7_000_000_000]
    finally:
        assert (set_limit(before[0]), mx.set_cache_limit(before[1])) == (7_000_000_000, 900_000_000)
    assert (mx.random.bernoulli, mx.fast.scaled_dot_product_attention) == functions
    assert qwen2.TransformerBlock.__call__ is call


@pytest.mark.parametrize("end", ["fails", "is stopped"])
def test_limits_are_given_back_however_a_run_ends(
    end: str, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_once(*_: object, **__: object) -> float:
        if end == "fails":
            raise ZeroDivisionError
        session.stop()
        return 1.0

    before = mx.set_memory_limit(7_000_000_000), mx.set_cache_limit(900_000_000)
    monkeypatch.setattr("engine.train.run_step", at_once)
    session = workshop.session(val_batches=0)
    session.start()
    session.join()
    after = mx.set_memory_limit(before[0]), mx.set_cache_limit(before[1])
    assert after == (7_000_000_000, 900_000_000)


@pytest.mark.parametrize("end", ["completed", "stopped", "failed"])
def test_a_run_gives_its_memory_back_when_it_ends(
    end: str, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: an idle screen collects no garbage, and the model is most of the machine."""

    def ending(*given: Any) -> float:
        loss = run_step(*given)
        if end == "stopped":
            session.stop()
        if end == "failed":
            raise RunError("of all things") from ZeroDivisionError()
        return loss

    workshop.run("first", iters=1)
    before = mx.get_active_memory()
    monkeypatch.setattr("engine.train.run_step", ending)
    session = workshop.session("second")
    gc.disable()
    try:
        run = finish(session)
        assert (run.ended.status, bool(run.session.error)) == (end, end == "failed")
        assert mx.get_active_memory() <= before
        # The seed of MLX's own generator goes there last.
        assert mx.get_cache_memory() < 1024
    finally:
        gc.enable()
