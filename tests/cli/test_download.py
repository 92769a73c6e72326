"""A run whose model and data come from the hub, from the command line to its config."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import yaml

from tests.cli.program import finish, run, spawn, until
from tests.hub_server import Fault, hub_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Tiny

MODEL, DATA = "maker/tiny-model", "maker/tiny-chats"


def test_a_run_fetches_goes_on_where_it_was_stopped_and_keeps_its_commits(
    tiny: Tiny, tmp_path: Path
) -> None:
    home, asked = tmp_path / "home", tiny.config("hub", model=MODEL, data=DATA, iters=2)
    with hub_server() as hub:
        model, data = hub.put("model", MODEL, tiny.model), hub.put("dataset", DATA, tiny.data)
        # What sets the environment of the whole test session must not send it elsewhere.
        environment = {
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "",
            "HF_DATASETS_OFFLINE": "",
            "HF_TOKEN": "",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        hub.faults.append(Fault("/cdn/", cut_after=8192, gate=threading.Event()))
        process = spawn("run", asked, "--plain", home=home, **environment)
        assert process.stderr is not None
        list(until(process.stderr, "downloading tiny-model and tiny-chats: "))
        hub.wait_for_content(8192)
        process.send_signal(signal.SIGINT)
        assert finish(process).code == 128 + signal.SIGINT
        outcome = run("run", asked, "--plain", home=home, **environment)
        assert hub.ranges_of("model.safetensors") == [None, "bytes=8192-"]
    assert outcome.code == 0, outcome.err
    assert "Saved at 2 (final)" in outcome.out
    said = [line for line in outcome.err.splitlines() if line.startswith("downloading")]
    assert 1 <= len(said) <= 3
    assert "left" in said[-1] or " of " in said[-1]
    assert "%|" not in outcome.err, "a library drew a bar"
    (written,) = home.glob("runs/*/config.yaml")
    config = yaml.safe_load(written.read_text(encoding="utf-8"))
    assert (config["revision"], config["data_revision"]) == (model, data)
    journal = (written.parent / "events.jsonl").read_text(encoding="utf-8")
    assert model in journal
    # The hub is gone: a longer run goes on with what is here.
    again = run(
        "run", "--resume", "--plain", "--set", "iters=3", home=home,
        **environment, OPENBLAS_NUM_THREADS="1",
    )  # fmt: skip
    assert again.code == 0, again.err
    assert "Saved at 3 (final)" in again.out
