"""Folding events gives the state that a screen draws."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from engine import events as ev
from engine.data_facts import DroppedRows, Preflight
from engine.event_words import in_words
from engine.view import LOG_LINES, RECENT_STEPS, TRACE_SAMPLES, RunView
from tests.engine.samples import filled


def step(iteration: int, loss: float = 2.0, **changes: Any) -> ev.Step:
    values: dict[str, Any] = {
        "time": 100.0 + iteration,
        "iteration": iteration,
        "loss": loss,
        "learning_rate": 1e-3,
        "tokens": 10,
        "seconds": 0.5,
        "tokens_per_second": 20.0,
        "iterations_per_second": 2.0,
        "trained_tokens": 10 * iteration,
        "memory": ev.Memory(active=5, peak=7, cache=2),
        "eta_seconds": None,
    }
    return ev.Step(**values | changes)


def evaluated(iteration: int, val_loss: float, *, best: bool) -> ev.Evaluated:
    return ev.Evaluated(
        time=1.0, iteration=iteration, val_loss=val_loss, best=best, seconds=0.1, tokens=9
    )


def saved(iteration: int) -> ev.CheckpointSaved:
    return ev.CheckpointSaved(
        time=1.0, iteration=iteration, path=f"{iteration}", reason="scheduled", seconds=0.1
    )


def guard(action: ev.GuardAction) -> ev.Guard:
    return ev.Guard(time=1.0, action=action, why="because")


def host(number: int) -> ev.Host:
    return ev.Host(time=float(number), pressure="green", swap_used=number)


STARTED: ev.Started = replace(filled(ev.Started), iterations=8, iteration=0)


def folded(*events: ev.Event) -> RunView:
    view = RunView()
    view.apply_all(events)
    return view


def test_a_whole_run() -> None:
    ended = ev.Ended(time=9.0, status="completed", iteration=4, reason="done")
    view = folded(
        ev.Progress(time=0.0, stage="model", message="loading"),
        STARTED,
        evaluated(0, 3.0, best=True),
        *(step(i, 3.0 - 0.1 * i) for i in (1, 2)),
        evaluated(2, 2.5, best=True),
        saved(2),
        host(1),
        *(step(i) for i in (3, 4)),
        evaluated(4, 2.7, best=False),
        saved(4),
        ended,
    )
    assert (view.status, view.is_over, view.ended, view.activity) == ("completed", True, ended, "")
    assert (view.iteration, view.progress) == (4, 0.5)
    assert list(view.steps.iteration) == [1, 2, 3, 4]
    assert list(view.steps.loss) == pytest.approx([2.9, 2.8, 2.0, 2.0])
    assert list(view.steps.tokens) == [10, 20, 30, 40]
    assert view.best == evaluated(2, 2.5, best=True)
    assert [e.val_loss for e in view.evaluations] == [3.0, 2.5, 2.7]
    assert [c.iteration for c in view.checkpoints] == [2, 4]
    assert view.first_step_time == 100.5
    assert view.version == 13


def test_before_anything_happened() -> None:
    view = RunView()
    assert (view.status, view.iteration, view.progress, view.is_over) == ("loading", 0, 0.0, False)
    assert (view.tokens_per_second, view.iterations_per_second) == (0.0, 0.0)
    assert math.isnan(view.average_loss)


PAUSED = ev.Paused(time=1.0, iteration=3)
RESUMED = ev.Resumed(time=2.0, iteration=3, paused_seconds=4.0)


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([ev.Progress(time=0.0, stage="data", message="reading")], "loading"),
        ([STARTED], "training"),
        ([STARTED, PAUSED], "paused"),
        ([STARTED, PAUSED, evaluated(3, 1.0, best=True), saved(3), host(1)], "paused"),
        ([STARTED, PAUSED, RESUMED], "training"),
        *(
            ([STARTED, ev.Ended(time=1.0, status=status, iteration=1, reason="so")], status)
            for status in ("completed", "stopped", "aborted", "failed")
        ),
    ],
)
def test_status(events: list[ev.Event], status: str) -> None:
    assert folded(*events).status == status


def test_a_run_that_goes_on_is_not_over_any_more() -> None:
    ended = ev.Ended(time=1.0, status="stopped", iteration=3, reason="asked")
    view = folded(STARTED, step(3), ended, replace(STARTED, iteration=3))
    assert (view.status, view.is_over, view.iteration) == ("training", False, 3)


def test_a_resumed_run_begins_where_it_stopped() -> None:
    view = folded(replace(STARTED, iteration=6))
    assert (view.iteration, view.progress) == (6, 0.75)


@pytest.mark.parametrize(
    "after",
    [STARTED, step(1), evaluated(1, 1.0, best=True), filled(ev.Sampled), PAUSED],
)
def test_activity_lasts_until_its_result(after: ev.Event) -> None:
    view = folded(ev.Progress(time=0.0, stage="evaluate", message="evaluating"))
    assert view.activity == "evaluating"
    view.apply(after)
    assert view.activity == ""


def test_paused_seconds_add_up() -> None:
    assert folded(STARTED, PAUSED, RESUMED, PAUSED, RESUMED).paused_seconds == 8.0


def test_average_loss_begins_at_the_first_loss() -> None:
    assert folded(step(1, 3.0)).average_loss == pytest.approx(3.0)
    assert folded(*(step(i, 1.5) for i in range(1, 9))).average_loss == pytest.approx(1.5)


def test_average_loss_weighs_by_age() -> None:
    losses = [4.0, 1.0, 2.5, 3.5]
    weights = [0.98**age for age in range(len(losses) - 1, -1, -1)]
    expected = sum(w * x for w, x in zip(weights, losses, strict=True)) / sum(weights)
    view = folded(*(step(i, loss) for i, loss in enumerate(losses, start=1)))
    assert view.average_loss == pytest.approx(expected)


def test_a_loss_that_is_no_number_is_kept_out_of_the_average_only() -> None:
    view = folded(step(1, 2.0), step(2, math.nan), step(3, 2.0))
    assert view.average_loss == pytest.approx(2.0)
    assert math.isnan(view.steps.loss[1])
    assert len(view.steps) == 3


def test_gradient_norm_between_updates_is_no_number() -> None:
    view = folded(step(1, gradient_norm=None), step(2, gradient_norm=0.5))
    assert math.isnan(view.steps.gradient_norm[0])
    assert view.steps.gradient_norm[1] == 0.5


def test_rates_are_of_the_last_steps() -> None:
    """Slow steps at first; the last ones take 2 s for 30 tokens."""
    slow = [step(i, seconds=50.0, trained_tokens=10 * i) for i in range(1, 21)]
    quick = [
        step(20 + i, seconds=2.0, trained_tokens=200 + 30 * i) for i in range(1, RECENT_STEPS + 1)
    ]
    view = folded(*slow, *quick)
    assert view.tokens_per_second == pytest.approx(15.0)
    assert view.iterations_per_second == pytest.approx(0.5)


def test_rates_of_the_first_steps() -> None:
    view = folded(step(1, seconds=4.0))
    assert (view.tokens_per_second, view.iterations_per_second) == (0.0, 0.25)
    view.apply(step(2, seconds=1.0, trained_tokens=30))
    assert view.tokens_per_second == 20.0
    assert view.iterations_per_second == pytest.approx(0.4)


def test_peak_is_that_of_the_whole_run() -> None:
    peaks = (7, 90, 20)
    view = folded(*(step(i, memory=ev.Memory(peak=p)) for i, p in enumerate(peaks, start=1)))
    assert (view.peak_bytes, view.memory.peak) == (90, 20)


def test_guard_actions_are_counted() -> None:
    actions: list[ev.GuardAction] = ["shrink", "skip_batch", "pause", "skip_batch"]
    view = folded(*(guard(action) for action in actions))
    assert [g.action for g in view.guard_actions] == actions
    assert view.skipped_batches == 2


def test_what_the_guard_did_and_what_still_holds() -> None:
    view = folded()
    assert (view.guard_state, view.last_guard_action, view.policy) == ("calm", None, "protect")
    states: list[str] = []
    actions: list[ev.GuardAction] = ["skip_batch", "pause", "resume", "shrink", "pause", "resume"]
    for action in (*actions, "abort"):
        view.apply(guard(action))
        states.append(view.guard_state)
    assert states == ["calm", "paused", "calm", "shrunk", "paused", "shrunk", "stopped"]
    assert view.last_guard_action == guard("abort")
    # A run that was resumed is guarded anew.
    view.apply(STARTED)
    assert view.guard_state == "calm"


def test_the_policy_is_the_configured_one_until_a_person_changes_it() -> None:
    view = folded(replace(STARTED, config={"on_pressure": "watch"}))
    assert view.policy == "watch"
    view.apply(ev.PolicyChanged(time=1.0, policy="abort"))
    assert view.policy == "abort"
    # Older runs say nothing of it.
    assert folded(replace(STARTED, config={})).policy == "protect"


def test_who_paused_and_how_long_the_machine_slept() -> None:
    view = folded(STARTED, ev.Paused(time=1.0, iteration=3, by="guard"))
    assert (view.status, view.paused_by) == ("paused", "guard")
    view.apply_all([RESUMED, ev.Slept(time=2.0, seconds=60.0), ev.Slept(time=3.0, seconds=40.0)])
    assert (view.status, view.paused_by, view.slept_seconds) == ("training", None, 100.0)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            ev.Guard(
                time=1.0, action="shrink", why="yellow for 5 s", micro_batch=2, freed=3 * 10**8
            ),
            "The guard had a step take less memory: yellow for 5 s; micro-batch 2; "
            "300 MB came back",
        ),
        (
            ev.Guard(time=1.0, action="abort", why="red", offer={"batch_size": 2}),
            "The guard ended the run: red; try batch_size=2",
        ),
        (
            ev.Paused(time=1.0, iteration=12, reason="memory pressure", freed=2_140_000_000),
            "Paused at 12 (memory pressure; 2.1 GB came back)",
        ),
        (ev.Slept(time=1.0, seconds=300.0), "The machine was asleep for 5 min"),
        (ev.Slept(time=1.0, seconds=12.4), "The machine was asleep for 12 s"),
    ],
)
def test_what_came_of_it_is_said(event: ev.Event, words: str) -> None:
    assert in_words(event) == words


def test_histories_of_the_machine_and_the_log_are_bounded() -> None:
    view = folded(*(host(i) for i in range(TRACE_SAMPLES + 5)))
    assert (len(view.host_trace), view.host_trace[0].swap_used) == (TRACE_SAMPLES, 5)
    assert view.host == host(TRACE_SAMPLES + 4)
    view.apply_all(ev.Warned(time=1.0, message=f"{i}") for i in range(LOG_LINES + 3))
    assert (len(view.log), view.log[0].text) == (LOG_LINES, "3")


PREFLIGHT = replace(
    filled(Preflight),
    found="alpaca, 1,010 rows → messages",
    train_rows=1000,
    valid_rows=20,
    held_out_rows=20,
    dropped=(DroppedRows(2, "An empty turn.", "train.jsonl, line 3"),),
    masked_rows=1,
    refused_rows=10,
    truncated_rows=7,
    median_tokens=300,
    longest_tokens=9000,
    padding_waste=0.031,
    epochs=2.5,
)
PROBED = replace(filled(ev.Probed), rows=4, width=2048, micro_batch=1, planned_micro_batch=2)
WORDS: dict[str, tuple[ev.Event, str]] = {
    "progress": (ev.Progress(time=1.0, stage="data", message="reading"), "reading"),
    "started": (
        replace(STARTED, name="n", iterations=15000, trainable_parameters=1234, step_reason="why"),
        "Training n: 15,000 iterations, 1,234 trainable parameters, why",
    ),
    "probed": (
        replace(PROBED, planned=5_130_000_000, peak=4_980_000_000, seconds=12.34),
        "Tried the widest step (4 × 2,048 tokens): planned 5.13 GB, probed 4.98 GB, "
        "12.3 s a step; 1 at a time instead of 2",
    ),
    "data": (
        ev.DataRead(time=1.0, preflight=PREFLIGHT),
        "Data: alpaca, 1,010 rows → messages; 1,000 to train on, 20 to measure on (held out); "
        "13 left out, 7 cut; 300 tokens in the middle, 9,000 at most; padding 3.1 %; 2.50 epochs",
    ),
    "step": (step(1), ""),
    "evaluated": (evaluated(1500, 1.23456, best=False), "Validation loss 1.235 at 1,500"),
    "checkpoint": (saved(1500), "Saved at 1,500 (scheduled)"),
    "deleted": (
        ev.CheckpointDeleted(time=1.0, iteration=1500),
        "Deleted the checkpoint at 1,500",
    ),
    "host": (host(1), ""),
    "guard": (guard("skip_batch"), "The guard left a batch out: because"),
    "paused": (ev.Paused(time=1.0, iteration=1500), "Paused at 1,500 (asked)"),
    "resumed": (RESUMED, "Resumed at 3 after 4 s"),
    "sampled": (
        ev.Sampled(time=1.0, iteration=0, prompt="Rome?", text="A town.", base=True),
        "Sample (base) at 0: A town.",
    ),
    "policy": (
        ev.PolicyChanged(time=1.0, policy="abort"),
        "When memory runs short: abort, save and stop",
    ),
    "slept": (ev.Slept(time=1.0, seconds=7500.0), "The machine was asleep for 2 h 05 min"),
    "tested": (
        replace(filled(ev.Tested), test_loss=1.25, perplexity=3.49, rows=1200),
        "Test loss 1.250, perplexity 3.49 on 1,200 rows",
    ),
    "warning": (ev.Warned(time=1.0, message="rows were cut"), "rows were cut"),
    "trouble": (
        ev.Trouble(
            time=1.0, shape="plateau", iteration=9, words="It is flat.", suggestion="Try more rows."
        ),
        "It is flat. Try more rows.",
    ),
    "ended": (
        ev.Ended(time=1.0, status="stopped", iteration=1500, reason="as asked"),
        "Stopped at 1,500: as asked",
    ),
}


@pytest.mark.parametrize("kind", WORDS)
def test_words(kind: str) -> None:
    event, words = WORDS[kind]
    assert in_words(event) == words
    logged = [(line.kind, line.text) for line in folded(event).log]
    assert logged == ([(kind, words)] if words else [])


def test_there_are_words_for_every_kind() -> None:
    assert WORDS.keys() == ev.KINDS.keys()


def test_the_best_is_pointed_out() -> None:
    assert in_words(evaluated(10, 1.0, best=True)) == "Validation loss 1.000 at 10, the best so far"


def test_a_run_that_begins_anew_forgets_what_it_measured_before() -> None:
    view = RunView()
    first = [STARTED, evaluated(0, 3.0, best=True), step(1), step(2), saved(2)]
    view.apply_all([*first, replace(STARTED, iteration=0), evaluated(0, 3.0, best=True)])
    assert [e.iteration for e in view.evaluations] == [0]
    assert (len(view.steps), view.checkpoints, view.iteration) == (0, [], 0)


def test_a_run_that_goes_on_forgets_what_came_after_its_checkpoint() -> None:
    view, whole = RunView(), RunView()
    steps = [step(i, loss=1.0 / i) for i in range(1, 8)]
    first = [STARTED, evaluated(0, 3.0, best=True), *steps[:4], saved(4)]
    lost = [*steps[4:6], evaluated(6, 1.0, best=True), saved(6)]
    view.apply_all([*first, *lost, replace(STARTED, iteration=4), *steps[4:]])
    whole.apply_all([*first, *steps[4:]])
    for name in ("evaluations", "best", "checkpoints", "average_loss", "last_step"):
        assert getattr(view, name) == getattr(whole, name), name
    assert (view.steps.iteration, view.steps.loss) == (whole.steps.iteration, whole.steps.loss)


def test_answers_are_kept_within_bounds_and_the_bases_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.view.MOST_SAMPLES", 3)
    said = [
        ev.Sampled(time=1.0, iteration=i, prompt="Rome?", text="A town.", base=i == 0)
        for i in range(6)
    ]
    view = folded(*said)
    assert [s.iteration for s in view.samples] == [0, 4, 5]
