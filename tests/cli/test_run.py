"""A run from one command: the event lines, the files, and what mlx-lm makes of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from engine import events as ev
from tests.cli.program import PATIENCE, Outcome, environment, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Tiny

ITERATIONS, SAVED_AT, EVALUATED_AT = 6, [3, 4, 6], [0, 3, 6]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def trained(tiny: Tiny, folder: Path) -> Outcome:
    """One run with ``--json``, looked at from all sides below."""
    arguments = ("run", tiny.config("json", sample_prompts=["Rome?"], sample_max_tokens=4))
    outcome = run(*arguments, "--json", "--run-dir", str(folder / "once"), home=folder / "home")
    assert outcome.code == 0, outcome.err
    return outcome


def of_kind(outcome: Outcome, kind: str) -> list[dict[str, Any]]:
    return [event for event in outcome.events if event["event"] == kind]


def test_lines_are_the_journals(trained: Outcome, folder: Path) -> None:
    assert trained.out == (folder / "once" / "events.jsonl").read_text(encoding="utf-8")


def test_events_come_in_the_order_of_a_run(trained: Outcome) -> None:
    kinds = [event["event"] for event in trained.events if event["event"] != "host"]
    begun = kinds.index("started")
    assert set(kinds[:begun]) <= {"progress", "data", "warning"}
    assert [kind for kind in kinds[begun:] if kind not in {"progress", "checkpoint"}] == [
        *("started", "sampled", "evaluated"),
        *("step", "step", "step", "evaluated", "sampled"),
        *("step", "step", "step", "evaluated", "sampled"),
        "ended",
    ]
    reasons = [event["reason"] for event in trained.events if event["event"] == "checkpoint"]
    assert reasons[-1] == "final"
    # Written by another thread, the others are told of when they are durable.
    done = 0
    for event in trained.events:
        if event["event"] == "step":
            done = event["iteration"]
        assert event["event"] != "checkpoint" or event["iteration"] <= done
    # What the machine was like is read by another thread, a moment before it is said.
    times = [event["time"] for event in trained.events if event["event"] != "host"]
    assert times == sorted(times)


def test_events_carry_the_keys_of_the_design(trained: Outcome) -> None:
    for event in trained.events:
        kind = ev.KINDS[event["event"]]
        assert list(event) == ["event", *(field.name for field in fields(kind))]
    step = of_kind(trained, "step")[0]
    design = (
        "event time iteration loss learning_rate tokens seconds tokens_per_second "
        "iterations_per_second trained_tokens gradient_norm memory eta_seconds"
    )
    assert set(design.split()) <= set(step)
    assert list(step["memory"]) == ["active", "peak", "cache", "footprint"]


def test_numbers_make_sense(trained: Outcome) -> None:
    steps = of_kind(trained, "step")
    assert [step["iteration"] for step in steps] == list(range(1, ITERATIONS + 1))
    assert [e["iteration"] for e in of_kind(trained, "evaluated")] == EVALUATED_AT
    saved = of_kind(trained, "checkpoint")
    assert [e["iteration"] for e in saved] == SAVED_AT
    assert [e["reason"] for e in saved] == ["best", "scheduled", "final"]
    started, ended = of_kind(trained, "started")[0], trained.events[-1]
    assert (started["iterations"], started["step"]) == (ITERATIONS, "layers")
    assert (ended["status"], ended["iteration"], ended["exit_code"]) == ("completed", ITERATIONS, 0)
    assert (
        of_kind(trained, "evaluated")[-1]["val_loss"] < of_kind(trained, "evaluated")[0]["val_loss"]
    )


def test_files_are_those_of_the_design(trained: Outcome, folder: Path) -> None:
    at = folder / "once"
    adapters = {path.name for path in (at / "adapters").glob("*adapters.safetensors")}
    assert adapters == {
        "0000003_adapters.safetensors",
        "0000004_adapters.safetensors",
        "0000006_adapters.safetensors",
        "adapters.safetensors",
    }
    assert (at / "config.yaml").is_file()
    assert [path.name for path in (folder / "home").iterdir()] == ["cache"]
    assert of_kind(trained, "checkpoint")[0]["path"] == str(
        at / "adapters" / "0000003_adapters.safetensors"
    )


def test_last_words_say_how_to_use_it(trained: Outcome, tiny: Tiny, folder: Path) -> None:
    adapters = folder / "once" / "adapters"
    assert "Completed at 6" in trained.err
    assert "Saved at 6." in trained.err
    assert f"mlx_lm.generate --model {tiny.model} --adapter-path {adapters}" in trained.err


@pytest.mark.usefixtures("trained")
def test_mlx_lm_answers_with_the_adapters(tiny: Tiny, folder: Path) -> None:
    command = [sys.executable, "-m", "mlx_lm", "generate", "--model", str(tiny.model)]
    command += ["--adapter-path", str(folder / "once" / "adapters")]
    command += ["--prompt", "Rome?", "--max-tokens", "3"]
    answer = subprocess.run(
        command,
        env=environment(folder / "home"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert "Generation: " in answer.stdout


MLX_LM_FILE = """
model: "{model}"
train: true
fine_tune_type: lora
optimizer: adamw
# optimizer_config:
optimizer_config:
  adamw:
    betas: [0.9, 0.98]
    eps: 1e-6
    weight_decay: 0.05
    bias_correction: true
data: "{data}"
seed: 0
num_layers: 2
batch_size: 4
iters: 5
val_batches: 25
learning_rate: 1e-5
steps_per_report: 2
steps_per_eval: 200
resume_adapter_file: null
adapter_path: "{adapters}"
save_every: 100
test: false
test_batches: 100
max_seq_length: 2048
grad_checkpoint: false
lora_parameters:
  keys: ["self_attn.q_proj", "self_attn.v_proj"]
  rank: 8
  scale: 20.0
  dropout: 0.0
lr_schedule:
  name: cosine_decay
  warmup: 100 # 0 for no warmup
  warmup_init: 1e-7 # 0 if not specified
  arguments: [1e-5, 1000, 1e-7] # passed to scheduler
"""


def test_a_file_written_for_mlx_lm_in_plain_lines(tiny: Tiny, tmp_path: Path) -> None:
    file = tmp_path / "lora_config.yaml"
    adapters = tmp_path / "adapters"
    text = MLX_LM_FILE.format(model=tiny.model, data=tiny.data, adapters=adapters)
    file.write_text(text, encoding="utf-8")
    outcome = run("run", str(file), "--plain", home=tmp_path / "home")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    reports = [line for line in lines if " / 5  loss " in line]
    assert [int(line.split("/")[0]) for line in reports] == [2, 4, 5]
    assert lines[0] == "data      chat, 16 rows"
    assert "  [Paris is a town.<|im_end|>" not in lines  # mask_prompt is off: all of it is marked
    assert any(line.startswith("Training ") for line in lines)
    assert "Saved at 5 (final)" in lines
    # Without prompts of its own it answers what a validation row asks.
    assert any(line.startswith("Sample (base) at 0: ") for line in lines)
    assert lines[-1] == "Completed at 5: all 5 iterations are done"
    assert outcome.err.startswith("loading MLX and its libraries…\n")
    names = {path.name for path in adapters.iterdir()}
    assert names == {"adapter_config.json", "adapters.safetensors"}
