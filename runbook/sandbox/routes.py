"""How the world's own parts find each other: names to addresses, addresses to real ports."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping

import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

from runbook.model.inventory import Inventory
from runbook.sandbox.config import SandboxConfig


class Unroutable(OSError):
    """No such name, or nothing is at that address, in this world."""


class LeadsNowhere(ValueError):
    """A route of sandbox.yml at whose end nothing listens."""

    def __init__(self, place: str, leads_to: str) -> None:
        super().__init__(f"{place}: nothing listens at {leads_to}")
        self.place = place
        self.leads_to = leads_to


class Router:
    """Turns ``host:port`` of the plan's world into a real loopback address.

    ``table`` is Endpoints.tcp, ``names`` the inventory's host names, ``resolvers`` the port of
    the caching resolver of each site ("" is the controller's). All may grow while the world is
    built.
    """

    def __init__(self) -> None:
        self.table: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.resolvers: dict[str, int] = {}

    async def target(self, host: str, port: int, site: str = "") -> tuple[str, int]:
        """Raises Unroutable."""
        for address in await self.addresses(host, site):
            found = self.table.get(f"{address}:{port}")
            if found:
                real, _, number = found.rpartition(":")
                return real, int(number)
        raise Unroutable(f"nothing listens at {host}:{port} in this sandbox")

    async def addresses(self, host: str, site: str = "") -> tuple[str, ...]:
        """IPv4 addresses of a name as seen from a site. Raises Unroutable."""
        if is_address(host):
            return (host,)
        if host in self.names:
            return (self.names[host],)
        port = self.resolvers.get(site) or self.resolvers.get("")
        if port is None:
            raise Unroutable(f"{host}: this sandbox has no resolver")
        return await resolve(host, port)


async def resolve(name: str, port: int, timeout: float = 2.0) -> tuple[str, ...]:
    """IPv4 addresses that the resolver on loopback gives. Raises Unroutable."""
    question = dns.message.make_query(name, "A")
    try:
        async with asyncio.timeout(timeout):
            answer = await dns.asyncquery.udp(question, "127.0.0.1", port=port)
    except (OSError, TimeoutError, dns.exception.DNSException) as fault:
        raise Unroutable(f"{name}: the resolver does not answer") from fault
    return addresses_in(answer, name)


def addresses_in(answer: dns.message.Message, name: str) -> tuple[str, ...]:
    """The A records of an answer. Raises Unroutable when there are none."""
    found = tuple(
        item.to_text()
        for rrset in answer.answer
        if rrset.rdtype == dns.rdatatype.A
        for item in rrset
    )
    if not found:
        raise Unroutable(f"{name}: {dns.rcode.to_text(answer.rcode())}, no address")
    return found


def endpoint_table(
    listens: Mapping[str, int], routes: Mapping[str, str]
) -> dict[str, str]:
    """Endpoints.tcp: ``address:port`` → ``127.0.0.1:port``.

    Raises LeadsNowhere.
    """
    table = {place: f"127.0.0.1:{port}" for place, port in listens.items()}
    for place, leads_to in routes.items():
        if leads_to not in table:
            raise LeadsNowhere(place, leads_to)
        table[place] = table[leads_to]
    return table


def is_address(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def host_addresses(inventory: Inventory, config: SandboxConfig) -> dict[str, list[str]]:
    """Addresses of every host: sandbox.yml's, else the inventory's, else one made up.

    An inventory may know a host by name alone; the world then gives it one of 10.77.0.0/16.
    """
    found: dict[str, list[str]] = {}
    for number, host in enumerate(inventory.hosts, start=1):
        declared = config.hosts.get(host.name)
        if declared is not None and declared.addresses:
            found[host.name] = list(declared.addresses)
        elif is_address(host.address):
            found[host.name] = [host.address]
        else:
            found[host.name] = [f"10.77.{number // 256}.{number % 256}"]
    return found
