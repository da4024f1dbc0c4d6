"""Whether staging is apart from production: a rehearsal there must not touch what is live.

Names prove nothing: the same machine may be called otherwise, and the same name may lead to
another one. So both inventories are found out first, and compared by what they are:

| what | is production's when |
|---|---|
| a host | it has an address of one of production's hosts, or shows the host key of one |
| a zone | it has the name of one of production's, and its changes go to a server of that one; or both have one id at their provider |
| a database | it has the address and the port of one |
| a value of a step | it names a host of production, or an address; or a URL that the controller asks leads to one |

What cannot be found out is refused as well: unknown is not safe. Hosts that are nothing but a way
(``jump:``, or the ``via:`` of a database that runs elsewhere) may be shared: nothing is done there.
Two hosts behind different jump hosts may have one private address; there the key decides alone.
"""  # noqa: E501 - a table row cannot be broken

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runbook.engine.begin import hosts_of
from runbook.errors import Errored, Refused
from runbook.model.database import Database
from runbook.model.dns import Zone
from runbook.model.inventory import Inventory
from runbook.model.plan import Plan
from runbook.model.whereabouts import HostPlace, Whereabouts, canonical
from runbook.planning.mentions import asked_names, mentions, values

_HOSTED = frozenset({"route53", "cloudflare", "octodns"})
"""Providers whose zones are found by an account and an id, not by the address of a server."""
_LOOPBACK = ("127.", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Apart:
    """What was compared. ``touching``: what is production's; ``unknown``: what could not be found
    out. Both in words, and both empty where staging is apart."""

    hosts: int
    zones: int
    databases: int
    shared: tuple[str, ...]
    """Hosts of staging that are production's, too, and nothing but a way."""
    touching: tuple[str, ...]
    unknown: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {"hosts": self.hosts, "zones": self.zones, "databases": self.databases,
                "shared": list(self.shared)}


def compare(production: Plan, staging: Plan, *, live: Whereabouts, stage: Whereabouts) -> Apart:
    """``live`` finds out about production's machines, ``stage`` about those of staging."""
    return _Comparison(production, staging, live, stage).made()


def refuse_touching(found: Apart, *, unknown: bool = True) -> None:
    """Raises Refused with all that is production's and, with ``unknown``, all that might be."""
    told = [*found.touching, *(found.unknown if unknown else ())]
    if not told:
        return
    hints = []
    if found.touching:
        hints.append("mend `staging:` of the runbook; a clone that still has production's host "
                     "keys gets its own by `rm /etc/ssh/ssh_host_*; ssh-keygen -A`")
    if found.unknown and unknown:
        hints.append("where it cannot be told what something is, it might be production's: write "
                     "addresses in place of names, and put host keys into known_hosts")
    head = "staging reaches into production" if found.touching else (
        "nobody can tell whether staging is apart from production")
    lines = "".join(f"\n  - {one}" for one in told)
    raise Refused(f"{head}; nothing was started:{lines}", hint="; ".join(hints))


class _Comparison:
    def __init__(
        self, production: Plan, staging: Plan, live: Whereabouts, stage: Whereabouts
    ) -> None:
        self._production = production
        self._staging = staging
        self._live = live
        self._stage = stage
        self._touching: dict[str, None] = {}
        self._unknown: dict[str, None] = {}
        self._shared: list[str] = []

    def made(self) -> Apart:
        ours = self._live.hosts(host.name for host in self._production.inventory.hosts)
        theirs = self._stage.hosts(host.name for host in self._staging.inventory.hosts)
        self._hosts(ours, theirs)
        self._zones()
        self._databases(ours, theirs)
        self._named(ours)
        return Apart(
            hosts=len(theirs), zones=len(self._staging.zones),
            databases=len(self._staging.databases), shared=tuple(self._shared),
            touching=tuple(self._touching), unknown=tuple(self._unknown),
        )

    # -- hosts ---------------------------------------------------------------------------------

    def _hosts(self, ours: Mapping[str, HostPlace], theirs: Mapping[str, HostPlace]) -> None:
        ways = only_ways(self._staging)
        for place in ours.values():
            if place.unknown:
                self._unknown[f"production's {_place(place)}: {place.unknown}"] = None
        for name, place in theirs.items():
            same = {
                other.host: why for other in ours.values() if (why := _same_host(place, other))
            }
            if name in ways:
                self._shared += [name] if same else []
                continue
            if place.unknown:
                self._unknown[f"staging's {_place(place)}: {place.unknown}"] = None
            for other, why in same.items():
                self._touching[f"staging's {_place(place)} is production's "
                               f"{_place(ours[other])}: {why}"] = None

    # -- zones ---------------------------------------------------------------------------------

    def _zones(self) -> None:
        for stage, live in itertools.product(self._staging.zones, self._production.zones):
            if "file" in (stage.provider, live.provider):
                continue  # It is never changed.
            pair = f"staging's zone {stage.called} and production's {live.called}"
            by_id = _by_id(stage, live)
            if by_id:
                self._touching[f"{pair} are one zone: {by_id}"] = None
            elif by_id is None and stage.name == live.name:
                self._same_name(stage, live, pair)

    def _same_name(self, stage: Zone, live: Zone, pair: str) -> None:
        hosted = {zone.provider for zone in (stage, live)} & _HOSTED
        if "octodns" in hosted or (hosted and stage.provider == live.provider):
            wanted = "give the zone of staging a name of its own" if "octodns" in hosted else (
                "write the `zone_id` of both")
            self._unknown[f"{pair} have one name, and nobody can tell whether they are one zone at "
                          f"{' and '.join(sorted({stage.provider, live.provider}))}: "
                          f"{wanted}"] = None
            return
        if hosted:
            return  # One is in an account, the other on servers or in another's account.
        try:
            common = set(self._stage.changed_at(stage)) & set(self._live.served_at(live))
        except Errored as fault:
            self._unknown[f"{pair} have one name: {fault.message}"] = None
            return
        if common:
            self._touching[f"{pair} have one name, and changes would go to a server of "
                           f"production: {', '.join(sorted(common))}"] = None

    # -- databases -----------------------------------------------------------------------------

    def _databases(self, ours: Mapping[str, HostPlace], theirs: Mapping[str, HostPlace]) -> None:
        if not self._staging.databases:
            return
        stage = self._found(self._staging, self._stage, theirs, "staging's")
        live = self._found(self._production, self._live, ours, "production's")
        for one, other in itertools.product(stage, live):
            common = set(one.addresses) & set(other.addresses)
            # A server on its own machine is as far apart as the machines are, which are compared
            # by their keys.
            elsewhere = one.on_host and other.on_host and _other_way(one.way, other.way)
            if common and one.database.port == other.database.port and not elsewhere:
                self._touching[
                    f"staging's database {one.database.name} is production's "
                    f"{other.database.name}: {', '.join(sorted(common))} port "
                    f"{one.database.port}"] = None

    def _found(
        self, plan: Plan, where: Whereabouts, hosts: Mapping[str, HostPlace], whose: str
    ) -> list[_DatabasePlace]:
        found = []
        for database in plan.databases:
            try:
                found.append(_database(database, plan.inventory, where, hosts))
            except Errored as fault:
                self._unknown[f"{whose} database {database.name}: {fault.message}"] = None
        return found

    # -- what steps name -----------------------------------------------------------------------

    def _named(self, ours: Mapping[str, HostPlace]) -> None:
        hosts, places = named_places(self._production, self._staging, ours)
        for one in mentions(self._staging, hosts=hosts, places=places):
            self._touching[f"{one.where} names {one.text}, {one.place}"] = None
        for name, where in asked_names(self._staging).items():
            if canonical(name) is not None:
                continue  # Named above.
            try:
                leads = self._stage.addresses(name)
            except Errored:
                continue  # Nothing can be sent to a name that leads nowhere.
            for address in leads:
                if address in places:
                    self._touching[f"{where} asks {name}, which leads from here to {address}, "
                                   f"{places[address]}"] = None


def only_ways(plan: Plan) -> frozenset[str]:
    """Hosts of a plan's inventory that others are reached through and on which nothing is done."""
    ways = {host.jump for host in plan.inventory.hosts if host.jump is not None}
    ways |= {
        one.via for one in plan.databases if one.via is not None and not _on_host(one)
    }
    busy = {*hosts_of(plan)[0], *(one.host for one in plan.databases)}
    busy |= {one.via for one in plan.databases if one.via is not None and _on_host(one)}
    named = {value.text for value in values(plan)}
    return frozenset(ways - busy - named)


def named_places(
    production: Plan, staging: Plan, found: Mapping[str, HostPlace]
) -> tuple[dict[str, str], dict[str, str]]:
    """Names of production's hosts, and their addresses as they are written and, by ``found``, as
    they are resolved; each with what it is in words. What staging declares itself is left out: it
    is compared as a host, or means something else there."""
    own = {text for host in staging.inventory.hosts for text in (host.name, host.address)}
    words = {word for host in staging.inventory.hosts
             for word in (host.site, *host.roles, *host.groups)}
    words |= {database.name for database in staging.databases}
    hosts = {
        host.name: f"a host of production that staging does not have ({host.address})"
        for host in production.inventory.hosts if host.name not in own | words
    }
    places: dict[str, str] = {}
    for host in production.inventory.hosts:
        written = canonical(host.address) or host.address.lower().rstrip(".")
        resolved = found[host.name].addresses if host.name in found else ()
        for one in (written, *resolved):
            dotted = "." in one or ":" in one
            if dotted and one not in own and not _loopback(one):
                places.setdefault(one, f"which is production's {host.name}")
    return hosts, places


def _same_host(stage: HostPlace, live: HostPlace) -> str:
    """Why both are one machine; empty: nothing says so."""
    keys = [key for key in stage.keys if key in live.keys]
    if keys:
        return f"it shows the same host key, {keys[0]}"
    common = [one for one in stage.addresses if one in live.addresses]
    if common and not _other_way(stage.way, live.way):
        return f"it has the same address, {', '.join(common)}"
    return ""


def _other_way(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether both are reached through jump hosts, and these are different machines."""
    return bool(one) and bool(other) and not set(one) & set(other)


def _place(place: HostPlace) -> str:
    told = [place.at, *(one for one in place.addresses if not place.at.startswith(f"{one}:"))]
    return f"{place.host} ({', '.join(filter(None, told))})"


def _by_id(one: Zone, other: Zone) -> str | None:
    """By the id of a zone at the same provider: empty where the ids differ, None where they do not
    tell."""
    if one.provider != other.provider or one.provider not in _HOSTED:
        return None
    ids = [zone.zone_id.rpartition("/")[2] for zone in (one, other) if zone.zone_id]
    if len(ids) < 2:
        return None
    return f"{one.provider} has it as {ids[0]}" if ids[0] == ids[1] else ""


@dataclass(frozen=True, slots=True)
class _DatabasePlace:
    database: Database
    addresses: tuple[str, ...]
    way: tuple[str, ...]
    on_host: bool


def _database(
    database: Database, inventory: Inventory, where: Whereabouts, hosts: Mapping[str, HostPlace]
) -> _DatabasePlace:
    """Where a database listens. Raises Errored."""
    host = inventory.get(database.host)
    own = host.address if host is not None else database.host
    on_host = database.address is None or _on_host(database)
    if database.via is None:
        return _DatabasePlace(database, where.addresses(database.address or own), (), on_host)
    through = hosts.get(database.via)
    if through is None or through.unknown:
        raise Errored(f"it is reached through {database.via}, of which nothing is known")
    if _on_host(database):
        return _DatabasePlace(database, through.addresses, through.way, on_host)
    return _DatabasePlace(
        database, where.addresses(database.address or own), through.addresses, on_host
    )


def _on_host(database: Database) -> bool:
    """It is reached at the loopback address of the machine that its tunnel begins on."""
    if database.via is None:
        return False
    if database.address is None:
        return database.via == database.host
    return _loopback(database.address)


def _loopback(address: str) -> bool:
    return address.startswith(_LOOPBACK)
