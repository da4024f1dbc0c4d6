"""One HTTP exchange over a connection of our own: httpx above, :class:`Dialer` below.

httpx and httpcore do HTTP/1.1, redirections and decoding. Resolving, connecting and TLS are done
here, since a request may have to go into a sandbox, to a given address, or through another host,
where there is no socket to hand to the ``ssl`` module.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import httpcore
import httpx

from runbook.transports.net_dial import Deadline, Dialer, NoConnection, SocketLike, split_address

_BLOCK = 16384
"""Bytes of one TLS record (RFC 8446 section 5.1)."""

T = TypeVar("T")


class Backend(httpcore.NetworkBackend):
    """Connections of one request. ``address`` is where the latest one led to."""

    def __init__(
        self, dialer: Dialer, *, deadline: Deadline, via: str | None = None,
        redirected: tuple[str, str] | None = None,
    ) -> None:
        self._dialer = dialer
        self._deadline = deadline
        self._via = via
        self._redirected = redirected
        """(host of the URL, ``address[:port]`` to use in its place)."""
        self.address = ""

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None,
        local_address: str | None = None, socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        if self._redirected is not None and host == self._redirected[0]:
            host, other = split_address(self._redirected[1])
            port = other or port
        try:
            sock, self.address = self._dialer.connect(
                host, port, deadline=self._deadline, via=self._via
            )
        except NoConnection as fault:
            raise httpcore.ConnectError(str(fault)) from fault
        return _Plain(sock, self._deadline)


class _Plain(httpcore.NetworkStream):
    def __init__(self, sock: SocketLike, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return _reading(lambda: receive(self._sock, max_bytes, self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        _writing(lambda: send(self._sock, buffer, self._deadline))

    def close(self) -> None:
        self._sock.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        stream = _Tls(self._sock, self._deadline, ssl_context, server_hostname)
        try:
            stream.handshake()
        except ssl.SSLCertVerificationError as fault:
            self.close()
            said = f"the certificate is not valid: {fault.verify_message}"
            raise httpcore.ConnectError(said) from fault
        except TimeoutError as fault:
            self.close()
            raise httpcore.ConnectTimeout(f"{self._deadline.text} in the TLS handshake") from fault
        except OSError as fault:
            self.close()
            why = getattr(fault, "reason", None) or fault.strerror or fault
            raise httpcore.ConnectError(f"the TLS handshake failed: {why}") from fault
        return stream


class _Tls(httpcore.NetworkStream):
    """TLS over anything that sends and receives."""

    def __init__(
        self, sock: SocketLike, deadline: Deadline, context: ssl.SSLContext, name: str | None
    ) -> None:
        self._sock = sock
        self._deadline = deadline
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    def handshake(self) -> None:
        self._drive(self._tls.do_handshake)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        def once() -> bytes:
            try:
                return self._drive(lambda: self._tls.read(max_bytes))
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                # Many servers close without saying so in TLS; HTTP itself tells whether the
                # answer is complete (RFC 9112 section 9.8).
                return b""

        return _reading(once)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        def everything() -> None:
            rest = buffer
            while rest:
                rest = rest[self._drive(lambda: self._tls.write(rest)) :]  # noqa: B023

        _writing(everything)

    def close(self) -> None:
        self._sock.close()

    def get_extra_info(self, info: str) -> Any:
        return self._tls if info == "ssl_object" else None

    def _drive(self, step: Callable[[], T]) -> T:
        """Do one TLS operation, moving bytes in both directions as it asks for them."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                block = receive(self._sock, _BLOCK, self._deadline)
                if block:
                    self._incoming.write(block)
                else:
                    self._incoming.write_eof()
                continue
            except ssl.SSLError:
                self._flush()  # the alert that tells the other side why
                raise
            self._flush()
            return result

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            send(self._sock, data, self._deadline)


class Transport(httpx.BaseTransport):
    """An httpx transport with a new connection for every request. Its faults are httpcore's."""

    def __init__(self, backend: Backend, context: ssl.SSLContext) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=context, network_backend=backend, max_keepalive_connections=0
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme, host=request.url.raw_host,
                    port=request.url.port, target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=cast("Iterable[bytes]", request.stream),
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            answer.status, headers=answer.headers,
            stream=_Body(cast("Iterable[bytes]", answer.stream)), extensions=answer.extensions,
        )

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream

    def __iter__(self) -> Any:
        return iter(self._stream)

    def close(self) -> None:
        cast("Any", self._stream).close()


def receive(sock: SocketLike, size: int, deadline: Deadline) -> bytes:
    sock.settimeout(deadline.left)
    try:
        return sock.recv(size)
    except TimeoutError as fault:
        raise TimeoutError(deadline.text) from fault


def send(sock: SocketLike, data: bytes, deadline: Deadline) -> None:
    sock.settimeout(deadline.left)
    try:
        sock.sendall(data)
    except TimeoutError as fault:
        raise TimeoutError(deadline.text) from fault


def _reading(step: Callable[[], bytes]) -> bytes:
    try:
        return step()
    except TimeoutError as fault:
        raise httpcore.ReadTimeout(str(fault)) from fault
    except OSError as fault:
        raise httpcore.ReadError(str(fault.strerror or fault)) from fault


def _writing(step: Callable[[], None]) -> None:
    try:
        step()
    except TimeoutError as fault:
        raise httpcore.WriteTimeout(str(fault)) from fault
    except OSError as fault:
        raise httpcore.WriteError(str(fault.strerror or fault)) from fault
