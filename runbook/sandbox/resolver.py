"""A caching resolver in this process, on the run's clock: it shows what users would still see.

It keeps answers exactly as long as their TTL says (RFC 2181 section 8), negative ones by RFC 2308,
and gives them with the TTL that is left. It asks the given upstream of each zone and nobody else;
a question without RD is answered from what it has alone.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from runbook.model.ports import Clock
from runbook.sandbox.dns_listener import DnsServer

Upstream = tuple[str, int] | Sequence[tuple[str, int]]
"""(host, port) of one server, or several that are asked in turn."""

_MAX_CHAIN = 16
_STATIC_TTL = 1
_Key = tuple[dns.name.Name, dns.rdatatype.RdataType]


@dataclass(frozen=True, slots=True)
class _Cached:
    """``rrset`` None: there is no such set; ``rcode`` tells NODATA from NXDOMAIN."""

    rrset: dns.rrset.RRset | None
    rcode: dns.rcode.Rcode
    soa: dns.rrset.RRset | None
    expires: float


class CachingResolver(DnsServer):
    """``upstreams`` maps each zone to its server(s); ``names`` are static IPv4 answers."""

    title = "resolver"

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        clock: Clock,
        names: Mapping[str, str] | None = None,
        *,
        timeout: float = 2.0,
    ) -> None:
        self._clock = clock
        self._timeout = timeout
        self._upstreams: dict[dns.name.Name, itertools.cycle[tuple[str, int]]] = {
            dns.name.from_text(zone): itertools.cycle(_several(servers))
            for zone, servers in upstreams.items()
        }
        self._names = {dns.name.from_text(name): ip for name, ip in (names or {}).items()}
        self._cache: dict[_Key, _Cached] = {}
        self._lock = threading.Lock()

    def flush(self) -> None:
        """Forget every answer."""
        with self._lock:
            self._cache.clear()

    def _handle(self, wire: bytes, tcp: bool) -> Iterable[bytes]:
        try:
            query = dns.message.from_wire(wire)
            response = dns.message.make_response(query, recursion_available=True)
        except (dns.exception.DNSException, ValueError):
            return []
        if len(query.question) != 1:
            response.set_rcode(dns.rcode.NOTIMP)
        else:
            question = query.question[0]
            further = bool(query.flags & dns.flags.RD)
            self._resolve(question.name.canonicalize(), question.rdtype, response, further)
        if tcp:
            return [response.to_wire(max_size=65535)]
        size = max(512, query.payload) if query.edns >= 0 else 512
        return [response.to_wire(max_size=size, prefer_truncation=True)]

    def _resolve(
        self,
        name: dns.name.Name,
        rdtype: dns.rdatatype.RdataType,
        response: dns.message.Message,
        further: bool,
    ) -> None:
        for _ in range(_MAX_CHAIN):
            found = self._static(name, rdtype) or self._kept(name, rdtype)
            if found is None and not further:
                return
            found = found or self._fetch(name, rdtype)
            if found is None:
                response.set_rcode(dns.rcode.SERVFAIL)
                return
            if found.rrset is None:
                response.set_rcode(found.rcode)
                if found.soa is not None:
                    response.authority.append(self._aged(found.soa, found.expires))
                return
            response.answer.append(self._aged(found.rrset, found.expires))
            if rdtype in {found.rrset.rdtype, dns.rdatatype.CNAME}:
                return
            name = found.rrset[0].target.canonicalize()
        response.set_rcode(dns.rcode.SERVFAIL)

    def _static(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> _Cached | None:
        address = self._names.get(name)
        if address is None:
            return None
        forever = self._clock.now() + _STATIC_TTL
        if rdtype != dns.rdatatype.A:
            return _Cached(None, dns.rcode.NOERROR, None, forever)
        rrset = dns.rrset.from_text(name, _STATIC_TTL, dns.rdataclass.IN, rdtype, address)
        return _Cached(rrset, dns.rcode.NOERROR, None, forever)

    def _kept(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> _Cached | None:
        """From the cache; None where it does not hold it, or not any more."""
        now = self._clock.now()
        with self._lock:
            for wanted in (rdtype, dns.rdatatype.CNAME):
                kept = self._cache.get((name, wanted))
                if kept is not None and now < kept.expires and (
                    kept.rrset is not None or wanted == rdtype
                ):
                    return kept
        return None

    def _fetch(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> _Cached | None:
        """From upstream; None when nobody answers."""
        zones = [zone for zone in self._upstreams if name.is_subdomain(zone)]
        if not zones:
            return None
        with self._lock:
            host, port = next(self._upstreams[max(zones, key=len)])
        query = dns.message.make_query(name, rdtype)
        query.flags &= ~dns.flags.RD
        try:
            reply, _ = dns.query.udp_with_fallback(query, host, self._timeout, port)
        except (dns.exception.DNSException, OSError):
            return None
        if reply.rcode() not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
            return None
        return self._keep(name, rdtype, reply, self._clock.now())

    def _keep(
        self,
        name: dns.name.Name,
        rdtype: dns.rdatatype.RdataType,
        reply: dns.message.Message,
        now: float,
    ) -> _Cached:
        """Store the set for ``name`` itself; the rest of a chain is asked for in its turn."""
        for rrset in reply.answer:
            if rrset.name.canonicalize() == name and rrset.rdtype in {rdtype, dns.rdatatype.CNAME}:
                entry = _Cached(rrset, dns.rcode.NOERROR, None, now + rrset.ttl)
                with self._lock:
                    self._cache[(name, rrset.rdtype)] = entry
                return entry
        soa = next((r for r in reply.authority if r.rdtype == dns.rdatatype.SOA), None)
        ttl = min(soa.ttl, soa[0].minimum) if soa is not None else 0
        entry = _Cached(None, dns.rcode.Rcode(reply.rcode()), soa, now + ttl)
        if soa is not None:
            with self._lock:
                self._cache[(name, rdtype)] = entry
        return entry

    def _aged(self, rrset: dns.rrset.RRset, expires: float) -> dns.rrset.RRset:
        left = max(0, math.ceil(expires - self._clock.now()))
        return dns.rrset.from_rdata_list(rrset.name, min(left, rrset.ttl), list(rrset))


def _several(servers: Upstream) -> list[tuple[str, int]]:
    if len(servers) == 2 and isinstance(servers[0], str) and isinstance(servers[1], int):
        return [(servers[0], servers[1])]
    return [one for one in servers if isinstance(one, tuple)]
