"""A small shop: it answers over HTTP and keeps its orders in PostgreSQL.

    GET  /health      {"site", "orders"}; 503 when the database does not answer
    POST /orders      201 {"id", "site"} once the order is committed; 503 when it is not
    GET  /orders/ids  the identities of all orders

The settings are the environment's: SITE, DATABASE (a conninfo, see libpq), PORT. An order that
could not be committed is never tried again behind the customer's back: after a lost connection
nobody here knows whether it was.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg2

SITE = os.environ.get("SITE", "unknown")
DATABASE = os.environ["DATABASE"]
MOVING = {"Retry-After": "1"}

idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
"""Open connections to the pool that nobody uses right now."""


@contextmanager
def connection() -> Iterator[Any]:
    try:
        link = idle.get_nowait()
    except queue.Empty:
        link = psycopg2.connect(DATABASE)
        link.autocommit = True
    try:
        yield link
    except BaseException:
        link.close()
        raise
    idle.put(link)


def ask(statement: str, *values: object) -> list[tuple[Any, ...]]:
    with connection() as link, link.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall()) if cursor.description else []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path not in {"/health", "/orders/ids"}:
            self.send_json(404, {"error": "no such page"})
            return
        try:
            if self.path == "/health":
                ((orders,),) = ask("SELECT count(*) FROM orders")
                self.send_json(200, {"site": SITE, "orders": orders})
            else:
                self.send_json(200, [row[0] for row in ask("SELECT id::text FROM orders")])
        except psycopg2.Error as fault:
            self.send_json(503, {"error": str(fault).strip()}, MOVING)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/orders":
            self.send_json(404, {"error": "no such page"})
            return
        identity = str(uuid.uuid4())
        try:
            ask("INSERT INTO orders (id, site, body) VALUES (%s, %s, %s)", identity, SITE,
                body.decode("utf-8", "replace"))
        except psycopg2.Error as fault:
            self.send_json(503, {"error": str(fault).strip()}, MOVING)
            return
        self.send_json(201, {"id": identity, "site": SITE})

    def send_json(self, status: int, value: object, more: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **(more or {})}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """nginx keeps the access log."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def server_bind(self) -> None:
        super().server_bind()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def main() -> None:
    server = Server(("127.0.0.1", int(os.environ.get("PORT", "8000"))), Handler)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
