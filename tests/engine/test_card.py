"""Adapters say what they are: from what, how, how well, and how to use them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import yaml

from engine import events as ev
from engine.card import card_text, licence_of
from engine.config import RunConfig
from engine.svg import curve_svg
from tests.tiny import chat_row, write_rows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.workshop import Workshop

SVG = "{http://www.w3.org/2000/svg}"


def test_a_run_leaves_a_card(workshop: Workshop, tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        write_rows(tmp_path / "own" / f"{name}.jsonl", [chat_row("Rome?", "A town.")] * 4)
    run = workshop.run(
        data=str(tmp_path / "own"), test=True, sample_prompts=["Is a|b?"], sample_max_tokens=3
    )
    folder = run.directory.adapters
    text = (folder / "README.md").read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["base_model"] == "model"
    assert header["license"] == "unknown"
    assert "datasets" not in header
    # Nothing in it says where things are on this machine.
    assert str(tmp_path) not in text
    assert str(workshop.model) not in text
    (tested,) = run.of(ev.Tested)
    assert f"| test, 4 rows | {tested.test_loss:.3f} |" in text
    assert f"{run.of(ev.Evaluated)[-1].val_loss:.3f}" in text
    assert "| `learning_rate` | `0.001` |" in text
    assert "Is a\\|b?" in text
    assert 'load("model", adapter_path=".")' in text
    drawn = ET.fromstring((folder / "curve.svg").read_text())
    assert len(drawn.findall(f"{SVG}circle")) == len(run.of(ev.Evaluated))


def test_names_on_the_hub_stay(tmp_path: Path) -> None:
    header = yaml.safe_load(
        card_text(RunConfig(model="Qwen/Qwen3-0.6B", data="owner/rows")).split("---")[1]
    )
    assert header["base_model"] == "Qwen/Qwen3-0.6B"
    assert header["base_model_relation"] == "adapter"
    assert header["datasets"] == ["owner/rows"]
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    assert licence_of(str(tmp_path)) == "apache-2.0"
    (tmp_path / "README.md").write_text("---\n[\n---\n")
    assert licence_of(str(tmp_path)) == ""


def test_curves_of_any_length() -> None:
    assert "nothing was measured" in curve_svg([], [])
    one = ET.fromstring(curve_svg([(1, float("nan"))], [(0, 2.0)]))
    assert len(one.findall(f"{SVG}circle")) == 1
    long = ET.fromstring(curve_svg([(i, 1 / i) for i in range(1, 15_001)], []))
    line = long.findall(f"{SVG}polyline")[0]
    assert len(str(line.get("points")).split()) <= 160
