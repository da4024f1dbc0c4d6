"""What the doubles of providers' APIs share: a server on 127.0.0.1, faults, a log of requests.

A double is no mock: it holds a zone and enforces the rules that the provider documents. Its state
can be changed from outside, as another person would, by :meth:`Double.put`.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from runbook.model.dns import RRset


class Double(ABC):
    """Serves :meth:`answer`; every request is handled alone, one after the other.

    ``lose``: the next change is carried out (``"after"``) or not (``"before"``) and the
    connection is then cut without an answer. ``status``: the next change gets this instead.
    ``meanwhile`` is called once, right before the next change is looked at.
    """

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []
        self.lose: str = ""
        self.status = 0
        self.meanwhile: Callable[[], None] | None = None
        self._lock = threading.RLock()
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                double._handle(self, "GET")

            def do_PATCH(self) -> None:
                double._handle(self, "PATCH")

            def do_POST(self) -> None:
                double._handle(self, "POST")

            def log_message(self, *args: object) -> None:
                """Nothing is printed; ``log`` holds the requests."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @abstractmethod
    def answer(
        self, method: str, path: str, query: dict[str, str], body: bytes, headers: Any
    ) -> tuple[int, str, bytes]:
        """(status, content type, body). A status from 400 on has changed nothing."""

    @abstractmethod
    def put(self, rrset: RRset) -> None:
        """Set a record set, past the API."""

    def fill(self, records: Iterable[RRset]) -> None:
        for one in records:
            self.put(one)

    def changes(self) -> int:
        return sum(method != "GET" for method, _ in self.log)

    def _handle(self, request: BaseHTTPRequestHandler, method: str) -> None:
        parts = urlsplit(request.path)
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            changing = method != "GET"
            self.log.append((method, request.path))
            if changing and self.meanwhile is not None:
                once, self.meanwhile = self.meanwhile, None
                once()
            lose, self.lose = (self.lose, "") if changing else ("", self.lose)
            status, self.status = (self.status, 0) if changing else (0, self.status)
            if lose == "before":
                request.close_connection = True
                return
            if status:
                found = (status, "text/plain", b"not now")
            else:
                query = dict(parse_qsl(parts.query))
                found = self.answer(method, parts.path, query, body, request.headers)
        if lose == "after":
            request.close_connection = True
            return
        request.send_response(found[0])
        request.send_header("Content-Type", found[1])
        request.send_header("Content-Length", str(len(found[2])))
        request.end_headers()
        request.wfile.write(found[2])


def as_json(status: int, data: Any) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(data).encode()
