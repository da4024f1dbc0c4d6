"""UDP and TCP on one port of 127.0.0.1, each message handed to a function. In-process."""

from __future__ import annotations

import contextlib
import errno
import socket
import socketserver
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

Handler = Callable[[bytes, bool], Iterable[bytes]]
"""(wire of the request, came by TCP) → wires of the answer, one after the other."""

_TRIES = 50
_NOTICE_STOP = 0.02
"""Seconds within which a server notices that it is to stop."""


class _Udp(socketserver.ThreadingUDPServer):
    daemon_threads = True
    block_on_close = False
    max_packet_size = 65535

    def __init__(self, address: tuple[str, int], handler: Handler) -> None:
        self.handler = handler
        super().__init__(address, _UdpRequest)


class _UdpRequest(socketserver.BaseRequestHandler):
    server: _Udp

    def handle(self) -> None:
        wire, sock = self.request
        for answer in self.server.handler(wire, False):
            with contextlib.suppress(OSError):  # the asker has gone; UDP promises nothing
                sock.sendto(answer, self.client_address)


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: Handler) -> None:
        self.handler = handler
        self.open: set[socket.socket] = set()
        self.lock = threading.Lock()
        super().__init__(address, _TcpRequest)

    def hang_up(self) -> None:
        with self.lock:
            for sock in self.open:
                with contextlib.suppress(OSError):  # already closed by the other side
                    sock.shutdown(socket.SHUT_RDWR)


class _TcpRequest(socketserver.BaseRequestHandler):
    server: _Tcp

    def handle(self) -> None:
        sock: socket.socket = self.request
        with self.server.lock:
            self.server.open.add(sock)
        try:
            while (head := _exactly(sock, 2)) is not None:
                wire = _exactly(sock, struct.unpack("!H", head)[0])
                if wire is None:
                    return
                for answer in self.server.handler(wire, True):
                    sock.sendall(struct.pack("!H", len(answer)) + answer)
        except OSError:
            return  # the connection broke: there is nobody left to answer
        finally:
            with self.server.lock:
                self.server.open.discard(sock)


def _exactly(sock: socket.socket, count: int) -> bytes | None:
    """``count`` bytes, or None where the stream ends before."""
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            return None
        data += more
    return data


class Listener:
    """Serves ``handler`` on a port of ``address`` until :meth:`stop`. One thread a request."""

    def __init__(self, handler: Handler, *, address: str = "127.0.0.1", port: int = 0) -> None:
        self._udp, self._tcp = _bind(handler, address, port)
        self.port: int = self._tcp.server_address[1]
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(_NOTICE_STOP,), daemon=True)
            for server in (self._udp, self._tcp)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close both sockets and every open connection."""
        for server in (self._udp, self._tcp):
            server.shutdown()
        for server in (self._udp, self._tcp):
            server.server_close()
        self._tcp.hang_up()
        for thread in self._threads:
            thread.join()


def _bind(handler: Handler, address: str, port: int) -> tuple[_Udp, _Tcp]:
    """Both sockets on the same number. Raises OSError when none of many is free for both."""
    for left in range(_TRIES, 0, -1):
        tcp = _Tcp((address, port), handler)
        try:
            return _Udp((address, tcp.server_address[1]), handler), tcp
        except OSError as fault:
            tcp.server_close()
            if fault.errno != errno.EADDRINUSE or port or left == 1:
                raise
    raise OSError(errno.EADDRINUSE, "no port is free for both UDP and TCP")


class DnsServer(ABC):
    """What a name server and a resolver share: the life of their listener."""

    title = "DNS server"
    """What it is called in errors."""
    _listener: Listener | None = None

    @property
    def port(self) -> int:
        if self._listener is None:
            raise RuntimeError(f"the {self.title} is not started")
        return self._listener.port

    def start(self, port: int = 0) -> int:
        """Listen on 127.0.0.1, UDP and TCP on the same port; returns the port."""
        if self._listener is not None:
            raise RuntimeError(f"the {self.title} is already started")
        self._listener = Listener(self._handle, port=port)
        return self._listener.port

    def stop(self) -> None:
        """Stop listening. What it knows stays as it is; :meth:`start` goes on with it."""
        if self._listener is not None:
            self._listener.stop()
            self._listener = None

    @abstractmethod
    def _handle(self, wire: bytes, tcp: bool) -> Iterable[bytes]:
        """Answers to one message, as :data:`Handler`."""
