"""A small shop: pages, style and script files, and orders kept in SQLite.

    GET  /            the shop's page, or the fallback page while maintenance is on
    GET  /style.css   GET /app.js
    GET  /health      {"site", "frozen", "in_flight", "orders"}
    POST /orders      201 {"id"} once the order is on the disk; 503 while maintenance is on
    GET  /orders/ids  the identities of all orders

Maintenance is on while the file ``shop/maintenance.on`` exists. Nothing has to be restarted.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SHOP = Path(__file__).resolve().parent
HOME = SHOP.parent
MAINTENANCE = SHOP / "maintenance.on"
DATABASE = HOME / "data" / "orders.db"
TYPES = {".css": "text/css", ".js": "text/javascript", ".html": "text/html; charset=utf-8"}

write_lock = threading.Lock()


class InFlight:
    """How many orders are being taken right now."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.count -= 1


in_flight = InFlight()


def settings() -> dict[str, str]:
    """``KEY=value`` lines of ``shop.conf`` in the login folder."""
    path = HOME / "shop.conf"
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line)


SITE = settings().get("SITE", "unknown")


def connect() -> sqlite3.Connection:
    link = sqlite3.connect(DATABASE, timeout=10)
    link.execute("PRAGMA synchronous = FULL")
    return link


def prepare() -> None:
    DATABASE.parent.mkdir(exist_ok=True)
    with connect() as link:
        link.execute("CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, body TEXT)")
    link.close()


def identities() -> list[str]:
    link = connect()
    try:
        return [row[0] for row in link.execute("SELECT id FROM orders ORDER BY id")]
    finally:
        link.close()


def place_order(body: str) -> str | None:
    """Returns only when the order has been committed and is on the disk; None when the shop was
    closed meanwhile. That is looked at under the database's write lock, so that what is exported
    after closing holds every order that was ever acknowledged."""
    identity = uuid.uuid4().hex
    with write_lock:
        link = connect()
        try:
            with link:
                link.execute("BEGIN IMMEDIATE")
                if MAINTENANCE.exists():
                    return None
                link.execute("INSERT INTO orders VALUES (?, ?)", (identity, body))
        finally:
            link.close()
    return identity


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in ("/style.css", "/app.js"):
            self.send_file(SHOP / "static" / path[1:])
        elif path == "/health":
            self.send_json(200, {
                "site": SITE, "frozen": MAINTENANCE.exists(), "in_flight": in_flight.count,
                "orders": len(identities()),
            })
        elif path == "/orders/ids":
            self.send_json(200, identities())
        elif path != "/":
            self.send_json(404, {"error": "no such page"})
        elif MAINTENANCE.exists():
            self.send_file(SHOP / "static" / "fallback.html")
        else:
            page = (SHOP / "static" / "index.html").read_text()
            self.send(200, page.replace("{site}", SITE).encode(), TYPES[".html"])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/orders":
            self.send_json(404, {"error": "no such page"})
            return
        # Counted before the look at the flag: once the flag is there and the count is 0, no
        # order can be written any more.
        with in_flight:
            closed = MAINTENANCE.exists()
            identity = None if closed else place_order(body.decode("utf-8", "replace"))
        if identity is None:
            self.send_json(503, {"error": "we are moving"}, {"Retry-After": "120"})
            return
        self.send_json(201, {"id": identity, "site": SITE})

    def send_file(self, path: Path) -> None:
        self.send(200, path.read_bytes(), TYPES[path.suffix])

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


def main() -> None:
    prepare()
    server = ThreadingHTTPServer(
        (os.environ.get("BIND", "0.0.0.0"), int(os.environ.get("PORT", "80"))), Handler
    )
    server.daemon_threads = True
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
