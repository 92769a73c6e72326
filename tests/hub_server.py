"""A hub on this machine that speaks as much of the protocol as downloads need, and misbehaves."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

LARGE_BYTES = 20_000
"""What is kept as a large file, behind a redirect and by its SHA-256."""
_PAGE = 3
"""Files on a page of a listing: so few that every listing has several."""
_CHUNK = 4096


@dataclass
class Asked:
    """A request that the hub got."""

    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class Fault:
    """What the hub does to the next requests whose path has a text in it."""

    where: str
    times: int = 1
    status: int = 0
    """Answer with this instead."""
    code: str = ""
    """Its ``X-Error-Code``."""
    cut_after: int | None = None
    """Close the connection after this many bytes of a file."""
    gate: threading.Event | None = None
    """With ``cut_after``: wait for this instead, as a line that brings nothing does."""
    ignores_range: bool = False
    answer: Callable[[bytes], bytes] | None = None
    """Send something else than the content."""


@dataclass
class HubServer:
    """What a hub holds, what it was asked, and what it does wrong."""

    address: str = ""
    repos: dict[str, dict[str, dict[str, bytes]]] = field(
        default_factory=dict[str, dict[str, dict[str, bytes]]]
    )
    """Of each ``models/owner/name`` its commits, the newest last, and of those their files."""
    faults: list[Fault] = field(default_factory=list[Fault])
    asked: list[Asked] = field(default_factory=list[Asked])
    chunk_gate: Callable[[int], None] | None = None
    """Called before every chunk of a file with how much was sent: makes a slow line."""

    def put(self, kind: str, name: str, files: dict[str, bytes] | Path) -> str:
        """Push a commit, and return it."""
        if not isinstance(files, dict):
            folder = files
            files = {
                path.relative_to(folder).as_posix(): path.read_bytes()
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            }
        commits = self.repos.setdefault(f"{kind}s/{name}", {})
        commit = hashlib.sha1(repr((name, len(commits), sorted(files))).encode()).hexdigest()
        commits[commit] = files
        return commit

    def files_asked(self) -> list[str]:
        """The names of the files whose content was asked for, in order."""
        return [_NAME.sub("", a.path) for a in self.asked if _NAME.search(a.path)]

    def ranges_of(self, name: str) -> list[str | None]:
        """From where a large file was asked for, each time."""
        return [a.range for a in self.asked if a.path.startswith("/cdn/") and a.path.endswith(name)]

    def fault_at(self, path: str) -> Fault | None:
        """Take the fault that this request meets."""
        for fault in self.faults:
            if fault.where in path and fault.times > 0:
                fault.times -= 1
                return fault
        return None


_NAME = re.compile(r"^.*/resolve/[0-9a-f]{40}/")


def digest_of(content: bytes) -> str:
    """What the hub calls a file by."""
    if len(content) >= LARGE_BYTES:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def hub_server() -> Generator[HubServer]:
    """Run a hub until the block ends."""
    hub = HubServer()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            for fault in hub.faults:
                if fault.gate:
                    fault.gate.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """One connection to the hub."""

    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer that the hub is there."""
        self._send(200, b"")

    def do_GET(self) -> None:
        """Answer for a listing or a file."""
        url = urlsplit(self.path)
        path = unquote(url.path)
        headers = self.headers
        self.hub.asked.append(
            Asked("GET", path, headers.get("Range"), headers.get("Authorization"))
        )
        fault = self.hub.fault_at(path)
        if fault and fault.status:
            self._send(fault.status, b"{}", {"X-Error-Code": fault.code} if fault.code else {})
        elif match := re.fullmatch(r"/api/((?:model|dataset)s/[^/]+/[^/]+)/revision/(.+)", path):
            self._revision(match[1], match[2])
        elif match := re.fullmatch(r"/api/((?:model|dataset)s/[^/]+/[^/]+)/tree/(\w+)", path):
            self._tree(match[1], match[2], int(parse_qs(url.query).get("cursor", ["0"])[0]))
        elif match := re.fullmatch(r"/(?:cdn/)?(datasets/)?([^/]+/[^/]+)/resolve/(\w+)/(.+)", path):
            files = self.hub.repos[f"{match[1] or 'models/'}{match[2]}"][match[3]]
            self._file(path, files.get(match[4]), fault)
        else:
            self._send(404, b"{}")

    def _revision(self, repo: str, revision: str) -> None:
        commits = self.hub.repos.get(repo)
        if commits is None:
            self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        commit = list(commits)[-1] if revision == "main" else revision
        if commit not in commits:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        self._send_json({"id": repo.partition("/")[2], "sha": commit})

    def _tree(self, repo: str, commit: str, begin: int) -> None:
        files = self.hub.repos.get(repo, {}).get(commit)
        if files is None:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        entries: list[dict[str, Any]] = [{"type": "directory", "path": "x", "oid": "0", "size": 0}]
        for path, content in sorted(files.items()):
            size, oid = len(content), digest_of(content)
            entry: dict[str, Any] = {"type": "file", "path": path, "size": size, "oid": oid}
            if size >= LARGE_BYTES:
                # What git has of a large file is a note of where it is.
                entry["oid"] = "0" * 40
                entry["lfs"] = {"oid": oid, "size": size, "pointerSize": 1}
            entries.append(entry)
        end = begin + _PAGE
        address = f"{self.hub.address}/api/{repo}/tree/{commit}?recursive=true&cursor={end}"
        more = {"Link": f'<{address}>; rel="next"'} if end < len(entries) else {}
        self._send_json(entries[begin:end], more)

    def _file(self, path: str, content: bytes | None, fault: Fault | None) -> None:
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        if len(content) >= LARGE_BYTES and not path.startswith("/cdn/"):
            elsewhere = self.hub.address.replace("127.0.0.1", "localhost")
            self._send(302, b"", {"Location": f"{elsewhere}/cdn{path}"})
            return
        if fault and fault.answer:
            content = fault.answer(content)
        begin, status, headers = 0, 200, dict[str, str]()
        asked = self.headers.get("Range")
        if asked and not (fault and fault.ignores_range):
            begin, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            headers = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
        self._stream(status, content[begin:], headers, fault)

    def _stream(
        self, status: int, content: bytes, headers: dict[str, str], fault: Fault | None
    ) -> None:
        self._head(status, len(content), headers)
        cut = fault.cut_after if fault else None
        end = len(content) if cut is None else min(cut, len(content))
        for at in range(0, end, _CHUNK):
            if self.hub.chunk_gate:
                self.hub.chunk_gate(at)
            try:
                self.wfile.write(content[at : min(end, at + _CHUNK)])
            except OSError:
                return
        if cut is not None and end < len(content):
            if fault and fault.gate:
                fault.gate.wait()
            self.close_connection = True

    def _send_json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(value).encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self._head(status, len(body), headers or {})
        self.wfile.write(body)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
