"""Commands that use what was trained: data on stdout, words on stderr, one message when refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.events import Paused, to_json
from engine.lock import RunLock
from tests.cli.program import PATIENCE, environment, spawn
from tui.cli_use import _Teller as teller  # pyright: ignore[reportPrivateUsage]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.program import Outcome


@pytest.fixture
def use(
    call: Callable[..., Outcome], home_of_run: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Calls the command line in this process, with that home."""
    monkeypatch.setenv("LORA_TUI_HOME", str(home_of_run))
    return call


def test_an_answer_goes_to_stdout(use: Callable[..., Outcome], home_of_run: Path) -> None:
    outcome = use("generate", "town@best", "What do you know of Rome?", "--max-tokens", "5")
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip()
    assert "loading model…" in outcome.err
    assert "tokens, " in outcome.err
    done = subprocess.run(
        [sys.executable, "-m", "tui", "generate", "town", "--max-tokens", "5"],
        input="What do you know of Rome?\n",
        env=environment(home_of_run),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stdout == outcome.out


def test_ctrl_c_in_the_middle_of_an_answer(home_of_run: Path) -> None:
    words = ("generate", "town", "Rome?", "--max-tokens", "100000", "--temperature", "1.5")
    # A longer context than the model was made for would end the answer.
    process = spawn(*words, home=home_of_run, PYTHONUNBUFFERED="1")
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    # Short contexts end quickly: either it was stopped, or it was over by then.
    assert process.returncode in (130, 0)
    assert "Traceback" not in err
    if process.returncode == 130:
        assert "Stopped in the middle of the answer." in err


def test_it_is_measured_and_compared(use: Callable[..., Outcome]) -> None:
    measured = json.loads(use("evaluate", "town", "--json").out)
    assert measured["split"] == "validation rows"
    assert measured["loss_low"] <= measured["loss"] <= measured["loss_high"]
    in_words = use("evaluate", "town", "--base").out
    assert "model (base): loss" in in_words
    compared = use("compare", "town@3", "town")
    assert compared.code == 0, compared.err
    assert "Best by validation rows: town@6." in compared.out
    assert "The settings are the same." in compared.out
    assert "  a  town  0: " in compared.out


def test_it_is_fused_once(use: Callable[..., Outcome], home_of_run: Path) -> None:
    outcome = use("fuse", "town", "--json")
    assert outcome.code == 0, outcome.err
    fused = json.loads(outcome.out)
    assert fused["path"] == str(home_of_run / "runs" / "town" / "fused-6")
    assert fused["difference"] < 1e-3
    again = use("fuse", "town")
    assert again.code == 2
    assert again.err.startswith("Error: ")
    assert "exists already" in again.err


def test_ctrl_c_in_the_middle_of_a_fuse(
    use: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = teller.takes

    def interrupted(self: teller, item: object) -> bool:
        if "writing" in getattr(item, "message", ""):
            raise KeyboardInterrupt
        return real(self, item)

    monkeypatch.setattr(teller, "takes", interrupted)
    outcome = use("fuse", "town", "--save-path", str(tmp_path / "made" / "fused"))
    assert (outcome.code, outcome.out) == (130, "")
    assert "Stopped. Nothing was written." in outcome.err
    assert not list((tmp_path / "made").iterdir())


def test_where_a_run_is(use: Callable[..., Outcome], home_of_run: Path) -> None:
    lines = [line.split(maxsplit=1) for line in use("where", "town").out.splitlines()]
    folder = home_of_run / "runs" / "town"
    assert ["adapters", str(folder / "adapters")] in lines
    assert ["checkpoint", str(folder / "adapters" / "0000003_adapters.safetensors")] in lines
    assert ["card", str(folder / "adapters" / "README.md")] in lines
    assert (folder / "adapters" / "README.md").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("generate", "nothing", "hi"), "there is no run 'nothing'"),
        (("generate", "town@5", "hi"), "town has no checkpoint at 5."),
        (("generate", "town", " "), "The prompt is empty."),
        (("generate", "town", "hi", "--model", "./gone"), "The base model of town@6 is not there"),
        (("fuse", "town", "--export-gguf"), "llama, mixtral, mistral only, and this is qwen2"),
        (("fuse", "town", "--dequantize"), "is not quantised"),
        (("evaluate", "town", "--split", "test"), "has no test rows to measure on"),
        (("compare", "town"), "There is nothing to compare with."),
        (("chat", "town"), "A chat needs a terminal."),
    ],
)
def test_what_cannot_be_is_one_message(
    use: Callable[..., Outcome], words: tuple[str, ...], said: str
) -> None:
    outcome = use(*words)
    assert outcome.code == 2
    assert outcome.out == ""
    assert said in outcome.err
    assert "Traceback" not in outcome.err


def test_runs_by_their_loss(use: Callable[..., Outcome]) -> None:
    listed = json.loads(use("runs", "--sort", "loss", "--json").out)
    losses = [one["val_loss"] for one in listed]
    assert losses == sorted(losses)


@pytest.fixture
def training(home_of_run: Path) -> Iterator[str]:
    """Another run in that home, which somebody trains."""
    folder = home_of_run / "runs" / "busy"
    shutil.copytree(home_of_run / "runs" / "town", folder)
    journal = folder / "events.jsonl"
    whole = journal.read_text()
    journal.write_text(whole[: whole.rindex('{"event": "ended"')])
    lock = RunLock(folder / "run.lock")
    lock.acquire()
    yield folder.name
    lock.release()
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "words",
    [
        ("generate", "town", "Rome?", "--max-tokens", "2"),
        ("evaluate", "town", "--rows", "1"),
        ("compare", "town@3", "town", "--rows", "1"),
        ("fuse", "town"),
    ],
)
def test_what_is_loaded_beside_a_run_in_training_is_said(
    use: Callable[..., Outcome],
    training: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
) -> None:
    """Scripts are only told; a person is asked, and no is an answer."""
    words += ("--save-path", str(tmp_path / "fused")) if words[0] == "fuse" else ()
    outcome = use(*words)
    assert outcome.code == 0, outcome.err
    said = f"Warning: {training} is training on this machine. This loads a model beside it, about "
    assert outcome.err.startswith(said)
    assert outcome.out
    monkeypatch.setattr("tui.terminal.has_person", lambda: True)
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    refused = use(*words)
    assert (refused.code, refused.out) == (0, "")
    assert "Nothing was loaded." in refused.err
    assert "loading" not in refused.err


def test_a_run_that_stands_still_is_nothing_to_warn_of(
    use: Callable[..., Outcome], training: str, home_of_run: Path
) -> None:
    paused = Paused(time=1.0, iteration=6, reason="asked")
    with (home_of_run / "runs" / training / "events.jsonl").open("a") as journal:
        journal.write(f"{to_json(paused)}\n")
    assert "Warning" not in use("generate", "town", "Rome?", "--max-tokens", "2").err
