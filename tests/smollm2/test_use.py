"""The proof of use: a real model learns a voice, and everything that uses it shows so.

Two to five minutes, so only where ``LORA_TUI_PROOF`` is set:

    LORA_TUI_PROOF=1 uv run pytest tests/smollm2/test_use.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from engine import events as ev
from engine.config import validate
from engine.conversation import SIDES, Answered, Conversation, Piece, Ready, Sampling
from engine.runs import RunDirectory
from engine.session import Session
from engine.use.chosen import choose
from engine.use.talk import Talk
from tests.cli.program import environment, run
from tests.e2e.test_use import WITH_FAST_BLAS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.skipif("LORA_TUI_PROOF" not in os.environ, reason="takes minutes"),
    pytest.mark.timeout(600),
]
PROMPT = "What did you do last weekend?"
STYLE = Path(__file__).parents[1] / "data" / "style"


@pytest.fixture(scope="module")
def trained(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Session:
    config = validate(
        {
            "model": str(smollm2),
            "data": str(STYLE),
            "iters": 27,
            "batch_size": 4,
            "max_seq_length": 96,
            "mask_prompt": True,
            "optimizer": "adamw",
            "learning_rate": 5e-4,
            "num_layers": -1,
            "lora_parameters": {"rank": 8, "scale": 4.0, "dropout": 0.0},
            "steps_per_eval": 9,
            "save_every": 9,
            "test": True,
            "sample_prompts": [PROMPT],
            "sample_max_tokens": 20,
        }
    )
    session = Session(config, RunDirectory(tmp_path_factory.mktemp("proof") / "style"))
    session.start()
    assert session.join(500)
    assert session.exit_code == 0, session.events[-1]
    return session


def named(session: Session, at: str = "") -> str:
    return f"{session.directory.path}{at}"


def test_it_is_heard_to_learn(trained: Session) -> None:
    said = {e.iteration: e.text for e in trained.events if isinstance(e, ev.Sampled) and not e.base}
    base = [e.text for e in trained.events if isinstance(e, ev.Sampled) and e.base]
    print(base, said)
    assert not base[0].startswith("Arr!")
    assert said[27].startswith("Arr!")
    assert said[27].endswith("matey.")
    losses = [e.val_loss for e in trained.events if isinstance(e, ev.Evaluated)]
    print(losses)
    assert losses[-1] < 0.6 * losses[0]
    plan = next(e.plan.peak for e in trained.events if isinstance(e, ev.Started))
    peaks = [e.memory.peak for e in trained.events if isinstance(e, (ev.Step, ev.Sampled))]
    print("planned", plan, "taken", max(peaks))
    assert max(peaks) <= 1.12 * plan


def test_chat_shows_both_voices(trained: Session) -> None:
    talk = Talk(choose(named(trained)))
    talk.start()
    conversation = Conversation()
    conversation.say(PROMPT)
    talk.ask(conversation, SIDES, Sampling(max_tokens=16))
    until = time.monotonic() + 100
    while sum(isinstance(e, Answered) for e in talk.events) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    talk.close()
    assert any(isinstance(e, Ready) for e in talk.events)
    said = {
        side: "".join(e.text for e in talk.events if isinstance(e, Piece) and e.side == side)
        for side in SIDES
    }
    print(said)
    assert said["adapter"].startswith("Arr!")
    assert not said["base"].startswith("Arr!")


def test_held_out_rows_and_the_best_checkpoint(trained: Session, tmp_path: Path) -> None:
    words = ("compare", named(trained, "@9"), named(trained, "@27"), "--json")
    compared = json.loads(run(*words, home=tmp_path).out)
    print(json.dumps(compared, indent=1))
    (tested,) = (e for e in trained.events if isinstance(e, ev.Tested))
    base = json.loads(run("evaluate", named(trained), "--base", "--json", home=tmp_path).out)
    assert tested.perplexity < 0.5 * base["perplexity"]
    of_test = compared["runs"][1]["scores"]["test rows"]
    assert of_test["loss"] == pytest.approx(tested.test_loss, rel=1e-4)


@pytest.fixture(scope="module")
def fused(trained: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("fused")
    words = ("fuse", named(trained), "--save-path", str(home / "model"), "--dtype", "float32")
    outcome = run(*words, "--export-gguf", "--json", home=home)
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    print(found)
    assert found["difference"] < 1e-3
    return home / "model"


def test_the_fused_models_logits_are_base_and_adapters(trained: Session, fused: Path) -> None:
    import mlx.core as mx
    import mlx_lm

    from engine.use.chosen import base_files
    from engine.use.wardrobe import Wardrobe

    chosen = choose(named(trained))
    wardrobe = Wardrobe.load(chosen.config, base_files(chosen))
    wardrobe.put_on(chosen)
    tokens = mx.array([wardrobe.tokenizer.encode("Ahoy, what a fine day to write a letter.")])
    ours = np.array(wardrobe.model(tokens))
    theirs = np.array(mlx_lm.load(str(fused))[0](tokens))
    difference = float(np.abs(ours - theirs).max())
    print("largest difference", difference, "of", float(np.abs(ours).max()))
    assert difference < 1e-3
    assert list(fused.glob("*.gguf"))


def mlx_lm_words(*words: str) -> list[str]:
    return [sys.executable, "-c", WITH_FAST_BLAS, *words]


def test_mlx_lm_generates_with_both(trained: Session, fused: Path, tmp_path: Path) -> None:
    base = trained.config.model
    both = (
        ("--model", base, "--adapter-path", str(trained.directory.adapters)),
        ("--model", str(fused)),
    )
    for words in both:
        done = subprocess.run(
            mlx_lm_words("generate", *words, "--prompt", PROMPT, "--max-tokens", "12"),
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert "Arr!" in done.stdout, done.stderr


@pytest.fixture
def served(trained: Session, tmp_path: Path) -> Iterator[str]:
    """mlx-lm's server with base and adapter."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ("--model", trained.config.model, "--adapter-path", str(trained.directory.adapters))
    process = subprocess.Popen(
        mlx_lm_words("server", *words, "--port", str(port)),
        env=environment(tmp_path, {"HF_HUB_OFFLINE": "1"}),
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            break
        except OSError:
            time.sleep(0.2)
    yield address
    process.terminate()
    process.wait(20)


def test_mlx_lms_server_serves_it(served: str) -> None:
    body = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 12, "temperature": 0}
    request = urllib.request.Request(
        f"{served}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        said = json.loads(answer.read())["choices"][0]["message"]["content"]
    assert said.startswith("Arr!")
