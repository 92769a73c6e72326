"""What a run will take is told from shapes, at the speed of this machine, and as a range."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer

from engine import machine as machines
from engine import work
from engine.config import load_config, validate
from engine.data.glance import glance
from engine.lengths import Lengths, batches_by_width, find_lengths
from engine.machine import Machine
from engine.model_shape import find_shape
from engine.planning import FASTEST, SLOWEST, make_plan
from engine.prepare import Prepared, eager_on_cpu, prepare
from engine.preset_files import preset_names
from engine.preset_plans import alternative, plan_presets
from tests.tiny import chat_row, make_tiny_data, make_tiny_model, write_rows

if TYPE_CHECKING:
    from collections.abc import Generator

MAC = Machine(
    device="Apple M2 (GPU)",
    is_cpu=False,
    has_fused_attention=False,
    budget_bytes=5_150_000_000,
    flops_per_second=2.2e12,
)
"""About what an 8 GB MacBook Air says of itself."""
FULL = Lengths.exactly([2048] * 8, "full rows")
MAXIMUM = load_config("maximum")


def test_a_step_of_the_maximum_configuration_is_about_76_teraflop() -> None:
    """By hand: three passes through 1.31 billion weights, two through the head, and attention."""
    shape = find_shape(MAXIMUM.model)
    flops = work.step_flops(shape, MAXIMUM, 4, 2048)
    weights = sum(linear.size for layer in shape.layers for linear in layer.linears)
    linear = 3 * 2 * weights
    head = 2 * 2 * 1536 * 151_936
    attention = 4 * 28 * 2 * 2 * 1024 * 1536
    adapters = 4 * 2 * 36_929_536
    assert flops == pytest.approx(4 * 2048 * (linear + head + attention + adapters), rel=1e-6)
    assert 74e12 < flops < 84e12


def test_work_follows_what_is_trained_and_kept() -> None:
    shape = find_shape(MAXIMUM.model)

    def flops(**values: Any) -> float:
        kept = values.pop("kept_layers", 0)
        return work.step_flops(shape, load_config("maximum", values), 4, 256, kept_layers=kept)

    assert flops(num_layers=4) < 0.5 * flops()
    assert 0.6 * flops() < flops(kept_layers=28) < 0.75 * flops()
    assert flops(fine_tune_type="full") > 1.2 * flops()
    assert flops(fine_tune_type="dora") > flops()
    assert work.evaluation_flops(shape, 4, 256) < 0.5 * flops()


def test_time_is_work_over_speed_and_a_range() -> None:
    plan = make_plan(MAXIMUM, MAC, lengths=FULL)
    assert plan.seconds is not None
    steps = 15_000 * work.step_flops(plan.model, MAXIMUM, 4, 2048) / 2.2e12
    assert plan.seconds.low == pytest.approx(FASTEST * steps, rel=0.03)
    assert plan.seconds.high == pytest.approx(SLOWEST * steps, rel=0.03)
    # As the README says: days, not the 8.3 hours of folklore.
    assert 4 < plan.seconds.low / 86_400 < plan.seconds.high / 86_400 < 10


def test_without_a_speed_there_is_no_time() -> None:
    plan = make_plan(MAXIMUM, replace(MAC, flops_per_second=None))
    assert plan.seconds is None
    assert plan.as_json()["seconds"] is None


def test_the_plan_in_json_has_the_fixed_keys() -> None:
    values = json.loads(json.dumps(make_plan(MAXIMUM, MAC, lengths=FULL).as_json()))
    assert {
        "trainable_parameters",
        "adapter_bytes",
        "memory",
        "budget",
        "fits",
        "micro_batch",
        "step",
        "seconds",
        "iterations",
        "updates",
        "epochs",
        "tokens",
    } <= set(values)
    assert set(values["memory"]) == {
        *("base", "adapters", "gradients", "optimizer", "activations"),
        *("tail", "data", "other", "samples", "peak"),
    }
    assert set(values["seconds"]) == {"low", "high"}
    assert values["trainable_parameters"] == 36_929_536
    assert values["adapter_bytes"] == pytest.approx(4 * 36_929_536, rel=0.001)
    assert (values["updates"], values["iterations"], values["epochs"]) == (468, 15_000, 7500.0)
    assert values["fits"] is True
    assert (
        sum(values["memory"][k] for k in values["memory"] if k != "peak")
        == (values["memory"]["peak"])
    )


def test_a_cpu_trains_in_float32_and_a_gpu_with_much_memory_computes_once() -> None:
    cpu = make_plan(MAXIMUM, replace(MAC, is_cpu=True, budget_bytes=32_000_000_000), lengths=FULL)
    assert cpu.memory.base == 4 * 1_543_714_304
    large = make_plan(MAXIMUM, replace(MAC, budget_bytes=100_000_000_000), lengths=FULL)
    tight = make_plan(MAXIMUM, MAC, lengths=FULL)
    assert (large.micro_batch, tight.micro_batch) == (4, 1)
    assert large.seconds
    assert tight.seconds
    assert large.seconds.low < 0.8 * tight.seconds.low


def test_the_budget_asked_for_is_kept() -> None:
    config = load_config("maximum", {"memory_budget_bytes": 4_000_000_000})
    plan = make_plan(config, MAC)
    assert (plan.budget, plan.fits) == (4_000_000_000, False)


def test_every_preset_can_be_planned_without_a_network() -> None:
    plans = plan_presets(MAC)
    assert set(plans) == set(preset_names())
    assert {"maximum", "longer", "wider", "careful", "alpaca", "oasst"} < set(plans)
    fitting = {name for name, plan in plans.items() if plan.fits}
    assert set(plans) - fitting == {"longer"}
    assert alternative("longer", plans) == "maximum"
    for plan in plans.values():
        assert plan.seconds
        assert 0 < plan.seconds.low < plan.seconds.high


def test_presets_say_what_they_are_for() -> None:
    wider, careful = load_config("wider"), load_config("careful")
    assert (wider.batch_size, wider.grad_accumulation_steps) == (6, 21)
    assert (careful.batch_size, careful.max_seq_length) == (2, 1024)
    assert load_config("longer").max_seq_length == 3072
    for name in ("longer", "wider", "careful", "alpaca", "oasst", "qlora-3b", "qlora-7b"):
        assert load_config(name).adapter_path == f"adapters_{name.replace('-', '_')}"


def test_lengths_of_local_rows_are_bounded_from_their_text() -> None:
    demo = load_config("demo")
    lengths = find_lengths(glance(demo), 512)
    assert lengths.rows == len(lengths.low) == 481
    assert "481 rows" in lengths.basis
    tokenizer = Tokenizer.from_file(f"{demo.model}/tokenizer.json")
    rows = (Path(demo.data) / "train.jsonl").read_text(encoding="utf-8").splitlines()
    turns = [[m["content"] for m in json.loads(row)["messages"]] for row in rows]
    counted = [sum(len(tokenizer.encode(text).ids) + 4 for text in texts) for texts in turns]
    assert sum(lengths.low) < sum(counted) < sum(lengths.high)


def test_lengths_end_at_the_limit(tmp_path: Path) -> None:
    long = chat_row("Tell me all of it.", "word " * 5000)
    write_rows(tmp_path / "train.jsonl", [long, chat_row("Is it so?", "It is so.")])
    lengths = find_lengths(glance(validate({"data": str(tmp_path)})), 128)
    assert lengths.rows == 2
    assert lengths.high[0] == 128


def test_rows_that_nobody_has_counted_lie_between_bounds() -> None:
    assert glance(MAXIMUM) is None
    lengths = find_lengths(None, 2048)
    assert (lengths.low, lengths.high, lengths.rows) == ((256,), (2048,), None)
    assert "256 to 2,048 tokens" in lengths.basis


def test_batches_are_as_wide_as_their_longest_row() -> None:
    assert batches_by_width([9, 9, 17, 33], 2) == {8: 0.5, 32: 0.5}
    assert batches_by_width([100], 4) == {104: 1.0}


def test_a_machine_is_remembered_until_it_is_old_or_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORA_TUI_HOME", str(tmp_path / "home"))
    assert machines.known_machine() is None
    measured = replace(MAC, measured=1000.0, host=machines.host_name())
    machines.remember(measured)
    assert machines.known_machine(now=2000.0) == measured
    assert machines.known_machine(now=1000.0 + 91 * 86_400) is None
    machines.remember(replace(measured, host="another"))
    assert machines.known_machine(now=2000.0) is None
    machines.machine_file().write_text("{", encoding="utf-8")
    assert machines.known_machine(now=2000.0) is None


def test_a_machine_is_measured_once_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORA_TUI_HOME", str(tmp_path / "home"))
    machine = machines.this_machine()
    assert machine.flops_per_second
    assert machine.flops_per_second > 1e8
    assert machine.layer_seconds > 0
    assert machine.budget_bytes > 0
    assert machines.known_machine() == machine


@pytest.mark.parametrize("changes", [{}, {"micro_batch_size": 2}, {"step": "whole-graph"}])
def test_the_plan_before_loading_is_that_of_the_run(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    run = validate(
        {
            "model": str(make_tiny_model(tmp_path / "model")),
            "data": str(make_tiny_data(tmp_path / "data")),
            "num_layers": -1,
            "iters": 4,
            "optimizer": "adamw",
            "lora_parameters": {"rank": 4, "scale": 1.0, "dropout": 0.1},
            "memory_budget_bytes": 100_000_000,
            **changes,
        }
    )
    with eager_on_cpu():
        prepared = finished(prepare(run))
    lengths = Lengths.exactly(prepared.train.lengths.tolist(), "counted")
    plan = make_plan(run, replace(MAC, is_cpu=True), lengths=lengths)
    assert plan.memory == replace(prepared.memory, data=0)
    assert (plan.micro_batch, plan.updates) == (prepared.micro_batch, prepared.updates)
    assert plan.trainable_parameters == prepared.adapted.trainable_parameters
    assert plan.model.parameters == prepared.adapted.total_parameters
    assert plan.epochs == float(prepared.plan.epoch[-1])
    assert plan.step == prepared.stepper.method


def finished(generator: Generator[Any, None, Prepared]) -> Prepared:
    """Let a generator run to its end, and return what it returns."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value
