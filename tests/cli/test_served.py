"""mlx-lm's own generator and server take what a run leaves: the adapters, and the fused model."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

from engine.conversation import Sampling
from engine.use.chosen import choose
from engine.use.fuse import Fused, FuseOptions, fuse
from engine.use.generate import generate
from tests.cli.program import PATIENCE, environment, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.conversation import Message
    from tests.cli.conftest import Tiny

QUESTION, TOKENS = "What do you know of Rome?", 6
END_SECONDS = 20
"""How long a server may take to end."""


@pytest.fixture(scope="module")
def fused(home_of_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "fused"
    *_, made = fuse(
        choose(str(home_of_run / "runs" / "town")), folder, FuseOptions(), lambda: False
    )
    assert isinstance(made, Fused)
    return folder


@pytest.fixture(params=["adapters", "fused"])
def model_words(
    request: pytest.FixtureRequest, tiny: Tiny, home_of_run: Path, fused: Path
) -> tuple[str, ...]:
    """What mlx-lm's commands are told: base and adapters, or the fused model."""
    if request.param == "fused":
        return ("--model", str(fused))
    adapters = home_of_run / "runs" / "town" / "adapters"
    return ("--model", str(tiny.model), "--adapter-path", str(adapters))


@pytest.fixture(scope="module")
def expected(home_of_run: Path) -> str:
    """What our own generator answers."""
    chosen = choose(str(home_of_run / "runs" / "town"))
    asked: list[Message] = [{"role": "user", "content": QUESTION}]

    def said(*, is_base: bool) -> str:
        items = generate(chosen, asked, Sampling(TOKENS), lambda: False, is_base=is_base)
        return "".join(item for item in items if isinstance(item, str)).strip()

    answer = said(is_base=False)
    # The adapters are no silent no-op.
    assert answer != said(is_base=True)
    return answer


def mlx_lm(home: Path, *words: str) -> subprocess.Popen[str]:
    """Start one of mlx-lm's own commands, without a network."""
    return subprocess.Popen(
        [sys.executable, "-m", "mlx_lm", *words],
        env=environment(home, {"HF_HUB_OFFLINE": "1"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_mlx_lm_generates_the_same(
    model_words: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    words = ("--prompt", QUESTION, "--max-tokens", str(TOKENS), "--temp", "0")
    out, err = mlx_lm(tmp_path, "generate", *model_words, *words).communicate(timeout=PATIENCE)
    assert out.split("==========")[1].strip() == expected, err


@pytest.fixture
def server(model_words: tuple[str, ...], tmp_path: Path) -> Iterator[str]:
    """mlx-lm's server on a port of this machine alone; it ends when it is asked to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ("--host", "127.0.0.1", "--port", str(port))
    process = mlx_lm(tmp_path, "server", *model_words, *words)
    try:
        assert process.stderr is not None
        list(until(process.stderr, "Starting httpd"))
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=END_SECONDS)
    finally:
        process.kill()
        process.communicate()


def test_mlx_lms_server_answers_the_same(server: str, expected: str) -> None:
    asked = {
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": TOKENS,
        "temperature": 0,
    }
    request = urllib.request.Request(
        f"{server}/v1/chat/completions",
        json.dumps(asked).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        said = json.loads(answer.read())["choices"][0]["message"]["content"]
    assert said.strip() == expected
