"""A run's widest step without the run: what the run's own probe finds, and nothing is kept."""

from __future__ import annotations

import gc
import threading
import time
from typing import TYPE_CHECKING

import pytest

from engine import events as ev
from engine import probe, rehearsal
from engine.errors import DownloadNeededError
from engine.rehearsal import Rehearsed, rehearse
from engine.use.worker import Note
from tests.engine.workshop import Workshop, mixed_data

if TYPE_CHECKING:
    from collections.abc import Generator

    from engine.config import RunConfig


@pytest.fixture(scope="module")
def mixed(tiny: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder = tmp_path_factory.mktemp("rehearsal")
    return Workshop(folder, tiny.model, mixed_data(folder / "data"))


def never() -> bool:
    return False


def test_it_finds_what_the_run_would(mixed: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "MOST_SHARE", 1.0)
    settings = {"iters": 8, "steps_per_eval": 4, "grad_accumulation_steps": 2}
    gc.collect()
    (told,) = mixed.run("run", **settings).of(ev.Probed)
    gc.collect()
    *notes, found = rehearse(mixed.config(**settings), never)
    assert isinstance(found, Rehearsed)
    assert (found.probed.width, found.probed.rows) == (told.width, told.rows)
    assert found.probed.planned == told.planned
    # MLX counts for the whole process, in which other tests' leftovers come and go.
    assert found.probed.peak == pytest.approx(told.peak, rel=0.15)
    assert found.probed.plan.peak == found.probed.peak + told.plan.data
    assert (found.fits, found.step) == (True, "layers")
    assert max(found.lengths) - 1 <= found.probed.width
    said = [note.message for note in notes if isinstance(note, Note)]
    assert said[-1] == "trying the widest step"
    assert found.as_json()["memory"]["peak"] == found.probed.plan.peak


def test_its_time_counts_the_evaluations(mixed: Workshop) -> None:
    settings = {"iters": 40, "steps_per_eval": 4}
    *_, with_them = rehearse(mixed.config(**settings), never)
    *_, without = rehearse(mixed.config(**settings, val_batches=0), never)
    assert isinstance(with_them, Rehearsed)
    assert isinstance(without, Rehearsed)
    steps = with_them.probed.eta_seconds
    assert steps
    assert with_them.seconds.low < steps * 0.99
    assert (with_them.seconds.low + with_them.seconds.high) / 2 > 1.01 * steps
    assert without.probed.eta_seconds
    both = (without.seconds.low + without.seconds.high) / 2
    assert both == pytest.approx(without.probed.eta_seconds)


def test_it_is_tried_however_short_the_run_and_whatever_it_says(mixed: Workshop) -> None:
    *_, found = rehearse(mixed.config(iters=1, probe=False), never)
    assert isinstance(found, Rehearsed)


def test_rows_are_given_up_until_it_fits(mixed: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def tried(trial: probe.Trial, *_: object) -> tuple[int, float]:
        return size * trial.heed.micro_batch(), 0.01

    size = 60_000_000
    monkeypatch.setattr(probe, "_tried", tried)
    *_, found = rehearse(mixed.config(memory_budget_bytes=130_000_000), never)
    assert isinstance(found, Rehearsed)
    assert (found.probed.planned_micro_batch, found.probed.micro_batch) == (4, 2)
    assert found.fits
    size = 150_000_000
    *notes, found = rehearse(mixed.config(memory_budget_bytes=130_000_000), never)
    assert isinstance(found, Rehearsed)
    assert not found.fits
    assert any(isinstance(note, Note) and note.is_warning for note in notes)


def test_a_stop_ends_it_within_the_step(mixed: Workshop) -> None:
    stop = threading.Event()
    found: list[object] = []
    for item in rehearse(mixed.config(), stop.is_set):
        found.append(item)
        if isinstance(item, Note) and item.message == "trying the widest step":
            stop.set()
    assert stop.is_set()
    assert not [item for item in found if isinstance(item, Rehearsed)]


def test_nothing_is_downloaded_that_nobody_asked_for(
    mixed: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_closed: list[bool] = []

    def prepare(_config: RunConfig) -> Generator[ev.Event]:
        try:
            for done in (0, 500_000_000):
                yield ev.Progress(
                    time=time.time(),
                    stage="download",
                    message="downloading somebody/model",
                    done=done,
                    total=3_000_000_000 if done else 0,
                )
        finally:
            is_closed.append(True)

    monkeypatch.setattr(rehearsal, "prepare", prepare)
    with pytest.raises(DownloadNeededError, match=r"somebody/model would take 2\.5 GB") as refused:
        list(rehearse(mixed.config(), never))
    assert refused.value.bytes_left == 2_500_000_000
    assert is_closed == [True]
