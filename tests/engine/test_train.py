"""What runs learn: the same from the same seed however a step is cut, for every kind of adapter."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
import numpy as np
import pytest

from engine import events as ev
from engine import prepare
from engine.mailbox import Mailbox, Stop
from engine.runs import RunDirectory
from engine.train import train
from engine.trees import flatten, number
from tests.engine.workshop import Finished, Workshop, mixed_data
from tests.tiny import write_rows

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.fixture(scope="module")
def mixed(tiny: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Rows of very different lengths."""
    folder = tmp_path_factory.mktemp("mixed")
    return Workshop(folder, tiny.model, mixed_data(folder / "data"))


@pytest.fixture(scope="module")
def quantised(tiny: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """The tiny model in 4 bits, as mlx-lm writes it."""
    folder = tmp_path_factory.mktemp("quantised")
    model, tokenizer = mlx_lm.load(str(tiny.model))[:2]
    nn.quantize(model, group_size=32, bits=4)
    path = folder / "model"
    tokenizer.save_pretrained(str(path))
    config = json.loads((tiny.model / "config.json").read_text(encoding="utf-8"))
    config["quantization"] = {"group_size": 32, "bits": 4}
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    mx.save_safetensors(
        str(path / "model.safetensors"), flatten(model.parameters()), {"format": "mlx"}
    )
    return Workshop(folder, path, tiny.data)


def arrays(run: Finished) -> dict[str, np.ndarray]:
    found: Any = mx.load(str(run.directory.adapters / "adapters.safetensors"))
    return {name: np.array(array) for name, array in found.items()}


def validation_loss(run: Finished) -> float:
    """What mlx-lm's own loading of model and adapters gives, row by row."""
    loaded: Any = mlx_lm.load(run.config.model, adapter_path=str(run.directory.adapters))
    model, tokenizer = loaded
    lines = (Path(run.config.data) / "valid.jsonl").read_text(encoding="utf-8").splitlines()
    losses: list[mx.array] = []
    with prepare.eager_on_cpu():
        for line in lines:
            ids = tokenizer.apply_chat_template(json.loads(line)["messages"], return_dict=False)
            logits = model(mx.array([ids[:-1]]))[0]
            losses.append(nn.losses.cross_entropy(logits, mx.array(ids[1:])))
        return number(mx.mean(mx.concatenate(losses)))


def first_and_last(run: Finished) -> tuple[float, float]:
    evaluated = run.of(ev.Evaluated)
    return evaluated[0].val_loss, evaluated[-1].val_loss


KINDS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "DoRA": {"fine_tune_type": "dora"},
    "all trained": {"fine_tune_type": "full"},
    "last layer": {"num_layers": 1},
    "some modules": {"lora_parameters": {"rank": 2, "scale": 20.0, "keys": ["self_attn.v_proj"]}},
    "whole graph": {"step": "whole-graph"},
    "dropout": {"lora_parameters": {"rank": 4, "scale": 10.0, "dropout": 0.2}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_and_mlx_lm_agrees_how_much(kind: str, workshop: Workshop) -> None:
    run = workshop.run(iters=12, steps_per_eval=12, **KINDS[kind])
    first, last = first_and_last(run)
    assert last < 0.97 * first
    assert validation_loss(run) == pytest.approx(last, rel=1e-4)
    (started,) = run.of(ev.Started)
    assert started.step == ("whole-graph" if kind == "whole graph" else "layers")


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_a_quantised_base_learns_too(kind: str, quantised: Workshop) -> None:
    run = quantised.run(kind, iters=12, steps_per_eval=12, fine_tune_type=kind)
    first, last = first_and_last(run)
    assert last < 0.97 * first
    assert validation_loss(run) == pytest.approx(last, rel=1e-3)
    assert run.of(ev.Started)[0].step == "layers"


def test_loss_falls_far_in_a_longer_run(workshop: Workshop) -> None:
    run = workshop.run(iters=60, steps_per_eval=60, save_every=60)
    assert np.mean(run.losses[-5:]) < 0.6 * run.losses[0]


DROPPING: dict[str, Any] = {"lora_parameters": {"rank": 4, "scale": 10.0, "dropout": 0.3}}


def test_equal_seeds_give_equal_adapters_byte_for_byte(workshop: Workshop) -> None:
    """In one process, one after the other: nothing of the first run is left in the second."""
    first, second = (workshop.run(name, seed=7, **DROPPING) for name in ("first", "second"))
    assert first.losses == second.losses
    assert first.weights == second.weights
    assert [event.kind for event in first.of(ev.Event) if not isinstance(event, ev.Host)] == [
        event.kind for event in second.of(ev.Event) if not isinstance(event, ev.Host)
    ]
    other = workshop.run("other", seed=8, **DROPPING)
    assert other.losses != first.losses


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_micro_batch_does_not_show(dropout: float, mixed: Workshop) -> None:
    lora = {"rank": 4, "scale": 10.0, "dropout": dropout}
    runs = [
        mixed.run(f"{dropout}-{size}", micro_batch_size=size, lora_parameters=lora)
        for size in (4, 2, 1)
    ]
    assert [run.of(ev.Step)[0].micro_batch for run in runs] == [4, 2, 1]
    for run in runs[1:]:
        assert run.losses == pytest.approx(runs[0].losses, rel=1e-5)
        assert first_and_last(run) == pytest.approx(first_and_last(runs[0]), rel=1e-5)


@pytest.mark.parametrize(
    "changes", [{"step": "whole-graph"}, {"tail_chunk": 8}, {"attention": "fused"}]
)
def test_how_a_step_is_evaluated_does_not_show(changes: dict[str, Any], mixed: Workshop) -> None:
    plain = mixed.run("plain" + next(iter(changes)))
    other = mixed.run("other" + next(iter(changes)), **changes)
    assert other.losses == pytest.approx(plain.losses, rel=1e-4)


def test_accumulated_batches_are_one_large_batch(mixed: Workshop) -> None:
    """With every row in both, the first update is the same, weighted by tokens and not by batch."""
    split = mixed.run("split", iters=6, batch_size=4, grad_accumulation_steps=6, optimizer="sgd")
    whole = mixed.run("whole", iters=1, batch_size=24, optimizer="sgd")
    steps = split.of(ev.Step)
    assert [step.updates for step in steps] == [0, 0, 0, 0, 0, 1]
    assert [step.gradient_norm is None for step in steps] == [True] * 5 + [False]
    assert len({step.tokens for step in steps}) > 1
    assert steps[-1].gradient_norm == pytest.approx(whole.of(ev.Step)[0].gradient_norm, rel=1e-4)
    theirs = arrays(whole)
    for name, array in arrays(split).items():
        assert array == pytest.approx(theirs[name], abs=1e-5)


def test_the_schedule_counts_updates(workshop: Workshop) -> None:
    schedule = {"name": "linear_schedule", "arguments": [1e-2, 4e-2, 3]}
    run = workshop.run(iters=8, grad_accumulation_steps=2, lr_schedule=schedule)
    rates = [step.learning_rate for step in run.of(ev.Step)]
    assert rates == pytest.approx([0.01, 0.01, 0.01, 0.02, 0.02, 0.03, 0.03, 0.04])


def test_clipping_makes_an_update_smaller_and_is_told_the_whole_norm(workshop: Workshop) -> None:
    plain = workshop.run("plain", iters=1, optimizer="sgd")
    clipped = workshop.run("clipped", iters=1, optimizer="sgd", max_grad_norm=1e-3)
    norms = [run.of(ev.Step)[0].gradient_norm for run in (plain, clipped)]
    assert norms[0] == norms[1]
    moved = [
        sum(np.abs(a).sum() for n, a in arrays(r).items() if "_b" in n) for r in (plain, clipped)
    ]
    assert moved[1] < 0.1 * moved[0]


def rows_of(folder: Path, rows: Iterable[dict[str, Any]]) -> str:
    made = list(rows)
    write_rows(folder / "train.jsonl", made)
    write_rows(folder / "valid.jsonl", made[:4])
    return str(folder)


FORMATS: dict[str, dict[str, Any]] = {
    "text": {"text": "Rome is a town."},
    "completions": {"prompt": "What is Rome?", "completion": "A town."},
    "tools": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is Rome?"},
            {"role": "assistant", "content": "A town."},
        ]
    },
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_of_mlx_lm_is_trained_on(name: str, workshop: Workshop) -> None:
    data = rows_of(workshop.folder / "data", [FORMATS[name]] * 8)
    run = workshop.run(data=data, iters=8, steps_per_eval=8)
    first, last = first_and_last(run)
    assert last < 0.8 * first


def test_names_of_features_may_be_others(workshop: Workshop) -> None:
    rows = [{"instruction": "What is Rome?", "output": "A town."}] * 8
    data = rows_of(workshop.folder / "data", rows)
    run = workshop.run(data=data, prompt_feature="instruction", completion_feature="output")
    assert run.ended.status == "completed"


def test_masked_prompts_are_not_trained_on(workshop: Workshop) -> None:
    plain = workshop.run("plain")
    masked = workshop.run("masked", mask_prompt=True)
    tokens = [run.of(ev.Step)[0].tokens for run in (plain, masked)]
    assert 0 < tokens[1] < 0.7 * tokens[0]
    assert masked.of(ev.Evaluated)[0].tokens < plain.of(ev.Evaluated)[0].tokens
    first, last = first_and_last(masked)
    assert last < first


def test_a_run_without_validation_rows_or_without_evaluation(workshop: Workshop) -> None:
    data = workshop.folder / "data"
    write_rows(data / "train.jsonl", [FORMATS["text"]] * 8)
    for run in (workshop.run("no rows", data=str(data)), workshop.run("off", val_batches=0)):
        assert run.ended.status == "completed"
        assert run.of(ev.Evaluated) == []
        assert run.of(ev.Started)[0].valid_rows == 0
        assert run.of(ev.CheckpointSaved)[-1].val_loss is None


def test_a_run_that_begins_with_adapters_begins_where_they_stood(workshop: Workshop) -> None:
    first = workshop.run("first", iters=12, steps_per_eval=12)
    for name, path in {
        "folder": first.directory.adapters,
        "file": first.directory.adapters / "adapters.safetensors",
    }.items():
        second = workshop.run(name, resume_adapter_file=str(path), sample_prompts=["Rome?"])
        start, end = first_and_last(second)
        assert start == pytest.approx(first_and_last(first)[1], rel=1e-6)
        assert end < start
        assert not any(sampled.base for sampled in second.of(ev.Sampled))


def test_the_newest_adapters_are_published(workshop: Workshop) -> None:
    published = workshop.folder / "published" / "here"
    run = workshop.run(adapter_path=str(published))
    assert {path.name for path in published.iterdir()} == {
        "adapter_config.json",
        "adapters.safetensors",
    }
    for path in published.iterdir():
        assert path.read_bytes() == (run.directory.adapters / path.name).read_bytes()


class StopsInside(Mailbox):
    """Asks to stop when it was asked so many times after it was armed."""

    def __init__(self) -> None:
        super().__init__()
        self.asks_left: int | None = None

    def should_stop(self) -> bool:
        if self.asks_left is not None:
            self.asks_left -= 1
            if self.asks_left == 0:
                self.stop(Stop("inside a step"))
        return super().should_stop()


@pytest.mark.parametrize("asks", [1, 3, 5])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_stop_inside_a_step_keeps_the_last_whole_iteration(
    asks: int, accumulation: int, workshop: Workshop
) -> None:
    """On this thread, so that the stop comes inside of iteration 4 for certain."""
    never: dict[str, Any] = {"steps_per_eval": 100, "save_every": 100}
    settings = never | {"grad_accumulation_steps": accumulation}
    directory = RunDirectory(workshop.folder / "stopped")
    mailbox = StopsInside()
    events: list[ev.Event] = []
    for event in train(workshop.config(iters=100, **settings), directory, mailbox):
        events.append(event)
        if isinstance(event, ev.Step) and event.iteration == 3:
            mailbox.asks_left = asks
    stopped = Finished(workshop.session(), workshop.config(), directory, events)
    assert mailbox.asks_left == 0
    assert (stopped.ended.status, stopped.ended.iteration) == ("stopped", 3)
    assert [step.iteration for step in stopped.of(ev.Step)] == [1, 2, 3]
    whole = workshop.run("whole", iters=3, **settings)
    assert stopped.weights == whole.weights


def test_the_same_rows_follow_however_many_iterations(workshop: Workshop) -> None:
    short, long = workshop.run("short", iters=4), workshop.run("long", iters=9)
    assert long.losses[:4] == short.losses


def test_the_peak_of_a_step_is_its_own(workshop: Workshop) -> None:
    """Not that of the check before, which runs the whole graph."""
    run = workshop.run(iters=3, val_batches=0)
    peaks = [step.memory.peak for step in run.of(ev.Step)]
    assert max(peaks) < 2 * min(peaks)


def test_the_footprint_is_that_which_was_last_measured(workshop: Workshop) -> None:
    directory = RunDirectory(workshop.folder / "run")
    measured = iter(range(1000, 9000))
    events = list(
        train(workshop.config(val_batches=0), directory, Mailbox(), lambda: next(measured))
    )
    found = [event.memory.footprint for event in events if isinstance(event, ev.Step)]
    assert found == list(range(1000, 1006))


def test_rows_that_were_cut_are_said(workshop: Workshop) -> None:
    run = workshop.run(max_seq_length=16)
    words = " ".join(event.message for event in run.of(ev.Warned))
    assert "16 rows of train cut to max_seq_length" in words


def test_the_budget_decides_how_many_rows_are_worked_at_once(
    mixed: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: dict[int, int] = {}
    for budget in (100_000_000_000, 100_000_000):
        run = mixed.run(f"{budget}", iters=1, memory_budget_bytes=budget, val_batches=0)
        rows[budget] = run.of(ev.Started)[0].micro_batch
        assert run.of(ev.Started)[0].budget == budget
    assert rows[100_000_000_000] == 4
    monkeypatch.setattr(prepare, "default_budget", lambda: 1)
    poor = mixed.run("poor", iters=2, val_batches=0)
    assert poor.of(ev.Started)[0].micro_batch == 1
    assert [step.micro_batch for step in poor.of(ev.Step)] == [1, 1]
    assert all(math.isfinite(loss) for loss in poor.losses)


def test_evaluating_and_sampling_do_not_show(workshop: Workshop) -> None:
    """They switch dropout off while they last, and draw nothing."""
    quiet = workshop.run("quiet", val_batches=0, **DROPPING)
    busy = workshop.run(
        "busy", steps_per_eval=1, sample_prompts=["Rome?"], sample_max_tokens=2, **DROPPING
    )
    assert len(busy.of(ev.Evaluated)) == 7
    assert busy.losses == quiet.losses
    assert workshop.run("plain", val_batches=0).losses != quiet.losses
