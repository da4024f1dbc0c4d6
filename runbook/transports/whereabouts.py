"""Finds out where the machines of one plan are, and who: implements
:class:`runbook.model.whereabouts.Whereabouts`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from runbook.errors import Errored
from runbook.model.dns import Zone
from runbook.model.inventory import Host, Inventory
from runbook.model.whereabouts import HostKey, HostPlace, canonical
from runbook.transports.dns.servers import parse_server
from runbook.transports.ssh.connection import Place
from runbook.transports.world import TransportWorld

_AT_ONCE = 16

Resolve = Callable[[str], tuple[str, ...]]
"""A host name or an address → its addresses in canonical form. Raises Errored."""


def system_addresses(name: str) -> tuple[str, ...]:
    """As the system's resolver says (``/etc/hosts`` included). Raises Errored."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as fault:
        why = getattr(fault, "strerror", None) or fault
        raise Errored(f"{name} cannot be resolved ({why})") from fault
    addresses = (str(info[4][0]) for info in found)
    return tuple(dict.fromkeys(canonical(one) or one for one in addresses))


class PlanWhereabouts:
    """The machines of the plan that ``world`` is of.

    ``log_in`` false: nobody logs in anywhere, so what is behind a jump host is only told by what
    known_hosts says of it, and others by that first. Else the keys are those that hosts show now.
    """

    def __init__(
        self, inventory: Inventory, world: TransportWorld, *, log_in: bool,
        resolve: Resolve = system_addresses,
    ) -> None:
        self._inventory = inventory
        self._world = world
        self._log_in = log_in
        self._resolve = resolve

    def hosts(self, names: Iterable[str]) -> Mapping[str, HostPlace]:
        """As the protocol says."""
        wanted = [host for name in names if (host := self._inventory.get(name)) is not None]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="whereabouts") as pool:
            return {place.host: place for place in pool.map(self._host, wanted)}

    def addresses(self, name: str) -> tuple[str, ...]:
        """As the protocol says."""
        return self._resolve(name)

    def changed_at(self, zone: Zone) -> tuple[str, ...]:
        """As the protocol says."""
        if zone.provider == "powerdns":
            return self._endpoint(zone)
        if zone.servers:
            return self._servers(zone.servers)
        return self._resolve(self._world.name_servers.primary(zone).address)

    def served_at(self, zone: Zone) -> tuple[str, ...]:
        """As the protocol says."""
        found = [*self._servers((*zone.servers, *zone.secondaries)), *self._endpoint(zone)]
        # The zone's own NS records tell of more, and of a server that no runbook names.
        for server in self._world.name_servers.servers(zone):
            found += self._resolve(server.address)
        return tuple(dict.fromkeys(found))

    def close(self) -> None:
        self._world.close()

    def _servers(self, entries: Iterable[str]) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for entry in entries:
            try:
                name, _ = parse_server(entry)
            except ValueError as fault:
                raise Errored(str(fault)) from fault
            found.update(dict.fromkeys(self._resolve(name)))
        return tuple(found)

    def _endpoint(self, zone: Zone) -> tuple[str, ...]:
        name = urlsplit(zone.endpoint).hostname if zone.endpoint else None
        return self._resolve(name) if name else ()

    # -- hosts ---------------------------------------------------------------------------------

    def _host(self, host: Host) -> HostPlace:
        found = HostPlace(host=host.name, at=host.address)
        try:
            place = self._world.pool.place(host.name)
            found = found.model_copy(update={"at": f"{place.address}:{place.port}"})
            found = found.model_copy(update={"way": self._way(host, place)})
            addresses = self._of_host(host, place)
            found = found.model_copy(update={"addresses": addresses})
            return found.model_copy(update={"keys": self._keys(host, place, addresses)})
        except Errored as fault:
            return found.model_copy(update={"unknown": fault.message})

    def _way(self, host: Host, place: Place) -> tuple[str, ...]:
        if host.jump is not None:
            return self._resolve(self._world.pool.place(host.jump).address)
        return self._resolve(place.gateway) if place.gateway is not None else ()

    def _of_host(self, host: Host, place: Place) -> tuple[str, ...]:
        try:
            return self._resolve(place.address)
        except Errored:
            if not _behind(host, place):
                raise
            return ()  # Only the machine on the way knows the name; the host's key tells.

    def _keys(
        self, host: Host, place: Place, addresses: tuple[str, ...]
    ) -> tuple[HostKey, ...]:
        pool = self._world.pool
        if self._log_in:
            return pool.shown_keys(host.name)
        known = pool.known_keys(host.name, addresses)
        if known:
            return known
        if _behind(host, place):
            raise Errored(
                "its host key is in no known_hosts file, and it is behind another machine, on "
                "which nobody logs in only to ask for it"
            )
        return pool.shown_keys(host.name)


def _behind(host: Host, place: Place) -> bool:
    """Whether it is reached through another machine."""
    return host.jump is not None or place.gateway is not None or place.command
