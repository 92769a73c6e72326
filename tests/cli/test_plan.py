"""``plan`` and ``presets``: at once, without MLX and without a network."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from engine.machine import host_name, remember
from tests.cli.program import NOWHERE, PATIENCE, environment
from tests.engine.test_planning import MAC
from tui.cli_home import HomeOutlook, first_look

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Tiny
    from tests.cli.program import Outcome


@pytest.fixture
def mac(home: Path) -> Path:
    """A home in which this machine is known as a small Mac."""
    remember(replace(MAC, measured=time.time(), host=host_name()))
    return home


LIGHT = """
import sys, time
began = time.process_time()
from tui.cli import main
assert main(["plan", "maximum"]) == 0
seconds = time.process_time() - began
main(["presets"])
heavy = {"mlx", "mlx_lm", "transformers", "datasets", "huggingface_hub", "textual"}
print(f"{seconds:.3f}", sorted(heavy & set(sys.modules)))
"""


@pytest.mark.usefixtures("mac")
def test_a_known_preset_is_planned_at_once_without_mlx(home: Path) -> None:
    outcome = subprocess.run(
        [sys.executable, "-c", LIGHT],
        env=environment(home, {"HF_ENDPOINT": NOWHERE}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    seconds, heavy = outcome.stdout.splitlines()[-1].split(" ", 1)
    assert heavy == "[]"
    assert float(seconds) < 1.0


@pytest.mark.usefixtures("mac")
def test_a_plan_for_people(call: Callable[..., Outcome]) -> None:
    outcome = call("plan", "maximum")
    assert (outcome.code, outcome.err) == (0, "")
    assert "fits: 5.13 of 5.15 GB, about " in outcome.out
    assert "36,929,536 of 1,543,714,304 parameters; 148 MB a checkpoint" in outcome.out
    assert "4 rows, 1 at a time" in outcome.out
    assert "15,000 iterations, 468 updates" in outcome.out
    assert "base weights   3.09 GB" in outcome.out
    assert all(len(line) <= 100 for line in outcome.out.splitlines())


@pytest.mark.usefixtures("mac")
def test_a_run_that_does_not_fit_is_made_to(call: Callable[..., Outcome]) -> None:
    refused = call("plan", "longer")
    assert "too large by 499 MB" in refused.out
    assert "lora-tui plan longer --fit" in refused.out
    fitted = call("plan", "longer", "--fit")
    assert "max_seq_length: 3072 → 1536" in fitted.out
    assert "lora-tui run longer --set max_seq_length=1536" in fitted.out
    values = json.loads(call("plan", "longer", "--fit", "--json").out)
    assert values["fits"] is True
    assert [(c["setting"], c["after"]) for c in values["fit"]] == [("max_seq_length", 1536)]
    assert call("plan", "maximum", "--fit").out.rstrip().endswith("It fits as it is.")


@pytest.mark.usefixtures("mac")
def test_a_local_model_and_local_rows_are_planned(call: Callable[..., Outcome], tiny: Tiny) -> None:
    values = json.loads(call("plan", tiny.config(), "--json", "--speed", "0.05").out)
    assert values["epochs"] == 1.5
    assert values["lengths"] == "tokens guessed from the characters of 16 rows"
    assert values["flops_per_second"] == 0.05e12
    assert values["tokens"] > 0
    assert 0 < values["seconds"]["low"] < values["seconds"]["high"]


@pytest.mark.usefixtures("mac")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nosuch",), "there is no preset 'nosuch'"),
        (("maximum", "--model", "nobody/nothing"), "nobody/nothing is not on this machine"),
        (("maximum", "--set", "lora_parameters.rank=4000"), "whose smaller side is 256"),
        (("maximum", "--speed", "0"), "--speed"),
    ],
)
def test_what_cannot_be_planned_is_bad_usage(
    call: Callable[..., Outcome], arguments: tuple[str, ...], words: str
) -> None:
    outcome = call("plan", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert words in outcome.err


@pytest.mark.usefixtures("mac")
def test_presets_say_whether_they_fit(call: Callable[..., Outcome]) -> None:
    lines = {line.split()[0]: line for line in call("presets").out.splitlines()}
    assert "fits: 5.13 of 5.15 GB" in lines["maximum"]
    assert "too large by 499 MB; try maximum" in lines["longer"]
    listed = json.loads(call("presets", "--json").out)
    assert {preset["name"] for preset in listed} == set(lines)
    assert all(preset["verdict"] for preset in listed)
    home = HomeOutlook()()
    assert {p.name: bool(p.verdict) for p in home.presets} == dict.fromkeys(lines, True)
    assert {p.name: p.fits for p in home.presets}["longer"] is False
    assert home.is_measured


def test_presets_and_home_wait_for_no_measurement(call: Callable[..., Outcome], home: Path) -> None:
    listed = json.loads(call("presets", "--json").out)
    assert all(preset["verdict"] for preset in listed)
    assert {preset.verdict for preset in first_look().presets} == {""}
    looked_at = HomeOutlook()()
    assert all(preset.verdict for preset in looked_at.presets)
    assert not looked_at.is_measured
    assert not home.exists()


@pytest.mark.usefixtures("mac")
def test_the_data_is_shown_in_a_plan(call: Callable[..., Outcome], tiny: Tiny) -> None:
    outcome = call("plan", tiny.config())
    assert "data      chat, 16 rows (detected; others: --set data_format=…)" in outcome.out
    assert json.loads(call("plan", tiny.config(), "--json").out)["data"]["found"] == "chat, 16 rows"
    full = call("plan", tiny.config(), "--preflight")
    assert full.code == 0, full.err
    assert "rows      16 to train on, 4 to measure on" in full.out
    assert "time      1 s: tokens counted" in full.out
    assert "What do you know of" in full.out
    values = json.loads(call("plan", tiny.config(), "--preflight", "--json").out)
    assert values["preflight"]["train_rows"] == values["data"]["train_rows"] == 16
    assert values["preflight"]["example"][0]["text"].startswith("<|im_start|>")
    refused = call("plan", tiny.config(data_format="alpaca"))
    assert "data      a run would be refused: train.jsonl, line 1: the row has no" in refused.out


@pytest.mark.usefixtures("mac")
def test_tokens_need_a_model_that_is_here(call: Callable[..., Outcome]) -> None:
    outcome = call("plan", "maximum", "--preflight")
    assert outcome.code == 2
    assert "is not on this machine, and its tokenizer is what tells tokens" in outcome.err


@pytest.mark.usefixtures("mac")
def test_a_run_is_made_to_fit(
    call: Callable[..., Outcome], tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def follow(session: Any, _output: str) -> int:
        asked.append(session.config)
        return 0

    monkeypatch.setattr("tui.cli_run._follow", follow)
    outcome = call("run", tiny.config("large", cache_limit_bytes=10**10), "--fit", "--plain")
    assert outcome.code == 0, outcome.err
    assert "cache_limit_bytes: 10000000000 → " in outcome.err
    assert asked[0].cache_limit_bytes < 10**10
    assert call("run", tiny.config(), "--fit", "--plain").err.startswith("It fits as it is.")
    assert call("run", "--resume", "--fit").code == 2
