"""A watch folds what is new, and knows what was asked and not answered."""

from __future__ import annotations

from dataclasses import replace

from engine.events import Progress, Slept, Step
from tests.tui.scripted import ScriptedRun, probed, trained
from tui.forecast import Forecast, forecast, gone
from tui.header import header_lines
from tui.panes.loss import stages
from tui.watch import RunWatch


def watching(run: ScriptedRun) -> RunWatch:
    watch = RunWatch(run, run.now)
    watch.start()
    watch.poll()
    return watch


def test_looking_again_finds_nothing_new() -> None:
    run = trained(10)
    watch = watching(run)
    assert not watch.poll()
    run.advance(1)
    assert watch.poll()
    assert watch.view.iteration == 11


def test_the_same_asked_twice_waits_once() -> None:
    watch = watching(trained(10))
    watch.ask("checkpoint")
    watch.ask("checkpoint")
    assert [asked.request for asked in watch.asked] == ["checkpoint"]


def test_each_request_waits_for_its_own_answer() -> None:
    run = trained(10)
    watch = watching(run)
    watch.ask("evaluate")
    watch.ask("checkpoint")
    assert watch.asked_words == "saving after this step…"
    run.pending.remove("evaluate")
    run.answer()
    watch.poll()
    assert watch.asked_words == "evaluating after this step…"


def test_a_checkpoint_in_the_place_of_another_is_an_answer_too() -> None:
    run = trained(10)
    watch = watching(run)
    for _ in range(2):
        watch.ask("checkpoint")
        run.answer()
        watch.poll()
        assert len(watch.view.checkpoints) == 1
        assert watch.asked == []


def test_the_end_answers_everything() -> None:
    run = trained(10)
    watch = watching(run)
    watch.ask("sample")
    watch.ask("stop")
    assert watch.is_stopping
    run.end("stopped", "as asked")
    watch.poll()
    assert watch.asked == []
    assert watch.is_over


def test_the_time_left_runs_down_while_training_only() -> None:
    run = trained(1000)
    watch = watching(run)
    before = forecast(watch)
    run.time += 60
    after = forecast(watch)
    assert before is not None
    assert after is not None
    assert before.seconds - after.seconds == 60
    run.pause()
    run.answer()
    watch.poll()
    standing = forecast(watch)
    assert standing is not None
    assert watch.view.last_step is not None
    assert standing.seconds == watch.view.last_step.eta_seconds


def test_before_the_first_step_the_probe_says_what_is_left() -> None:
    run = ScriptedRun()
    run.begin()
    watch = watching(run)
    assert forecast(watch) is None
    run.log.append(probed(run.time))
    watch.poll()
    first = forecast(watch)
    assert first == Forecast(36_000.0, 9_000.0)
    run.advance(100)
    watch.poll()
    assert watch.view.last_step is not None
    later = forecast(watch)
    assert later is not None
    assert later.seconds == watch.view.last_step.eta_seconds


def test_an_hour_asleep_brings_the_end_no_nearer() -> None:
    run = trained(1000)
    watch = watching(run)
    before = forecast(watch)
    run.time += 3600
    run.log.append(Slept(time=run.time, seconds=3600.0))
    watch.poll()
    after = forecast(watch)
    assert before is not None
    assert after is not None
    assert after.seconds == before.seconds


def test_clocks_of_a_run_that_is_over_stand_still() -> None:
    run = trained(100)
    run.end("completed", "all done")
    watch = watching(run)
    before = gone(watch)
    run.time += 9999
    assert gone(watch) == before
    assert forecast(watch) is None


def test_work_besides_training_says_how_far_it_is() -> None:
    run = ScriptedRun()
    run.load(2)
    assert watching(run).doing == "loading the model 12 of 28"


def test_a_download_fills_the_bar_and_says_how_far_it_is() -> None:
    run = ScriptedRun()
    watch = watching(run)
    message = "downloading Qwen2.5-1.5B-Instruct and guanaco-llama2-1k"
    event = Progress(
        time=1, stage="download", message=message, done=10**9, total=4 * 10**9, per_second=2e7,
        seconds_left=150,
    )  # fmt: skip
    run.log.append(event)
    watch.poll()
    _, second = header_lines(watch, 80)
    text = "".join(span[0] for span in second)
    assert text.endswith("1.00 of 4.00 GB, 20.0 MB/s, 2 min 30 s left ")
    bar = text.removesuffix(" ").partition("  ")[0].strip()
    assert 0.2 < bar.count("━") / len(bar) < 0.3
    rows = ["".join(span[0] for span in row) for row in stages(watch)]
    assert rows == [f"◌ {message}", "  1.00 of 4.00 GB, 20.0 MB/s, 2 min 30 s left"]
    run.log.append(replace(event, trouble="the connection broke; trying again in 2 s"))
    watch.poll()
    assert "trying again in 2 s" in "".join(span[0] for span in header_lines(watch, 80)[1])


def test_a_run_told_again_in_more_detail_is_shown_where_somebody_looks() -> None:
    run = trained(60)
    run.end("completed", "all done")
    whole = run.log
    run.log = [e for e in whole if not isinstance(e, Step) or e.iteration % 4 == 0]
    watch = watching(run)
    assert len(watch.whole.steps) == 15
    watch.look_at(9)
    assert watch.view.iteration == 40
    run.log, run.edition = whole, 1
    assert watch.poll()
    assert not watch.poll()
    assert len(watch.whole.steps) == 60
    assert watch.view.iteration == 40
    assert watch.place == 39
