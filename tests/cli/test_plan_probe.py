"""``plan --probe``: the model is loaded and measured; a run's traces are not left."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.errors import DownloadNeededError
from engine.machine import host_name, remember
from engine.planning import make_plan
from engine.rehearsal import Rehearsed
from tests.cli.program import PATIENCE, run, spawn, until
from tests.engine.test_planning import FULL, MAC, MAXIMUM
from tests.hub_server import Fault, hub_server
from tests.tui import scripted
from tui import cli_probe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engine.config import RunConfig
    from tests.cli.conftest import Tiny
    from tests.cli.program import Outcome


@pytest.fixture
def mac(home: Path) -> Path:
    """A home in which this machine is known as a small Mac."""
    remember(replace(MAC, measured=time.time(), host=host_name()))
    return home


@pytest.mark.usefixtures("mac")
def test_planned_stands_beside_probed(call: Callable[..., Outcome], tiny: Tiny) -> None:
    outcome = call("plan", tiny.config(), "--probe")
    assert outcome.code == 0, outcome.err
    assert "trying the widest step…" in outcome.err
    rows = {line[:14].strip(): line[14:].split() for line in outcome.out.splitlines()}
    assert rows[""] == ["planned", "probed"]
    assert rows["adapters"][:2] == rows["adapters"][2:]
    # How much it differs depends on what MLX still holds of other tests.
    assert re.search(r"GB, (as planned|\d+ % (over|under) the plan)$", " ".join(rows["peak"]))
    assert "tried     the widest step, twice: 4 × " in outcome.out
    assert "s for the widest step" in outcome.out
    assert not [path for path in outcome.files if "/runs" in path]
    values = json.loads(call("plan", tiny.config(), "--probe", "--json").out)
    probe = values["probe"]
    assert probe["memory"]["base"] == values["memory"]["base"]
    assert probe["memory"]["peak"] - probe["memory"]["data"] == probe["peak"] > 0
    assert 0 < probe["seconds"]["low"] < probe["seconds"]["high"]
    assert values["lengths"] == "tokens counted"


@pytest.mark.parametrize(
    ("share", "words"),
    [(1.0, "as planned"), (1.004, "as planned"), (1.12, "12 % over the plan"),
     (0.94, "6 % under the plan")],
)  # fmt: skip
def test_the_peak_is_said_as_a_share_of_the_plan(share: float, words: str) -> None:
    plan = make_plan(MAXIMUM, MAC, lengths=FULL)
    assert plan.seconds is not None
    measured = replace(plan.memory, other=0, base=0)
    measured = replace(measured, base=round(share * plan.memory.peak) - measured.peak)
    probed = replace(scripted.probed(0.0), plan=measured, micro_batch=plan.micro_batch)
    found = Rehearsed(probed, plan.seconds, (2048,), plan.budget, plan.step, plan.step_reason)
    *_, peak = cli_probe.compared(plan, found, {"base": "weights"})
    assert peak.endswith(f"of 5.15 GB, {words}")


def test_ctrl_c_leaves_nothing(tiny: Tiny, mac: Path) -> None:
    process = spawn("plan", tiny.config(), "--probe", home=mac)
    assert process.stderr is not None
    list(until(process.stderr, "reading the data"))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert not (mac / "runs").exists()


def test_what_is_not_here_is_said_and_not_downloaded(tiny: Tiny, tmp_path: Path, mac: Path) -> None:
    # A plan knows what this is without the hub; there it is a tiny one.
    name = "Qwen/Qwen2.5-0.5B-Instruct"
    with hub_server() as hub:
        hub.put("model", name, tiny.model)
        hub.faults.append(Fault("/cdn/", cut_after=8192, gate=threading.Event()))
        environment = {
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "",
            "HF_TOKEN": "",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
        outcome = run("plan", tiny.config("hub", model=name), "--probe", home=mac, **environment)
    assert (outcome.code, outcome.out) == (2, "")
    assert "downloading Qwen2.5-0.5B-Instruct would take " in outcome.err
    assert "Leave out --probe: a run downloads it when it begins." in outcome.err


@pytest.mark.usefixtures("mac")
def test_a_person_is_asked_before_a_download(
    call: Callable[..., Outcome], tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[bool] = []

    def rehearse(_config: RunConfig, *, may_download: bool) -> None:
        allowed.append(may_download)
        raise DownloadNeededError("downloading maker/model would take 2.5 GB.", 2_500_000_000)

    monkeypatch.setattr(cli_probe, "_rehearsed", rehearse)
    refused = call("plan", tiny.config(), "--probe")
    assert (refused.code, refused.out, allowed) == (2, "", [False])
    assert "would take 2.5 GB.\nLeave out --probe" in refused.err
    monkeypatch.setattr(cli_probe, "has_person", lambda: True)
    monkeypatch.setattr("click.confirm", lambda *_, **__: True)
    call("plan", tiny.config(), "--probe")
    assert allowed == [False, False, True]
