"""The DNS of a world: one authoritative server for every zone, one resolver for every site."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path

import dns.exception
import dns.name

from runbook.errors import InvalidInput
from runbook.model.dns import Zone
from runbook.model.plan import Plan
from runbook.model.ports import Clock
from runbook.model.runbook import ValuePath
from runbook.sandbox.config import SandboxConfig
from runbook.sandbox.faults import Fault, invalid
from runbook.sandbox.nameserver import AuthoritativeServer
from runbook.sandbox.resolver import CachingResolver

CONTROLLER_SITE = ""
"""Key of the controller's own resolver among those of the sites."""


class NameService:
    """Name servers under the addresses the plan knows them by.

    After :meth:`start`: ``resolvers`` maps a site to the loopback port of its resolver (each has
    a cache of its own), ``endpoints`` is Endpoints.dns, ``tsig`` is Endpoints.tsig, and
    ``authoritative`` the server's port.
    """

    def __init__(
        self, plan: Plan, config: SandboxConfig, config_path: Path, clock: Clock
    ) -> None:
        self._plan = plan
        self._config = config
        self._config_path = config_path
        self._clock = clock
        self._server: AuthoritativeServer | None = None
        self._caches: list[CachingResolver] = []
        self._origins: list[str] = []
        self.resolvers: dict[str, int] = {}
        self.endpoints: dict[str, str] = {}
        self.tsig: dict[str, str] = {}
        self.authoritative = 0

    def start(self, names: Mapping[str, str]) -> None:
        """``names``: addresses of the inventory's hosts. Raises InvalidInput."""
        texts = self._texts()
        try:
            self._server = AuthoritativeServer(texts, self._keys(), self._clock)
        except (dns.exception.DNSException, ValueError) as fault:
            raise self._invalid(("zones",), str(fault)) from fault
        self._origins = list(texts)
        self.authoritative = self._server.start()
        upstreams = dict.fromkeys(texts, ("127.0.0.1", self.authoritative))
        sites = {site.name: site.resolver for site in self._plan.inventory.sites}
        for site in (CONTROLLER_SITE, *sites):
            cache = CachingResolver(upstreams, self._clock, dict(names))
            self._caches.append(cache)
            self.resolvers[site] = cache.start()
        self._fill_endpoints(sites)

    def stop(self) -> None:
        for cache in self._caches:
            cache.stop()
        if self._server is not None:
            self._server.stop()

    def snapshot(self) -> dict[str, tuple[str, ...]]:
        """Records by zone, sorted, the SOA's serial as 0."""
        out: dict[str, list[str]] = {origin: [] for origin in self._origins}
        if self._server is None:
            return {}
        for line in self._server.snapshot().splitlines():
            owner = dns.name.from_text(line.split(" ", 1)[0])
            fits = [o for o in self._origins if owner.is_subdomain(dns.name.from_text(o))]
            if fits:  # Else it is of the world's own making, and no zone of the runbook.
                out[max(fits, key=len)].append(line)
        return {origin: tuple(lines) for origin, lines in out.items()}

    def _invalid(self, path: ValuePath, text: str, hint: str = "") -> InvalidInput:
        return invalid(self._config_path, [Fault(path, text, hint)])

    def _texts(self) -> dict[str, str]:
        """Text of every zone by its absolute name: sandbox.yml's, else the runbook's own file."""
        paths = {
            _absolute(name): self._config_path.parent / file
            for name, file in self._config.zones.items()
        }
        for zone in self._plan.zones:
            if zone.view:
                raise self._invalid(
                    ("zones",),
                    f"{zone.called} is a view, and a sandbox has one view of a zone only",
                    "rehearse it with --level probe",
                )
            if zone.name not in paths and zone.file is not None:
                paths[zone.name] = Path(self._plan.directory, zone.file)
            if zone.name not in paths:
                raise self._invalid(
                    ("zones",), f"the runbook's zone {zone.name} has no file here",
                    f"say its records: `zones: {{{zone.name.rstrip('.')}: FILE}}`",
                )
        return {name: path.read_text(encoding="utf-8") for name, path in paths.items()}

    def _keys(self) -> dict[str, tuple[str, str]]:
        """TSIG keys by name, from the sandbox's secrets: ``name:algorithm:base64``.

        Without any the server is open to all. Else a zone whose provider has an API gets a key
        made up here: its own key opens that API and is none of TSIG's.
        """
        keys: dict[str, tuple[str, str]] = {}
        for zone in self._plan.zones:
            if zone.key is None or zone.provider != "rfc2136":
                continue
            parts = self._config.secrets.get(zone.key, "").split(":")
            if len(parts) != 3:
                raise self._invalid(
                    ("secrets", zone.key), f"zone {zone.name} needs it as name:algorithm:base64",
                    'made up, like "move:hmac-sha256:c2FuZGJveA=="',
                )
            keys[parts[0]] = (parts[1], parts[2])
        for zone in self._plan.zones if keys else ():
            if zone.provider != "rfc2136":
                made_up = base64.b64encode(secrets.token_bytes(32)).decode()
                keys[f"sandbox.{zone.name}"] = ("hmac-sha256", made_up)
                self.tsig[zone.called] = f"sandbox.{zone.name}:hmac-sha256:{made_up}"
        return keys

    def _fill_endpoints(self, sites: Mapping[str, str | None]) -> None:
        place = f"127.0.0.1:{self.authoritative}"
        for zone in self._plan.zones:
            for server in (*zone.servers, *zone.secondaries, *self._apex_servers(zone)):
                self._add(server, place)
            for resolver in zone.resolvers:
                self._add(resolver, f"127.0.0.1:{self.resolvers[CONTROLLER_SITE]}")
        for site, own in sites.items():
            if own:
                self._add(own, f"127.0.0.1:{self.resolvers[site]}")

    def _add(self, name: str, place: str) -> None:
        """A server is asked for by ``name``, or by ``address:port`` taken apart. A name stands
        here once, without its final dot, or one server would count as two."""
        self.endpoints[name.rstrip(".")] = place
        head, colon, port = name.rpartition(":")
        if colon and port.isdigit() and ":" not in head:
            self.endpoints[head] = place

    def _apex_servers(self, zone: Zone) -> list[str]:
        """Names of the zone's own name servers, the SOA's among them, and their addresses where
        the zone has them."""
        records = [line.split(" ", 4) for line in self.snapshot().get(zone.name, ())]
        names = [r[4] for r in records if r[0] == zone.name and r[3] == "NS"]
        names += [r[4].split()[0] for r in records if r[0] == zone.name and r[3] == "SOA"]
        addresses = [r[4] for r in records if r[0] in names and r[3] in ("A", "AAAA")]
        return [*names, *addresses]


def _absolute(name: str) -> str:
    return name.lower().rstrip(".") + "."
