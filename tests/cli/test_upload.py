"""An upload sends what others need, to a hub on this machine, and only when told to."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.program import NOWHERE, run

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.cli.program import Outcome


class Hub(http.server.ThreadingHTTPServer):
    """Takes a commit as the Hugging Face hub does, with every file inside it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Takes)
        self.asked: list[str] = []
        self.made: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Takes(http.server.BaseHTTPRequestHandler):
    @property
    def hub(self) -> Hub:
        assert isinstance(self.server, Hub)
        return self.server

    def do_GET(self) -> None:
        self._answer({"id": "me/town", "siblings": [], "sha": "0" * 40})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(self.path)
        if self.path.endswith("/repos/create"):
            self.hub.made = json.loads(body)
            self._answer({"url": f"{self.hub.address}/me/town", "id": "me/town"})
        elif "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    self.hub.files[entry["value"]["path"]] = content
            self._answer(
                {"commitUrl": f"{self.hub.address}/me/town/commit/0", "commitOid": "0" * 40}
            )
        else:
            self._answer({"errors": [], "warnings": []})

    def _answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@contextmanager
def hub() -> Generator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """What ``mlx_lm.lora`` leaves."""
    folder = tmp_path / "adapters"
    folder.mkdir()
    settings = {
        "model": str(tmp_path / "secret" / "town-base"),
        "data": str(tmp_path / "secret" / "rows"),
        "adapter_path": str(folder),
        "lora_parameters": {"rank": 8, "scale": 20.0, "dropout": 0.0},
        "num_layers": 4,
        "fine_tune_type": "lora",
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    header = b"{}      "
    (folder / "adapters.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (folder / "notes.txt").write_text("mine")
    return folder


def test_what_others_need_is_sent(adapter: Path, tmp_path: Path) -> None:
    with hub() as server:
        words = ("upload", str(adapter), "me/town", "--private", "--yes")
        settings = {"HF_ENDPOINT": server.address, "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_XET": "1"}
        outcome = run(*words, home=tmp_path / "home", **settings)
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip() == f"{server.address}/me/town"
    assert server.made["visibility"] == "private"
    assert sorted(server.files) == ["README.md", "adapter_config.json", "adapters.safetensors"]
    assert server.files["adapters.safetensors"] == (adapter / "adapters.safetensors").read_bytes()
    sent = b"".join(server.files.values()).decode()
    assert str(tmp_path) not in sent
    assert json.loads(server.files["adapter_config.json"])["model"] == "town-base"


def test_nothing_is_sent_without_a_word(call: Callable[..., Outcome], adapter: Path) -> None:
    outcome = call("upload", str(adapter), "me/town")
    assert outcome.code == 2
    assert "add --yes" in outcome.err


def test_a_hub_that_is_not_there_is_one_message(adapter: Path, tmp_path: Path) -> None:
    settings = {"HF_ENDPOINT": NOWHERE, "HF_TOKEN": "hf_test"}
    outcome = run("upload", str(adapter), "me/town", "--yes", home=tmp_path / "home", **settings)
    assert outcome.code == 1
    assert "The upload failed" in outcome.err
    assert "Traceback" not in outcome.err
