"""A forward HTTP proxy for every host: what ``curl`` on a sandbox host reaches is this world.

Names are resolved with the resolver of the host's site, addresses are looked up in the world's
table, and what is not there is refused with 502.
"""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

from runbook.sandbox.routes import Router, Unroutable


class HttpProxy:
    """One proxy on a free loopback port; plain requests and CONNECT (RFC 9110 §9.3.6)."""

    def __init__(self, router: Router, site: str) -> None:
        self._router = router
        self._site = site
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: asyncio.StreamWriter | None = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            first, _, rest = head.partition(b"\r\n")
            method, url, version = first.decode("latin-1").split(" ", 2)
            tunnel = method == "CONNECT"
            parts = urlsplit(f"//{url}" if tunnel else url)
            try:
                host, port = await self._router.target(
                    parts.hostname or "", parts.port or 80, self._site
                )
                answers, upstream = await asyncio.open_connection(host, port)
            except OSError as fault:
                writer.write(_refusal(fault))
                await writer.drain()
                return
            if tunnel:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                upstream.write(f"{method} {path} {version}\r\n".encode("latin-1") + _close(rest))
            await asyncio.gather(_copy(reader, upstream), _copy(answers, writer))
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            return  # a client that goes away or does not speak HTTP gets nothing
        finally:
            for one in (writer, upstream):
                if one is not None:
                    one.close()


def _refusal(fault: OSError) -> bytes:
    text = f"{fault}\n" if isinstance(fault, Unroutable) else "connection refused\n"
    body = text.encode()
    return b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body), body,
    )


def _close(headers: bytes) -> bytes:
    """One request a connection: the proxy looks at the first request line only."""
    kept = [
        line for line in headers.split(b"\r\n")
        if not line.lower().startswith((b"connection:", b"proxy-connection:", b"keep-alive:"))
    ]
    return b"\r\n".join([b"Connection: close", *kept])


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    with contextlib.suppress(OSError):
        sink.write_eof()
