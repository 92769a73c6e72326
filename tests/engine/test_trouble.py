"""Each trouble is recognised once, by its shape; runs that are well raise none."""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine import events as ev
from engine.event_words import in_words
from engine.trouble import TroubleWatch, told
from tests.engine.samples import filled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GB, MB = 10**9, 10**6
STARTED: ev.Started = filled(ev.Started)
STEP: ev.Step = filled(ev.Step)
RECORDED = Path(__file__).parents[1] / "data" / "step_times.json"


@dataclass
class Night:
    """A run that is well, with noise as measured in real ones; a test makes one thing wrong."""

    iterations: int = 2000
    noise: float = 0.18
    """Of a batch's loss, as a share: 0.05 with 8 rows a batch, 0.35 with one."""
    every: int = 50
    """Iterations between evaluations."""
    val_noise: float = 0.003
    seed: int = 1
    widths: tuple[int, ...] = (512, 1024, 1536, 2048)
    loss: Callable[[int, float], float] = lambda _, usual: usual
    val: Callable[[int, float], float] = lambda _, usual: usual
    active: Callable[[int], float] = lambda _: 3.7 * GB
    footprint: Callable[[int], float] = lambda i: 5.6 * GB - 1.2 * GB * math.exp(-i / 40)
    seconds: Callable[[int, float], float] = lambda _, usual: usual
    rate: Callable[[float], float] = lambda share: 2e-4 * min(1, 40 * share) * (1.02 - share)
    extra: dict[int, ev.Event] = field(default_factory=dict[int, ev.Event])

    def events(self, first: int = 1, last: int | None = None) -> Iterator[ev.Event]:
        draw = random.Random(self.seed)
        yield replace(
            STARTED, iterations=self.iterations, iteration=first - 1, budget=8 * GB, parent=""
        )
        if first == 1:
            yield self._evaluated(0, draw)
        for i in range(first, (last or self.iterations) + 1):
            yield self._step(i, draw)
            if i in self.extra:
                yield self.extra[i]
            if i % self.every == 0:
                yield self._evaluated(i, draw)

    def usual(self, i: int) -> float:
        share = i / self.iterations
        return 0.9 + 1.4 * math.exp(-12 * share) + 0.35 * (1 - share)

    def _step(self, i: int, draw: random.Random) -> ev.Step:
        width = draw.choice(self.widths)
        seconds = self.seconds(i, 2.0 * width / 1024 * draw.lognormvariate(0, 0.04))
        # Some steps wait for another program.
        seconds *= 2.5 if draw.random() < 0.02 else 1.0
        loss = self.usual(i) * draw.lognormvariate(0, self.noise)
        # And some rows are of another kind.
        loss *= 1.9 if draw.random() < 0.01 else 1.0
        memory = ev.Memory(
            active=round(self.active(i)), peak=5 * GB, cache=200 * MB,
            footprint=round(self.footprint(i) + draw.gauss(0, 20 * MB)),
        )  # fmt: skip
        return replace(
            STEP, time=1e9 + i, iteration=i, loss=self.loss(i, loss), seconds=seconds, width=width,
            learning_rate=self.rate(i / self.iterations), memory=memory, tokens=900, micro_batch=1,
        )  # fmt: skip

    def _evaluated(self, i: int, draw: random.Random) -> ev.Evaluated:
        val = (self.usual(i) + 0.05) * draw.lognormvariate(0, self.val_noise)
        return ev.Evaluated(
            time=1e9 + i, iteration=i, val_loss=self.val(i, val), best=False, seconds=1, tokens=9
        )


def troubles(night: Night) -> list[ev.Trouble]:
    found = told(night.events(), TroubleWatch())
    return [event for event in found if isinstance(event, ev.Trouble)]


def only(night: Night) -> ev.Trouble:
    found = troubles(night)
    assert len(found) == 1, [f.words for f in found]
    return found[0]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("noise", [0.05, 0.18, 0.35], ids=lambda n: f"noise {n}")
def test_a_run_that_is_well_raises_nothing(noise: float, seed: int) -> None:
    night = Night(noise=noise, seed=seed, every=(25, 50, 200)[seed % 3])
    assert [t.words for t in troubles(night)] == []


@pytest.mark.parametrize(
    "night",
    [
        Night(iterations=60, every=5),
        Night(iterations=125, every=25, noise=0.3),
        Night(iterations=400, every=20, val_noise=0.03, noise=0.3),
        Night(rate=lambda share: 2e-4 * min(1, 5 * share), noise=0.3),
        Night(rate=lambda share: 1e-4 * (1 + math.cos(math.pi * share))),
        Night(widths=(64,), every=100),
    ],
    ids=["tiny", "demo", "noisy evaluations", "long warm-up", "cosine", "one width"],
)
def test_nor_do_small_and_noisy_ones(night: Night) -> None:
    assert [t.words for t in troubles(night)] == []


def test_the_recorded_times_of_a_real_run_raise_nothing() -> None:
    steps = json.loads(RECORDED.read_text())["steps"]
    night = Night(iterations=len(steps), noise=0.3, seconds=lambda i, _: steps[i - 1][1])
    watch, found = TroubleWatch(), list[ev.Trouble]()
    for event in night.events():
        timed = event
        if isinstance(event, ev.Step):
            width, seconds = steps[event.iteration - 1]
            timed = replace(event, width=width, seconds=seconds)
        found += watch.take(timed)
    assert len(steps) == 160
    assert [t.words for t in found] == []


def test_a_jump_that_comes_back_is_a_spike() -> None:
    night = Night(loss=lambda i, usual: usual + (3 if 1200 <= i < 1240 else 0))
    spike = only(night)
    assert spike.shape == "loss_spike"
    assert 1200 <= spike.iteration <= 1230
    assert spike.evidence["usual_loss"] == pytest.approx(1.05, abs=0.15)
    assert spike.evidence["loss"] > 3.5
    assert "jumped from about 1." in spike.words
    assert "max_grad_norm" in spike.suggestion


def test_one_hard_batch_is_none() -> None:
    assert troubles(Night(loss=lambda i, usual: 30.0 if i % 97 == 0 else usual)) == []


def test_a_loss_that_stays_up_diverges() -> None:
    found = troubles(Night(loss=lambda i, usual: usual + (4 if i >= 1200 else 0), every=5000))
    assert [t.shape for t in found] == ["loss_spike", "divergence"]
    assert 1290 <= found[1].iteration <= 1330


def test_a_loss_that_climbs_slowly_diverges_without_a_jump() -> None:
    climbing = Night(loss=lambda i, usual: usual + max(0, i - 800) * 0.0012, every=5000)
    assert only(climbing).shape == "divergence"


def test_numbers_that_are_none_count_as_high() -> None:
    found = troubles(Night(loss=lambda i, usual: math.nan if i >= 900 else usual, every=5000))
    assert [t.shape for t in found] == ["loss_spike", "divergence"]
    assert "no number" in found[1].words
    assert all(json.loads(ev.to_json(t))["words"] for t in found)


def test_validation_up_while_training_falls() -> None:
    night = Night(
        val=lambda i, usual: usual + max(0, i - 900) * 0.0006,
        loss=lambda i, usual: usual * (1 - 0.3 * max(0, i - 500) / 1500),
    )
    found = only(night)
    assert found.shape == "overfitting"
    assert "while the training loss fell" in found.words
    assert 800 <= found.evidence["best_iteration"] <= 1000
    assert 1000 <= found.iteration <= 1500
    assert "early_stopping" in found.suggestion


def test_a_gap_beyond_two_is_overfitting() -> None:
    night = Night(
        val=lambda i, _: 2.6 - 0.0001 * i, loss=lambda i, _: 2.4 * math.exp(-i / 300) + 0.05
    )
    found = only(night)
    assert found.shape == "overfitting"
    assert "the gap grew" in found.words
    assert found.evidence["gap"] > 2.0


def test_rows_of_another_kind_are_no_overfitting() -> None:
    assert troubles(Night(val=lambda _, usual: usual + 2.5)) == []


def test_a_validation_loss_that_gains_nothing_is_a_plateau() -> None:
    night = Night(
        val=lambda i, usual: max(usual, 1.4) if i < 600 else 1.4 + 0.001 * math.sin(i),
        rate=lambda _: 2e-4,
    )
    found = only(night)
    assert found.shape == "plateau"
    assert 800 <= found.iteration <= 1200


def test_the_end_of_a_schedule_is_none() -> None:
    flat = Night(
        val=lambda i, usual: usual if i < 1500 else 1.05, rate=lambda share: 2e-4 * (1 - share)
    )
    assert troubles(flat) == []


def test_memory_that_grows_steadily_creeps() -> None:
    found = only(Night(active=lambda i: 3.7 * GB + i * 0.6 * MB))
    assert found.shape == "memory_creep"
    assert found.evidence["bytes_per_iteration"] == pytest.approx(0.6 * MB, rel=0.15)
    assert "reaches the budget in" in found.words


def test_a_footprint_that_creeps_is_found_too() -> None:
    found = only(Night(iterations=3000, footprint=lambda i: 4 * GB + i * 0.2 * MB))
    assert (found.shape, "the footprint" in found.words) == ("memory_creep", True)


def test_memory_that_settles_does_not() -> None:
    assert troubles(Night(footprint=lambda i: 5 * GB - GB * math.exp(-i / 150))) == []


def test_memory_given_back_and_taken_again_does_not() -> None:
    pauses: dict[int, ev.Event] = {
        i: ev.Resumed(time=1e9 + i, iteration=i) for i in range(200, 2000, 200)
    }
    night = Night(active=lambda i: 3 * GB + (i % 200) * 0.5 * MB, extra=pauses)
    assert troubles(night) == []


def test_steps_that_take_longer_and_longer() -> None:
    night = Night(seconds=lambda i, usual: usual * (1 + i / 2000))
    found = only(night)
    assert found.shape == "pace_decay"
    assert found.evidence["times_slower"] >= 1.3
    assert 700 <= found.iteration <= 1400
    assert "2,048 tokens a row" in found.words


def test_a_busy_while_is_none() -> None:
    night = Night(seconds=lambda i, usual: usual * (2 if 900 < i < 960 else 1))
    assert troubles(night) == []


def test_fewer_rows_at_once_are_none() -> None:
    watch, found = TroubleWatch(), list[ev.Trouble]()
    for event in Night(seconds=lambda i, usual: usual * (1.8 if i > 700 else 1)).events():
        is_shrunk = isinstance(event, ev.Step) and event.iteration > 700
        found += watch.take(replace(event, micro_batch=2) if is_shrunk else event)  # pyright: ignore
    assert found == []


def test_a_resumed_run_does_not_say_it_again() -> None:
    night = Night(loss=lambda i, usual: usual + (3 if 400 <= i < 440 or 1400 <= i < 1440 else 0))
    journal = list(told(night.events(last=1000), TroubleWatch()))
    assert Counter(type(e) for e in journal)[ev.Trouble] == 1
    again = list(night.events(first=901))
    watch = TroubleWatch([*journal, again[0]])
    assert [e for event in again[1:] for e in watch.take(event)] == []


def test_but_what_comes_after_it_is_known_from_before() -> None:
    night = Night(val=lambda i, usual: usual + max(0, i - 900) * 0.0006,
                  loss=lambda i, usual: usual * (1 - 0.3 * max(0, i - 500) / 1500))  # fmt: skip
    before = list(night.events(last=1000))
    again = list(night.events(first=1001))
    watch = TroubleWatch([*before, again[0]])
    found = [e for event in again[1:] for e in watch.take(event)]
    assert [e.shape for e in found] == ["overfitting"]


def test_what_was_undone_is_forgotten() -> None:
    reload = ev.Guard(time=1.0, action="reload", why="", iteration=300)
    night = Night(iterations=600, loss=lambda i, usual: math.nan if 301 <= i <= 305 else usual)
    night.extra = {305: reload}
    assert troubles(night) == []


def test_it_is_said_in_the_log() -> None:
    spike = only(Night(loss=lambda i, usual: usual + (3 if 1200 <= i < 1240 else 0)))
    assert in_words(spike) == f"{spike.words} {spike.suggestion}"
    assert ev.from_dict(json.loads(ev.to_json(spike))) == spike


def test_it_costs_microseconds_a_step() -> None:
    events = list(Night(iterations=4000).events())
    watch = TroubleWatch()
    # Other programs are not in it.
    began = time.thread_time()
    for event in events:
        list(watch.take(event))
    # A fifth of this on the machine that it was written on.
    assert (time.thread_time() - began) / 4000 < 100e-6
