"""Opening TCP connections: from here, into a sandbox, or through another host."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

from runbook.errors import Errored
from runbook.model.duration import format_duration
from runbook.model.endpoints import Endpoints


class SocketLike(Protocol):
    """The part of a socket that is used; a paramiko channel has it too."""

    def recv(self, size: int, /) -> bytes: ...

    def sendall(self, data: bytes, /) -> Any: ...

    def settimeout(self, seconds: float | None, /) -> Any: ...

    def close(self) -> Any: ...


Tunnel = Callable[[str, str, int], SocketLike]
"""``(host, name or address, port)``: a connection made from that host, which resolves the name.
Raises Errored; where the far end refused, its cause is paramiko's ChannelException."""


class NoConnection(OSError):
    """The world said no: unknown name, refused, timed out. The text is for people."""


class Silence(Errored):
    """Another host heard nothing from where it was to connect to. It may itself be out of reach."""


class Deadline:
    """Time left for one whole request. Sockets count real seconds, so this is not the run's
    clock, which may pass faster in a rehearsal."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left. Raises TimeoutError when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(self.text)
        return left

    @property
    def text(self) -> str:
        return f"timed out after {format_duration(self.seconds)}"


class Dialer:
    """Connects to names and addresses as the run's world knows them.

    In production names go to the system's resolver. With ``endpoints`` they go to the sandbox's,
    addresses are looked up in its table, and what is not in it raises Errored.
    """

    def __init__(self, endpoints: Endpoints | None, tunnel: Tunnel | None) -> None:
        self._endpoints = endpoints
        self._tunnel = tunnel

    def connect(
        self, host: str, port: int, *, deadline: Deadline, via: str | None = None
    ) -> tuple[SocketLike, str]:
        """A connection, and the address it leads to (empty where another host resolved it).

        Every address of a name is tried, in the resolver's order. Raises NoConnection, or
        Errored where nobody could be asked.
        """
        if via is not None:
            return self._through(via, host, port)
        try:
            addresses = [host] if is_address(host) else self._resolve(host, deadline)
            return self._first(addresses, port, deadline)
        except TimeoutError as fault:
            raise NoConnection(f"{deadline.text} while connecting to {host}:{port}") from fault

    def _first(
        self, addresses: list[str], port: int, deadline: Deadline
    ) -> tuple[SocketLike, str]:
        faults = []
        for address in addresses:
            target = self._endpoints.connect(address, port) if self._endpoints else (address, port)
            try:
                sock = socket.create_connection(target, timeout=deadline.left)
            except ConnectionRefusedError:
                faults.append(f"connection refused by {address}:{port}")
                continue
            except TimeoutError:
                faults.append(f"{deadline.text} while connecting to {address}:{port}")
                continue
            except OSError as fault:
                faults.append(f"{address}:{port} cannot be reached ({fault.strerror or fault})")
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock, address
        raise NoConnection("; ".join(faults))

    def _through(self, via: str, host: str, port: int) -> tuple[SocketLike, str]:
        if self._tunnel is None:
            raise Errored(f"there is no way to look from {via}")
        known = host if is_address(host) else ""
        try:
            return self._tunnel(via, host, port), known
        except Errored as fault:
            if isinstance(fault.__cause__, TimeoutError):
                raise Silence(fault.message) from fault
            if not _refused(fault):
                raise
            # SSH tells only that the connection failed (RFC 4254 section 5.1, code 2): for an
            # address that is a refusal, for a name it may also be one that host does not know.
            said = (
                f"connection refused by {host}:{port}, or no way there, as seen from {via}"
                if known
                else f"{host}:{port} is refused, out of reach or an unknown name for {via}"
            )
            raise NoConnection(said) from fault

    def _resolve(self, name: str, deadline: Deadline) -> list[str]:
        if self._endpoints is None:
            return _system_addresses(name)
        known = self._endpoints.names.get(name)
        return [known] if known else _sandbox_addresses(self._endpoints, name, deadline)


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def split_address(text: str) -> tuple[str, int | None]:
    """``host``, ``host:port``, ``[v6]:port`` or a bare IPv6 address. Raises ValueError."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, int(rest.removeprefix(":")) if rest else None
    if text.count(":") == 1:
        host, _, number = text.partition(":")
        return host, int(number)
    return text, None


def _system_addresses(name: str) -> list[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as fault:
        if fault.errno in {socket.EAI_NONAME, socket.EAI_NODATA}:
            raise NoConnection(f"the name {name} does not exist") from fault
        raise NoConnection(f"the name {name} cannot be resolved ({fault.strerror})") from fault
    except UnicodeError as fault:
        raise NoConnection(f"{name!r} is not a host name") from fault
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def _sandbox_addresses(endpoints: Endpoints, name: str, deadline: Deadline) -> list[str]:
    """A and AAAA of a name, CNAMEs followed by the sandbox's resolver."""
    import dns.exception
    import dns.message
    import dns.query
    import dns.rcode

    server, _, port = endpoints.resolver.rpartition(":")
    addresses: list[str] = []
    for rtype in ("A", "AAAA"):
        try:
            question = dns.message.make_query(name, rtype)
            answer, _ = dns.query.udp_with_fallback(
                question, server, port=int(port), timeout=deadline.left
            )
        except dns.exception.DNSException as fault:
            raise NoConnection(f"the name {name} cannot be resolved ({fault})") from fault
        if answer.rcode() == dns.rcode.NXDOMAIN:
            raise NoConnection(f"the name {name} does not exist")
        if answer.rcode() != dns.rcode.NOERROR:
            code = dns.rcode.to_text(answer.rcode())
            raise NoConnection(f"the name {name} cannot be resolved ({code})")
        addresses += [
            item.address
            for rrset in answer.answer
            for item in rrset
            if item.rdtype == question.question[0].rdtype
        ]
    if not addresses:
        raise NoConnection(f"the name {name} has no address")
    return addresses


def _refused(fault: Errored) -> bool:
    from paramiko import ChannelException

    cause = fault.__cause__
    return isinstance(cause, ChannelException) and cause.code == 2
