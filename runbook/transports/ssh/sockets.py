"""Sockets under SSH connections."""

from __future__ import annotations

import socket
from typing import Any

_AHEAD = 64 * 1024
"""Bytes that are asked of a socket at once."""


def tune(sock: socket.socket, silence: float) -> None:
    """No delay for small packets; ``silence``: seconds that sent data may stay unacknowledged
    (tcp(7))."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(silence * 1000))


class ReadAhead:
    """A socket of which everything that has arrived is read at once and handed out in the parts
    that are asked for: each wait for the socket lets go of the interpreter, and with many hosts
    another thread takes it. Only one thread reads."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._arrived = b""

    def recv(self, size: int) -> bytes:
        if not self._arrived:
            self._arrived = self._sock.recv(max(size, _AHEAD))
        part, self._arrived = self._arrived[:size], self._arrived[size:]
        return part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)
