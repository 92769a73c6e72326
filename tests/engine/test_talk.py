"""Talking with a checkpoint, beside its base; a run that stands still gets its model back whole."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, TypeVar

import mlx.core as mx
import pytest

from engine import events as ev
from engine.conversation import SIDES, Answered, Conversation, Piece, Ready, Sampling, Told
from engine.errors import InputError
from engine.lock import RunLock
from engine.use.chosen import choose
from engine.use.talk import Talk, open_talk
from tests.engine.workshop import PATIENCE, finish, wait_for_kind
from tests.tiny import make_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine.workshop import Finished, Workshop

T = TypeVar("T")
SHORT = Sampling(max_tokens=6)


@pytest.fixture(scope="module")
def trained(tiny: Workshop) -> Finished:
    return tiny.run("talked-to", learning_rate=1e-2)


@pytest.fixture
def talk(trained: Finished) -> Iterator[Talk]:
    made = Talk(choose(str(trained.directory.path)))
    made.start()
    yield made
    made.close(PATIENCE)
    assert not made.is_alive()


def wait_in(talk: Talk, kind: type[T], count: int = 1) -> list[T]:
    """Wait until so many events of a kind are there, and return them."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found = [event for event in talk.events if isinstance(event, kind)]
        if len(found) >= count:
            return found
        time.sleep(0.005)
    raise AssertionError(f"it never came: {talk.events[-3:]}")


def answers(talk: Talk) -> dict[str, str]:
    pieces = [event for event in talk.events if isinstance(event, Piece)]
    return {side: "".join(p.text for p in pieces if p.side == side) for side in SIDES}


def test_both_sides_answer_and_remember(talk: Talk) -> None:
    conversation = Conversation()
    (ready,) = wait_in(talk, Ready)
    assert (ready.label, ready.has_base) == ("talked-to@6", True)
    conversation.say("Rome?")
    talk.ask(conversation, SIDES, SHORT)
    done = wait_in(talk, Answered, 2)
    assert [answered.side for answered in done] == ["adapter", "base"]
    said = answers(talk)
    assert said["adapter"] != said["base"]
    for event in talk.events:
        if isinstance(event, Piece):
            conversation.add(event)
    conversation.say("And Oslo?")
    assert [turn["role"] for turn in conversation.turns["base"]] == ["user", "assistant", "user"]
    assert conversation.turns["base"][1]["content"] == said["base"]


def test_another_checkpoint_without_loading_the_base_again(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_in(talk, Ready)
    monkeypatch.setattr("engine.use.wardrobe.load_base", None)
    talk.switch(talk.choices[0])
    assert wait_in(talk, Ready, 2)[1].label == "talked-to@3"


def test_an_answer_is_stopped_and_kept(talk: Talk) -> None:
    conversation = Conversation()
    wait_in(talk, Ready)
    conversation.say("Rome?")
    talk.ask(conversation, SIDES, Sampling(max_tokens=400, temperature=2.0))
    wait_in(talk, Piece)
    talk.stop()
    (answered,) = wait_in(talk, Answered)
    assert answered.ending == "stopped"
    conversation.say("Oslo?")
    talk.ask(conversation, ("adapter",), SHORT)
    assert wait_in(talk, Answered, 2)[1].side == "adapter"


def test_a_prompt_that_is_too_long_is_told(talk: Talk) -> None:
    conversation = Conversation()
    wait_in(talk, Ready)
    conversation.say("Rome " * 600)
    talk.ask(conversation, ("adapter",), SHORT)
    (told,) = wait_in(talk, Told)
    assert told.is_error
    assert "the model was made for" in told.message


def test_sides_that_did_not_answer_still_take_turns() -> None:
    conversation = Conversation()
    conversation.say("One?")
    conversation.add(Piece("adapter", "1"))
    conversation.say("Two?")
    assert conversation.turns["base"] == [{"role": "user", "content": "One?\nTwo?"}]
    assert len(conversation.turns["adapter"]) == 3


def test_a_run_that_trains_elsewhere_is_left_alone(workshop: Workshop) -> None:
    run = workshop.run()
    lock = RunLock(run.directory.lock_file)
    journal = run.directory.journal_file
    whole = journal.read_text()
    lock.acquire()
    try:
        journal.write_text(whole[: whole.rindex('{"event": "ended"')])
        with pytest.raises(InputError, match="is in training"):
            open_talk(str(run.directory.path))
    finally:
        lock.release()


STEADY: dict[str, Any] = {
    "iters": 8,
    "steps_per_eval": 4,
    "lora_parameters": {"rank": 4, "scale": 10.0, "dropout": 0.2},
}


def test_neither_samples_nor_talks_change_what_is_trained(workshop: Workshop) -> None:
    plain = workshop.run("plain", **STEADY)
    session = workshop.session(
        "talked", **STEADY, sample_prompts=["Rome?"], sample_rows=2, sample_max_tokens=5
    )
    session.pause()
    session.start()
    _, seen = wait_for_kind(session, ev.Started)
    # It stands still before its first step; then once more with something saved.
    paused, seen = wait_for_kind(session, ev.Paused, seen)
    assert paused.iteration == 0
    session.resume()
    _, seen = wait_for_kind(session, ev.Step, seen)
    session.pause()
    paused, seen = wait_for_kind(session, ev.Paused, seen)
    talk = Talk(choose(f"{session.directory.path}@{paused.iteration}"), session.lend)
    talk.start()
    wait_in(talk, Ready)
    conversation = Conversation()
    conversation.say("Rome?")
    talk.ask(conversation, SIDES, Sampling(max_tokens=20, temperature=1.0))
    wait_in(talk, Answered, 2)
    assert not any(isinstance(event, Told) for event in talk.events)
    talk.close()
    session.resume()
    talked = finish(session)
    assert talked.ended.status == "completed"
    assert talked.weights == plain.weights
    assert [s.loss for s in talked.of(ev.Step)] == plain.losses
    answered = talked.of(ev.Sampled)
    assert [(s.iteration, s.base) for s in answered] == [(0, True), (4, False), (8, False)]
    assert all(0 < s.tokens <= 5 for s in answered)


MUCH: dict[str, Any] = STEADY | {
    "sample_prompts": ["Rome? " * 60],
    "sample_max_tokens": 40,
    "probe": False,
    # A step is then no more than a row of a few tokens.
    "batch_size": 1,
    "micro_batch_size": 1,
}
PLAN_BAR = 1.12
"""What the plan itself promises: see tests/bench/planned.py."""


@pytest.mark.parametrize("accumulated", [1, 2])
def test_samples_and_talks_stay_within_what_was_planned(
    workshop: Workshop, accumulated: int
) -> None:
    """The samples here need several times what a step does: a plan of steps alone is none."""
    settings = MUCH | {"grad_accumulation_steps": accumulated}
    plain = workshop.run("plain", **settings | {"sample_prompts": [], "sample_rows": 0})
    session = workshop.session("talked", **settings)
    session.start()
    started, seen = wait_for_kind(session, ev.Started)
    _, seen = wait_for_kind(session, ev.Step, seen)
    session.pause()
    paused, seen = wait_for_kind(session, ev.Paused, seen)
    chosen = choose(f"{session.directory.path}@{paused.iteration}")
    talk = Talk(chosen, session.lend, started.plan)
    told, standing = talk.needed_bytes, mx.get_active_memory()
    mx.reset_peak_memory()
    talk.start()
    wait_in(talk, Ready)
    conversation = Conversation()
    conversation.say("Rome? " * 40)
    talk.ask(conversation, SIDES, Sampling(max_tokens=60))
    wait_in(talk, Answered, 2)
    talked_peak = mx.get_peak_memory()
    print("talk: told", told, "took", talked_peak - standing)
    assert talked_peak - standing <= told
    assert talked_peak <= PLAN_BAR * started.plan.peak
    talk.close()
    session.resume()
    talked = finish(session)
    answered = [s.memory.peak for s in talked.of(ev.Sampled)]
    stepped = [s.memory.peak for s in talked.of(ev.Step)]
    print("samples", max(answered), "steps", max(stepped), started.plan)
    assert len(answered) == 3
    assert min(answered) > PLAN_BAR * max(stepped)
    assert max(answered) <= PLAN_BAR * started.plan.peak
    assert max(answered) > PLAN_BAR * (started.plan.peak - started.plan.samples)
    assert talked.weights == plain.weights


def test_a_talk_with_a_standing_run_ends_where_its_plan_does(workshop: Workshop) -> None:
    """The steps of this run are so small that there is no room for a long conversation."""
    before = workshop.run("before", iters=1)
    session = workshop.session(batch_size=1, probe=False, iters=2)
    session.pause()
    session.start()
    started, _ = wait_for_kind(session, ev.Started)
    talk = Talk(choose(str(before.directory.path)), session.lend, started.plan)
    talk.start()
    wait_in(talk, Ready)
    conversation = Conversation()
    conversation.say("Rome? " * 80)
    talk.ask(conversation, ("adapter",), SHORT)
    (told,) = wait_in(talk, Told)
    assert told.is_error
    assert "The run's plan leaves no memory to answer" in told.message
    talk.close()
    session.resume()
    assert finish(session).ended.status == "completed"


def test_a_prompt_that_the_template_refuses_is_said_and_the_run_goes_on(
    workshop: Workshop,
) -> None:
    model = make_tiny_model(workshop.folder / "strict")
    path = model / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    refusal = "{% if 'Troy' in messages[0].content %}{{ raise_exception('fallen') }}{% endif %}"
    settings["chat_template"] = refusal + settings["chat_template"]
    path.write_text(json.dumps(settings))
    run = workshop.run(
        model=str(model), iters=1, sample_prompts=["Troy?", "Rome?"], sample_max_tokens=2
    )
    assert run.ended.status == "completed"
    assert {s.prompt for s in run.of(ev.Sampled)} == {"Rome?"}
    assert any("refuses this conversation: fallen" in w.message for w in run.of(ev.Warned))


def test_validation_rows_are_asked_where_there_are_no_prompts(workshop: Workshop) -> None:
    run = workshop.run(sample_rows=2, sample_max_tokens=2, iters=1)
    assert [s.prompt for s in run.of(ev.Sampled)] == 2 * [
        "What do you know of Paris?", "What do you know of Madrid?",
    ]  # fmt: skip


def test_an_answer_gets_no_more_memory_than_the_budget_leaves() -> None:
    from engine.answers import AnswerShape
    from engine.sample import sampling_within

    # Two layers of two heads of eight keys and values in float32.
    answers = AnswerShape(
        layers=2, token_bytes=2 * 2 * 8 * 4, position_bytes=0, heads=4, vocabulary=0, itemsize=4,
        is_eager=False,
    )  # fmt: skip
    a_step = answers.cache_bytes(1)
    assert a_step == 2 * 2 * 2 * 8 * 256 * 4
    wanted = Sampling(max_tokens=1000)
    # Half a step more for each step: a layer's cache is there twice while it grows.
    within = sampling_within(wanted, answers, 100, int(3.3 * a_step))
    assert within is not None
    assert within.max_tokens == 2 * 256 - 100
    assert sampling_within(wanted, answers, 300, int(2.2 * a_step)) is None
    assert sampling_within(wanted, answers, 10, 10**12) == wanted
