"""Cloudflare's API, version 4: the batch endpoint of a zone's DNS records.

Source: its API reference ("Batch DNS Records") and "Batch record changes" of its documentation.
One batch is one transaction of its database: deletes, patches, puts, posts in that order, and
nothing if one fails; name servers get the records one by one afterwards. It knows records, not
sets, and no prerequisites: the records are read again right before the batch is sent. A record
that stays, or becomes another of its set, is patched in place and keeps its comment and tags.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dns.rdatatype

from runbook.errors import Errored
from runbook.model.dns import PROVIDERS, Change, RRset, Zone
from runbook.model.ports import UpdateRight
from runbook.transports.dns.api import JsonApi, Reply, api_key
from runbook.transports.dns.cloudflare_records import AUTOMATIC, SERVED, fields_of, rdata_of
from runbook.transports.dns.provider import (
    Applied,
    Conflict,
    Outcome,
    Present,
    Rejected,
    inadmissible,
    may_read,
    stands,
)
from runbook.transports.dns.records import LEFT_OUT, canonical_name, parse_type

API = "https://api.cloudflare.com/client/v4"
_PAGE = 1000
_OPERATIONS = ("deletes", "patches", "posts")


@dataclass(slots=True)
class _Record:
    ident: str
    rdata: str
    ttl: int
    """As it is served: automatic is 300."""
    proxied: bool


@dataclass(slots=True)
class _Held:
    """The records of one name and type."""

    name: str
    rtype: str
    records: list[_Record] = field(default_factory=list)

    @property
    def rrset(self) -> RRset:
        """Records of a set may have different TTLs there; it counts as having the greatest."""
        return RRset(
            name=self.name, rtype=self.rtype, ttl=max(one.ttl for one in self.records),
            rdatas=tuple(sorted({one.rdata for one in self.records})),
        )


class Cloudflare:
    """``secret`` gives a secret's value; ``timeout`` is the patience of one request.

    A *proxied* record is one that Cloudflare answers for with its own addresses. It is read like
    any other, but a change of it is refused: nobody could see from outside when it takes effect.
    """

    caps = PROVIDERS["cloudflare"]

    def __init__(self, secret: Callable[[str], str], timeout: float) -> None:
        self._secret = secret
        self._timeout = timeout
        self._ids: dict[tuple[str | None, str], str] = {}
        """Ids of zones that were looked up; they never change."""

    def records(self, zone: Zone) -> tuple[RRset, ...]:
        held = self._held(self._api(zone), zone)
        return tuple(
            held[key].rrset for key in sorted(held) if parse_type(key[1]) not in LEFT_OUT
        )

    def present(self, zone: Zone, keys: Sequence[tuple[str, str]]) -> Present:
        held = self._held(self._api(zone), zone)
        return {key: held[key].rrset if key in held else None for key in keys}

    def apply(self, zone: Zone, changes: tuple[Change, ...]) -> Outcome:
        refused = inadmissible(zone, changes)
        if refused is not None:
            return refused
        api = self._api(zone)
        path = f"/zones/{self._zone_id(api, zone)}/dns_records/batch"
        held = self._held(api, zone)
        if not self._all_stand(held, changes):
            return Conflict()
        wanted = [change for change in changes if change.before != change.after]
        for change in wanted:
            if change.key in held and any(one.proxied for one in held[change.key].records):
                return Rejected(
                    f"{' '.join(change.key)} is proxied by Cloudflare: its TTL and its address "
                    "are not what resolvers see; nothing was changed. Leave it out (`leave` or "
                    "`names` of the step) and change it by hand, or make it DNS only"
                )
        try:
            body = _batch(wanted, held)
        except ValueError as fault:
            return Rejected(f"{fault}; nothing was sent")
        if not any(body.values()):
            return Applied()
        reply = api.change("POST", path, body)
        if reply.status == 200 and (reply.data or {}).get("success"):
            return Applied()
        if not self._all_stand(self._held(api, zone), changes):
            return Conflict()
        return Rejected(
            f"Cloudflare refused the update of {zone.name} ({reply.status}): {_errors(reply)}; "
            "nothing was changed"
        )

    def update_right(self, zone: Zone, changes: tuple[Change, ...]) -> UpdateRight:
        return may_read(self, zone, changes)

    def _all_stand(
        self, held: Mapping[tuple[str, str], _Held], changes: Sequence[Change]
    ) -> bool:
        return all(
            stands(
                held[change.key].rrset if change.key in held else None, change.before, self.caps
            )
            for change in changes
        )

    def _api(self, zone: Zone) -> JsonApi:
        return JsonApi(
            zone.endpoint or API, header="Authorization", prefix="Bearer ",
            secret=self._secret(api_key(zone)), timeout=self._timeout,
        )

    def _zone_id(self, api: JsonApi, zone: Zone) -> str:
        if zone.zone_id is not None:
            return urllib.parse.quote(zone.zone_id, safe="")
        known = self._ids.get((zone.endpoint, zone.name))
        if known is not None:
            return known
        data = api.read("/zones", {"name": zone.name.rstrip(".")})
        found = [str(one["id"]) for one in data.get("result") or ()]
        if len(found) != 1:
            raise Errored(
                f"Cloudflare shows {len(found)} zones named {zone.name} to this token",
                hint="give `zone_id:` of the zone, or a token that may read it",
            )
        self._ids[(zone.endpoint, zone.name)] = found[0]
        return found[0]

    def _held(self, api: JsonApi, zone: Zone) -> Mapping[tuple[str, str], _Held]:
        found: dict[tuple[str, str], _Held] = {}
        try:
            for data in _pages(api, f"/zones/{self._zone_id(api, zone)}/dns_records"):
                name = canonical_name(data["name"])
                rtype = dns.rdatatype.to_text(parse_type(data["type"]))
                ttl = SERVED if data["ttl"] == AUTOMATIC else int(data["ttl"])
                record = _Record(data["id"], rdata_of(data), ttl, bool(data.get("proxied")))
                found.setdefault((name, rtype), _Held(name, rtype)).records.append(record)
        except (KeyError, TypeError, ValueError) as fault:
            raise Errored(
                f"a record of {zone.name} at Cloudflare cannot be read: {fault!r}",
                hint="is `endpoint` right? Without it Cloudflare's own is asked",
            ) from fault
        return found


def _pages(api: JsonApi, path: str) -> Iterator[Mapping[str, Any]]:
    page, last = 1, 1
    while page <= last:
        data = api.read(path, {"page": page, "per_page": _PAGE})
        yield from data["result"]
        last = int(data["result_info"]["total_pages"])
        page += 1


def _batch(
    changes: Sequence[Change], held: Mapping[tuple[str, str], _Held]
) -> dict[str, list[dict[str, Any]]]:
    """Raises ValueError for a record that is not written by this program."""
    body: dict[str, list[dict[str, Any]]] = {name: [] for name in _OPERATIONS}
    for change in changes:
        name, rtype = change.key
        records = held[change.key].records if change.key in held else []
        rdatas = change.after.rdatas if change.after is not None else ()
        ttl = change.after.ttl if change.after is not None else 0
        first = {one.rdata: one for one in reversed(records)}
        stay = [first[rdata] for rdata in rdatas if rdata in first]
        free = [one for one in records if one not in stay]
        fresh = [rdata for rdata in rdatas if rdata not in first]
        label = {"name": name.rstrip("."), "type": rtype, "ttl": ttl}
        for one in stay:
            if one.ttl != ttl:
                body["patches"].append({"id": one.ident, **label, **fields_of(rtype, one.rdata)})
        for one, rdata in zip(free, fresh, strict=False):
            body["patches"].append({"id": one.ident, **label, **fields_of(rtype, rdata)})
        body["posts"] += [{**label, **fields_of(rtype, rdata)} for rdata in fresh[len(free) :]]
        body["deletes"] += [{"id": one.ident} for one in free[len(fresh) :]]
    return body


def _errors(reply: Reply) -> str:
    errors = reply.data.get("errors") if isinstance(reply.data, Mapping) else None
    told = [f"{one.get('message')} ({one.get('code')})" for one in errors or ()]
    return "; ".join(told) or reply.text
