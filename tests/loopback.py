"""A service on the loopback that takes what Apprise posts as JSON."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Generator

SECRET = "s3cr3t-t0ken"
"""In every address of it, as user, path or both."""
PATIENCE = 60.0


class Service(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.got: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"json://person:{SECRET}@127.0.0.1:{self.server_port}/{SECRET}/"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        service = cast("Service", self.server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        service.may_answer.wait(PATIENCE)
        service.got.append(json.loads(body))
        self.send_response(service.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        del format, args


@contextmanager
def serving(status: int = 200) -> Generator[Service]:
    with Service(status) as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield service
        finally:
            service.may_answer.set()
            service.shutdown()
            thread.join()
