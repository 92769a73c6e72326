"""What is wrong is said in one message, with exit code 2 and nothing written."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.cli.program import NOWHERE, Outcome, run
from tests.tiny import chat_row, make_tiny_data, make_tiny_model, write_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Tiny


def assert_refused(outcome: Outcome, *parts: str) -> None:
    assert outcome.code == 2, outcome
    assert not outcome.files
    assert "Traceback" not in outcome.err
    for part in parts:
        assert part in outcome.err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("rnu",), ("No such command 'rnu'", "'run'")),
        (("run",), ("Give either a preset or YAML file, or --resume",)),
        (("run", "demo", "--resume"), ("Give either a preset or YAML file, or --resume",)),
        (("run", "--resume"), ("there are no runs yet", "lora-tui demo")),
        (("run", "--resume", "nothing@5"), ("there is no run 'nothing'",)),
        (("run", "demo", "--plian"), ("--plian", "--plain")),
        (("demo", "--plain", "--json"), ("exclude each other",)),
        (("run", "demoo"), ("no preset 'demoo'", "Did you mean 'demo'?")),
        (("run", "no/such.yaml"), ("no/such.yaml does not exist",)),
        (("run", "demo", "--set", "itres=3"), ("itres", "Did you mean 'iters'?")),
        (("run", "demo", "--set", "iters"), ("key=value",)),
        ((), ("needs a terminal", "--plain")),
    ],
)
def test_words_it_does_not_know(
    call: Callable[..., Outcome], arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    assert_refused(call(*arguments), *parts)


def test_all_wrong_values_at_once(call: Callable[..., Outcome], tiny: Tiny) -> None:
    path = tiny.config(
        iters="many",
        batch_size=2.5,
        learning_rate="fast",
        num_layers=True,
        mask_prompt="perhaps",
        sample_prompts="hello",
        lora_parameters={"rank": 0, "scale": 20.0, "alpha": 16},
    )
    outcome = call("run", path, "--set", "optimizer=adamm", "--set", "save_evry=3", "--json")
    assert_refused(
        outcome,
        f"10 problems in {path}",
        "iters: should be a whole number, not 'many'",
        "batch_size: should be a whole number, not 2.5",
        "learning_rate: should be a number, not 'fast'",
        "num_layers: should not be true or false",
        "mask_prompt: should be true or false, not 'perhaps'",
        "sample_prompts: should be a list",
        "lora_parameters.rank: should be greater than or equal to 1, not 0",
        "lora_parameters.alpha: unknown setting",
        "'adamm' is not one of",
        "save_evry: unknown setting. Did you mean 'save_every'?",
    )
    assert outcome.out == ""


def test_scale_missing(call: Callable[..., Outcome], tiny: Tiny) -> None:
    path = tiny.config(lora_parameters={"rank": 8, "alpha": 16})
    assert_refused(call("run", path), "lora_parameters.scale: missing", "scale = alpha / rank")


def test_a_file_that_is_not_yaml(call: Callable[..., Outcome], tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("iters: 5\nmodel: [a\n", encoding="utf-8")
    assert_refused(call("run", str(path)), "broken.yaml", "line 3", "not valid YAML")


def test_model_folders_that_are_none(
    call: Callable[..., Outcome], tiny: Tiny, tmp_path: Path
) -> None:
    make_tiny_model(tmp_path / "hollow")
    (tmp_path / "hollow" / "model.safetensors").unlink()
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}", encoding="utf-8")
    for name, parts in {
        "holow": ("There is no model folder", "Did you mean 'hollow'?"),
        "hollow": ("has no weights",),
        "adapter": ("holds an adapter, not a model", "resume_adapter_file"),
    }.items():
        outcome = call("run", tiny.config(), "--model", str(tmp_path / name))
        assert_refused(outcome, str(tmp_path / name), *parts)


def test_more_layers_than_the_model_has(call: Callable[..., Outcome], tiny: Tiny) -> None:
    outcome = call("run", tiny.config(), "--set", "num_layers=3")
    assert_refused(outcome, "num_layers: 3", "has 2 layers", "or -1 for all")


def test_data_folders_that_are_none(
    call: Callable[..., Outcome], tiny: Tiny, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for name, part in {"missing": "no such folder", "empty": "the folder is empty"}.items():
        outcome = call("run", tiny.config(), "--data", str(tmp_path / name))
        assert_refused(outcome, str(tmp_path / name), part)


def test_model_and_data_wrong_are_told_together(
    call: Callable[..., Outcome], tiny: Tiny, tmp_path: Path
) -> None:
    outcome = call(
        "run", tiny.config(), "--model", str(tmp_path / "m"), "--data", str(tmp_path / "d")
    )
    assert_refused(outcome, "There is no model folder", "no such folder")


def test_a_runs_folder_that_cannot_be_written(
    call: Callable[..., Outcome], tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LORA_TUI_HOME", str(tmp_path / "file"))
    assert_refused(call("run", tiny.config()), "cannot be written", "LORA_TUI_HOME")
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        monkeypatch.setenv("LORA_TUI_HOME", str(tmp_path / "locked" / "home"))
        assert_refused(call("run", tiny.config()), "cannot be written")


def test_a_run_folder_that_is_taken(
    call: Callable[..., Outcome], tiny: Tiny, tmp_path: Path
) -> None:
    write_rows(tmp_path / "taken" / "notes.jsonl", [])
    outcome = call("run", tiny.config(), "--run-dir", str(tmp_path / "taken"))
    assert_refused(outcome, "exists already", "--run-dir")


@pytest.fixture(scope="module")
def refused_while_loading(
    tiny: Tiny, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Outcome]:
    """What only shows once rows and model are read, one after the other in one process."""
    folder = tmp_path_factory.mktemp("rows")
    good = chat_row("What do you know of Rome?", "Rome is a town.")
    make_tiny_data(folder / "bad-line")
    write_rows(folder / "bad-line" / "train.jsonl", [good, good, '{"messages": [', good])
    write_rows(folder / "mixed" / "train.jsonl", [good, {"text": "Rome."}, good, good])
    write_rows(folder / "few" / "train.jsonl", [good, good, good])
    changes = {
        "bad line": ("--data", str(folder / "bad-line")),
        "mixed": ("--data", str(folder / "mixed")),
        "few": ("--data", str(folder / "few")),
        "rank": ("--set", "lora_parameters.rank=33"),
        "keys": ("--set", "lora_parameters.keys=[q_prj]"),
    }
    config = tiny.config("loading")
    lines = [["run", config, "--plain", *change] for change in changes.values()]
    outcome = run(json.dumps(lines), home=folder / "home", module="tests.cli.batch")
    found = [Outcome(**values) for values in json.loads(outcome.out)]
    return dict(zip(changes, found, strict=True))


@pytest.mark.parametrize(
    ("what", "parts"),
    [
        ("bad line", ("bad-line/train.jsonl, line 3: ", "not valid JSON")),
        ("mixed", ("mixed/train.jsonl, line 2: ", "is text, but line 1 is chat")),
        ("few", ("few/train.jsonl: 3 rows, fewer than the batch size of 4", "batch_size to 3")),
        ("rank", ("lora_parameters.rank: 33 is larger than", "smaller side is 16")),
        ("keys", ("no module is called ['q_prj']",)),
    ],
)
def test_what_only_shows_while_loading(
    refused_while_loading: dict[str, Outcome], what: str, parts: tuple[str, ...]
) -> None:
    outcome = refused_while_loading[what]
    assert_refused(outcome, "Error: ", *parts)
    assert outcome.out == "Failed at 0\n"


def test_hub_names_without_a_network(tiny: Tiny, tmp_path: Path) -> None:
    """The data is looked for first; with it here, the model is what is missing."""
    lines = [
        ["run", tiny.config("hub"), "--json", "--model", "someone/some-model"],
        ["run", tiny.config("hub"), "--json", "--data", "someone/some-rows"],
    ]
    home, cache = tmp_path / "home", tmp_path / "hub"
    began = time.monotonic()
    batch = run(
        json.dumps(lines),
        home=home,
        module="tests.cli.batch",
        HF_ENDPOINT=NOWHERE,
        HF_HOME=str(cache),
    )
    seconds = time.monotonic() - began
    model, data = (Outcome(**values) for values in json.loads(batch.out))
    assert_refused(model, "someone/some-model is not on this machine", "--model")
    assert_refused(data, "'someone/some-rows' is no folder here", "hub cannot be reached")
    assert model.events[-1]["exit_code"] == 2
    assert seconds < 30
