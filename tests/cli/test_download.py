"""A run whose model and data come from the hub, from the command line to its config."""

from __future__ import annotations

import io
import json
import signal
import threading
from typing import TYPE_CHECKING

import yaml

from engine.events import Progress
from tests.cli.program import finish, run, spawn
from tests.hub_server import Fault, hub_server
from tui.cli_run import Asked, prepare
from tui.plain import PlainLines

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
            "no_proxy": "127.0.0.1,localhost",
        }
        hub.faults.append(Fault("/cdn/", cut_after=8192, gate=threading.Event()))
        process = spawn("run", asked, "--json", home=home, **environment)
        assert process.stdout is not None
        lines = (json.loads(line) for line in process.stdout)
        next(line for line in lines if line.get("done", 0) > 8192)
        process.send_signal(signal.SIGINT)
        assert finish(process).code == 128 + signal.SIGINT
        outcome = run("run", asked, "--plain", home=home, **environment)
        assert hub.ranges_of("model.safetensors") == [None, "bytes=8192-"]
    assert outcome.code == 0, outcome.err
    assert "Saved at 2 (final)" in outcome.out
    said = [line for line in outcome.err.splitlines() if line.startswith("downloading")]
    assert 1 <= len(said) <= 3
    assert said[-1].startswith("downloading tiny-model and tiny-chats: ")
    assert "%|" not in outcome.err, "a library drew a bar"
    (written,) = home.glob("runs/*/config.yaml")
    config = yaml.safe_load(written.read_text(encoding="utf-8"))
    assert (config["revision"], config["data_revision"]) == (model, data)
    journal = (written.parent / "events.jsonl").read_text(encoding="utf-8")
    assert model in journal
    # The hub is gone: a longer run goes on with what is here.
    again = run("run", "--resume", "--plain", "--set", "iters=3", home=home, **environment)
    assert again.code == 0, again.err
    assert "Saved at 3 (final)" in again.out


def test_another_model_has_commits_of_its_own(tiny: Tiny) -> None:
    source = tiny.config("pinned", revision="a" * 40, data_revision="b" * 40)
    config, _ = prepare(Asked(source, model=str(tiny.model)))
    assert (config.revision, config.data_revision) == (None, "b" * 40)
    config, _ = prepare(Asked(source, data=str(tiny.data), settings=("data_revision=v1",)))
    assert (config.revision, config.data_revision) == ("a" * 40, "v1")


def test_a_download_is_a_line_every_ten_seconds() -> None:
    out, aside = io.StringIO(), io.StringIO()
    lines = PlainLines(out, aside, 10)
    for tick in range(100):
        lines.take(
            Progress(
                time=tick / 4, stage="download", message="downloading x", done=tick * 10**6,
                total=99 * 10**6, per_second=4e6, seconds_left=25 - tick / 4,
                trouble="the connection broke" if tick == 50 else "",
            )
        )  # fmt: skip
    said = aside.getvalue().splitlines()
    assert said[0] == "downloading x: 0.00 of 99.0 MB, 4.00 MB/s, 25 s left"
    assert said[1] == "downloading x: 40.0 of 99.0 MB, 4.00 MB/s, 15 s left"
    assert said[2] == "downloading x: the connection broke"
    assert said[-1] == "downloading x: 99.0 of 99.0 MB, 4.00 MB/s, 0 s left"
    assert len(said) <= 6
    assert not out.getvalue()
