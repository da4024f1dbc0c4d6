"""Messages to name servers: UDP with TCP behind it, signed or not, redirected in a sandbox.

Everything here is one exchange with one address. Whether a message was *sent* is known exactly:
before that a fault is Errored, after it Unsure.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
import time
from collections.abc import Iterator

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.tsig
import dns.update
import dns.xfr
import dns.zone

from runbook.errors import Errored
from runbook.model.dns import NameServer
from runbook.model.endpoints import Endpoints


class Unsure(Exception):
    """A change was sent and nobody said what came of it."""


class KeyRefused(Errored):
    """The server does not take our signature; nothing was changed."""


def parse_tsig(secret: str, value: str) -> dns.tsig.Key:
    """The key in ``name:algorithm:base64``. Raises Errored, which never shows the value."""
    name, _, rest = value.strip().partition(":")
    algorithm, _, encoded = rest.partition(":")
    try:
        if not (name and algorithm and encoded):
            raise ValueError("three parts are wanted")
        key = dns.tsig.Key(name, encoded, algorithm.lower())
        if key.algorithm not in dns.tsig.mac_sizes:
            raise ValueError("unknown algorithm")
    except (ValueError, dns.exception.DNSException):
        raise Errored(
            f"the secret {secret!r} is not a TSIG key; nothing was sent",
            hint="write it as name:algorithm:base64, e.g. shop-key:hmac-sha256:…",
        ) from None
    return key


class Wire:
    """``timeout`` is the patience of one exchange in seconds, repeats of lost UDP included."""

    def __init__(self, endpoints: Endpoints | None, timeout: float) -> None:
        self._endpoints = endpoints
        self._timeout = timeout

    def target(self, server: NameServer) -> tuple[str, int]:
        """Where to connect. Raises Errored for what a sandbox does not hold."""
        if self._endpoints is not None:
            return self._endpoints.nameserver(server.address, server.port)
        try:
            ipaddress.ip_address(server.address)
        except ValueError:
            raise Errored(
                f"the name server {server.name} has no address that could be found",
                hint="check its A and AAAA records, or give `servers:` as addresses",
            ) from None
        return server.address, server.port

    def ask(
        self, server: NameServer, query: dns.message.Message, key: dns.tsig.Key | None = None
    ) -> dns.message.Message:
        """One question, one answer; lost UDP is repeated once. Raises Errored."""
        if key is not None:
            query.use_tsig(key)
        return self._exchange(self.target(server), str(server), query)

    def ask_own_resolver(self, query: dns.message.Message) -> dns.message.Message:
        """A recursive question to the sandbox's stand-in for the controller's own resolver.

        Raises Errored, also where there is no sandbox."""
        if self._endpoints is None:
            raise Errored("outside of a sandbox names are looked up by the system itself")
        host, _, port = self._endpoints.resolver.rpartition(":")
        return self._exchange((host, int(port)), "the sandbox's resolver", query)

    def _exchange(
        self, target: tuple[str, int], server: str, query: dns.message.Message
    ) -> dns.message.Message:
        host, port = target
        with _explained(server, "asked"):
            for patience in (self._timeout / 3, self._timeout * 2 / 3):
                try:
                    return dns.query.udp_with_fallback(query, host, patience, port)[0]
                except dns.exception.Timeout:
                    continue
        raise Errored(
            f"no answer from {server} within {self._timeout:g} s",
            hint="check that the name server runs and that UDP and TCP port 53 are let through",
        )

    def update(
        self, server: NameServer, message: dns.update.UpdateMessage, key: dns.tsig.Key | None
    ) -> dns.message.Message:
        """Send an update once, by TCP. Raises Errored (not sent) or Unsure (no answer)."""
        host, port = self.target(server)
        if key is not None:
            message.use_tsig(key)
        wire = message.to_wire()
        end = time.time() + self._timeout
        with _explained(str(server), "connected to"):
            sock = socket.create_connection((host, port), timeout=self._timeout)
        with sock:
            sock.setblocking(False)
            try:
                dns.query.send_tcp(sock, wire, end)
                reply, _ = dns.query.receive_tcp(
                    sock, end, keyring=message.keyring, request_mac=message.mac
                )
            except dns.tsig.PeerError as fault:
                raise _key_refused(str(server), fault) from fault
            except (dns.exception.DNSException, OSError, EOFError) as fault:
                raise Unsure(f"{server}: {fault or type(fault).__name__}") from fault
        if not message.is_response(reply):
            raise Unsure(f"{server}: the answer does not belong to the update")
        return reply

    def transfer(
        self, server: NameServer, origin: str, key: dns.tsig.Key | None
    ) -> dns.zone.Zone:
        """The whole zone by AXFR (RFC 5936), not relativised. Raises Errored."""
        host, port = self.target(server)
        zone = dns.zone.Zone(dns.name.from_text(origin), relativize=False)
        query, _ = dns.xfr.make_query(zone, serial=None)
        if key is not None:
            query.use_tsig(key)
        try:
            with _explained(str(server), "asked for the zone"):
                dns.query.inbound_xfr(host, zone, query, port, timeout=self._timeout)
        except dns.xfr.TransferError as fault:
            raise Errored(
                f"{server} refuses to transfer {origin}: {fault}",
                hint="allow AXFR for the zone's TSIG key (BIND: allow-transfer { key …; };)",
            ) from fault
        return zone


def _key_refused(server: str, fault: Exception) -> KeyRefused:
    reasons: dict[type, tuple[str, str]] = {
        dns.tsig.PeerBadKey: (
            "does not know the TSIG key (BADKEY)",
            "check the key's name, and what it may do: Knot says the same for both"),
        dns.tsig.PeerBadSignature: (
            "finds the TSIG signature wrong (BADSIG)", "check the key's secret and algorithm"),
        dns.tsig.PeerBadTime: (
            "finds the TSIG time wrong (BADTIME)", "clocks differ by more than 5 minutes"),
    }
    what, hint = reasons.get(type(fault), (f"refuses the TSIG key: {fault}", "check the key"))
    return KeyRefused(f"{server} {what}; nothing was changed", hint=hint)


@contextlib.contextmanager
def _explained(server: str, doing: str) -> Iterator[None]:
    """Turns the faults of an exchange that changes nothing into Errored."""
    try:
        yield
    except dns.tsig.PeerError as fault:
        raise _key_refused(server, fault) from fault
    except (dns.tsig.BadSignature, dns.tsig.BadTime, dns.tsig.BadKey) as fault:
        raise Errored(
            f"the answer of {server} is not signed as it should be: {fault}",
            hint="somebody answers in its place, or the clocks differ",
        ) from fault
    except dns.xfr.TransferError:
        raise
    except OSError as fault:
        hint = "check that the name server runs and that port 53 is let through"
        if fault.errno in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL}:
            hint = "there is no route to it from here; list it under `except_servers` if that is so"
        raise Errored(
            f"{server} could not be {doing}: {fault.strerror or fault}", hint=hint
        ) from fault
    except dns.exception.Timeout as fault:
        raise Errored(f"{server} could not be {doing}: no answer in time") from fault
    except EOFError as fault:
        raise Errored(f"{server} hung up when {doing}: no answer") from fault
    except (dns.exception.DNSException, struct.error) as fault:
        raise Errored(f"{server} gave an answer that cannot be read: {fault!r}") from fault
