"""Who serves a zone: configured servers, secondaries and the zone's own NS, every address."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator

import dns.flags
import dns.message
import dns.rdatatype
import dns.tsig

from runbook.errors import Errored
from runbook.model.dns import NameServer, Zone
from runbook.model.endpoints import Endpoints
from runbook.transports.dns.records import canonical_name
from runbook.transports.dns.wire import Wire


def parse_server(text: str, port: int = 53) -> tuple[str, int]:
    """``name``, ``address``, ``address:port`` or ``[v6]:port`` → (name or address, port).

    Raises ValueError.
    """
    try:
        return str(ipaddress.ip_address(text)), port
    except ValueError:
        host, colon, number = text.rpartition(":")
    if not colon:
        return text, port
    if not number.isdigit() or not host:
        raise ValueError(f"{text!r} is not a server: name, address, address:port or [v6]:port")
    return host.strip("[]"), int(number)


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class Servers:
    """Finds name servers and their addresses."""

    def __init__(
        self, wire: Wire, endpoints: Endpoints | None,
        key: Callable[[NameServer], dns.tsig.Key | None],
    ) -> None:
        """``key``: what questions to a server are signed with."""
        self._wire = wire
        self._endpoints = endpoints
        self._key = key

    def primary(self, zone: Zone) -> NameServer:
        """The first configured server, else the one the SOA names. Raises Errored."""
        for server in (
            self._configured(zone.servers[0]) if zone.servers
            else self._by_name(self._soa_master(zone))
        ):
            return _for(zone, server)
        raise Errored(f"no name server of {zone.name} is known", hint="give `servers:` of the zone")

    def all(self, zone: Zone) -> tuple[NameServer, ...]:
        """Configured servers, secondaries and NS of the zone, each address once.

        A server without an address is in it too: nobody can then say that *all* agree.
        Raises Errored when the primary cannot be asked.
        """
        found: dict[tuple[str, int], NameServer] = {}
        primary = self.primary(zone)
        for entry in (*zone.servers, *zone.secondaries):
            for server in self._configured(entry):
                found.setdefault((server.address, server.port), server)
        for name in self._names(primary, zone.name, "NS"):
            inside = name == zone.name or name.endswith("." + zone.name)
            named = self._endpoints is not None and self._known(name)
            several = self._at(primary, name) if inside and not named else ()
            for server in several or tuple(self._by_name(name)):
                found.setdefault((server.address, server.port), server)
        found.setdefault((primary.address, primary.port), primary)
        return tuple(_for(zone, server) for server in found.values())

    def _configured(self, entry: str) -> Iterator[NameServer]:
        host, port = parse_server(entry)
        if is_address(host) or self._known(entry):
            yield NameServer(name=entry, address=host, port=port)
        else:
            yield from self._by_name(host, port)

    def _known(self, name: str) -> bool:
        table = self._endpoints.dns if self._endpoints is not None else {}
        return name in table or name.rstrip(".") in table

    def _by_name(self, name: str, port: int = 53) -> Iterator[NameServer]:
        addresses = self.addresses(name)
        if not addresses:
            yield NameServer(name=name, address=name, port=port)
        for address in addresses:
            yield NameServer(name=name, address=address, port=port)

    def _at(self, primary: NameServer, name: str) -> tuple[NameServer, ...]:
        """Addresses of a name inside the zone, as the zone itself says."""
        found = (*self._names(primary, name, "A"), *self._names(primary, name, "AAAA"))
        return tuple(NameServer(name=name, address=address) for address in found)

    def addresses(self, name: str) -> tuple[str, ...]:
        """Addresses of a host name as the controller finds them; none: it is not known."""
        bare = name.rstrip(".")
        if self._endpoints is None:
            try:
                infos = socket.getaddrinfo(bare, None, type=socket.SOCK_STREAM)
            except OSError:
                return ()  # the caller lists it as a server without an address
            return tuple(dict.fromkeys(str(info[4][0]) for info in infos))
        for form in (name, bare):
            if form in self._endpoints.dns:
                return (form,)
            if form in self._endpoints.names:
                return (self._endpoints.names[form],)
        try:
            return (*self._names(None, name, "A"), *self._names(None, name, "AAAA"))
        except Errored:
            return ()  # as above: the caller lists it as a server without an address

    def _soa_master(self, zone: Zone) -> str:
        """The primary's name where no server is configured."""
        if self._endpoints is not None:
            found = self._names(None, zone.name, "SOA")
        else:
            found = _system_soa(zone.name)
        if not found:
            raise Errored(
                f"{zone.name} has no SOA that could be found", hint="give `servers:` of the zone"
            )
        return found[0]

    def _names(self, server: NameServer | None, name: str, rtype: str) -> tuple[str, ...]:
        """Targets or addresses of the set at a name; None asks the sandbox's own resolver.

        Raises Errored."""
        query = dns.message.make_query(name, rtype, use_edns=0, payload=1232)
        if server is None:
            reply = self._wire.ask_own_resolver(query)
        else:
            query.flags &= ~dns.flags.RD
            reply = self._wire.ask(server, query, self._key(server))
        out: list[str] = []
        for rrset in reply.answer:
            if rrset.rdtype != dns.rdatatype.from_text(rtype):
                continue
            for rdata in rrset:
                if rtype == "NS":
                    out.append(canonical_name(rdata.target))
                elif rtype == "SOA":
                    out.append(canonical_name(rdata.mname))
                else:
                    out.append(rdata.address)
        return tuple(sorted(out))


def _for(zone: Zone, server: NameServer) -> NameServer:
    return server.model_copy(update={"key": zone.question_key})


def _system_soa(zone: str) -> tuple[str, ...]:
    import dns.exception
    import dns.resolver

    try:
        found = dns.resolver.resolve(zone, "SOA")
    except dns.exception.DNSException as fault:
        raise Errored(
            f"the primary of {zone} could not be found: {fault}",
            hint="give `servers:` of the zone",
        ) from fault
    return tuple(canonical_name(rdata.mname) for rdata in found)
