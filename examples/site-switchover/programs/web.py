"""What the programs of this folder have in common: JSON over HTTP, until they are told to end."""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def settings(path: Path) -> dict[str, str]:
    """``KEY=value`` lines of a file."""
    lines = path.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def ask(url: str, body: bytes | None = None, *, timeout: float = 2) -> Any:
    with urllib.request.urlopen(url, body, timeout=timeout) as answer:
        return json.load(answer)


class InFlight:
    """How many writes are being taken right now."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.count -= 1


class JsonHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send_json(self, status: int, value: object, more: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(value).encode(), "application/json", more)

    def send(
        self, status: int, body: bytes, kind: str, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **(more or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """No access log."""


def serve(handler: type[JsonHandler], port: int) -> None:
    """Until SIGTERM. ``PORT`` and ``BIND`` of the environment say where."""
    server = ThreadingHTTPServer(
        (os.environ.get("BIND", "0.0.0.0"), int(os.environ.get("PORT", port))), handler
    )
    server.daemon_threads = True
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.05)
