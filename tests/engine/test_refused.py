"""What the person gave and cannot be used: one message, exit code 2, and nothing written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from engine.runs import runs_folder
from tests.tiny import chat_row, make_tiny_model, write_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.engine.workshop import Finished, Workshop

GOOD = chat_row("What do you know of Rome?", "Rome is a town.")


def bad_line(folder: Path) -> dict[str, Any]:
    write_rows(folder / "train.jsonl", [GOOD, "{", GOOD, GOOD])
    return {"data": str(folder)}


def few_rows(folder: Path) -> dict[str, Any]:
    write_rows(folder / "train.jsonl", [GOOD] * 3)
    return {"data": str(folder)}


def nothing_to_train_on(folder: Path) -> dict[str, Any]:
    question = {"messages": [{"role": "user", "content": "Rome?"}]}
    write_rows(folder / "train.jsonl", [question] * 4)
    return {"data": str(folder), "mask_prompt": True}


def text_with_masked_prompts(folder: Path) -> dict[str, Any]:
    write_rows(folder / "train.jsonl", [{"text": "Rome."}] * 4)
    return {"data": str(folder), "mask_prompt": True}


def rows_beyond_the_model(folder: Path) -> dict[str, Any]:
    return {"model": str(make_tiny_model(folder, max_position_embeddings=16))}


def broken_weights(folder: Path) -> dict[str, Any]:
    make_tiny_model(folder)
    (folder / "model.safetensors").write_bytes(b"not weights at all")
    return {"model": str(folder)}


def unknown_architecture(folder: Path) -> dict[str, Any]:
    return {"model": str(make_tiny_model(folder, model_type="qwen2000"))}


def weights_of_another_size(folder: Path) -> dict[str, Any]:
    config = make_tiny_model(folder) / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 32', '"hidden_size": 64'))
    return {"model": str(folder)}


def no_such_model(folder: Path) -> dict[str, Any]:
    return {"model": str(folder / "missing")}


def no_such_adapters(folder: Path) -> dict[str, Any]:
    return {"resume_adapter_file": str(folder / "missing.safetensors")}


def adapters_that_are_none(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    (folder / "adapters.safetensors").write_bytes(b"not adapters at all")
    return {"resume_adapter_file": str(folder)}


def set_to(**changes: Any) -> Callable[[Path], dict[str, Any]]:
    return lambda _: changes


LORA = {"rank": 4, "scale": 10.0, "dropout": 0.0}
CASES: list[tuple[Callable[[Path], dict[str, Any]], str]] = [
    (bad_line, "train.jsonl, line 2: "),
    (few_rows, "3 rows, fewer than the batch size of 4"),
    (nothing_to_train_on, "no row has a token to train on"),
    (text_with_masked_prompts, "no prompt that could be masked"),
    (rows_beyond_the_model, "but the model has 16"),
    (broken_weights, "cannot be loaded"),
    (unknown_architecture, "cannot be loaded"),
    (weights_of_another_size, "cannot be loaded"),
    (no_such_model, "There is no model folder"),
    (no_such_adapters, "resume_adapter_file: "),
    (adapters_that_are_none, "resume_adapter_file: "),
    (set_to(num_layers=3), "num_layers: 3"),
    (set_to(test=True), "has no test rows"),
    (set_to(lora_parameters=LORA | {"rank": 17}), "lora_parameters.rank: 17 is larger than"),
    (set_to(lora_parameters=LORA | {"keys": ["q_prj"]}), "no module is called ['q_prj']"),
    (set_to(optimizer_config={"adam": {"beta": 1}}), "optimizer_config.adam"),
    (set_to(optimizer_config={"adam": {"betas": [2, 1]}}), "optimizer_config.adam"),
    (set_to(lr_schedule={"name": "cosine_decay", "arguments": []}), "lr_schedule.arguments: [] "),
]


def name_of(value: object) -> str | None:
    return (
        getattr(value, "__name__", "").replace("<lambda>", "setting") if callable(value) else None
    )


@pytest.mark.parametrize(("make", "words"), CASES, ids=name_of)
def test_it_is_said_and_nothing_is_written(
    make: Callable[[Path], dict[str, Any]], words: str, workshop: Workshop
) -> None:
    changes = make(workshop.folder / "given")
    before = sorted(workshop.folder.rglob("*"))
    published = workshop.folder / "published"
    run = workshop.run(**changes, adapter_path=str(published))
    assert (run.ended.status, run.ended.exit_code, run.ended.iteration) == ("failed", 2, 0)
    assert words in run.ended.reason
    assert run.session.exit_code == 2
    assert run.session.error is not None
    assert sorted(workshop.folder.rglob("*")) == before
    # Tokens already made are kept for the next try.
    assert not runs_folder().exists()


def test_adapters_of_another_shape(workshop: Workshop) -> None:
    first = workshop.run("first", iters=1, val_batches=0)
    adapters = str(first.directory.adapters)
    for changes in ({"lora_parameters": LORA | {"rank": 2}}, {"num_layers": 1}):
        run: Finished = workshop.run("second", resume_adapter_file=adapters, **changes)
        assert (run.ended.exit_code, run.directory.path.exists()) == (2, False)
        assert "not of this model and these lora_parameters" in run.ended.reason


def test_a_folder_for_runs_that_cannot_be_written(workshop: Workshop) -> None:
    """Looked at beforehand by the command line; here it turned bad in between."""
    (workshop.folder / "file").touch()
    run = workshop.run("file/run")
    assert (run.ended.status, run.ended.exit_code) == ("failed", 1)
    assert "cannot be written" in run.ended.reason
    assert "LORA_TUI_HOME" in run.ended.hint


def test_a_model_without_a_chat_template(workshop: Workshop) -> None:
    """Chat rows cannot be rendered; the message says what to do."""
    model = make_tiny_model(workshop.folder / "model")
    file = model / "tokenizer_config.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    del values["chat_template"]
    file.write_text(json.dumps(values), encoding="utf-8")
    run = workshop.run(model=str(model))
    assert (run.ended.status, run.ended.exit_code) == ("failed", 2)
    assert "template" in run.ended.reason
    assert not run.directory.path.exists()
