"""PowerDNS Authoritative's own HTTP API, version 1: ``PATCH`` of a zone's record sets.

Source: the "Built-in Webserver and HTTP API" chapter of its manual. One PATCH is one transaction;
it knows no prerequisites, so the sets are read again right before it is sent. A PATCH replaces
sets as a whole: records that are disabled in the database and comments are part of a set there,
are not served, and are kept.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dns.rdatatype

from runbook.errors import Errored
from runbook.model.dns import PROVIDERS, Change, RRset, Zone
from runbook.model.ports import UpdateRight
from runbook.transports.dns.api import JsonApi, api_key
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
from runbook.transports.dns.records import (
    LEFT_OUT,
    canonical_name,
    canonical_text,
    parse_type,
)

_OWN_TYPES = {"ALIAS", "LUA", "ENT"}
"""Types of PowerDNS alone. They are nothing a resolver ever sees, and are left out."""

_OTHER_FORM = re.compile(r"'(?P<sent>.*)': Not in expected format \(parsed as '(?P<form>.*)'\)")


@dataclass(slots=True)
class _Stored:
    """A set as the database has it. ``texts``: its own spelling of each record, by canonical."""

    name: str
    rtype: str
    ttl: int
    texts: dict[str, str] = field(default_factory=dict)
    disabled: list[str] = field(default_factory=list)

    @property
    def rrset(self) -> RRset | None:
        """What is served; None where every record is disabled."""
        if not self.texts:
            return None
        rdatas = tuple(sorted(self.texts))
        return RRset(name=self.name, rtype=self.rtype, ttl=self.ttl, rdatas=rdatas)


_Sets = Mapping[tuple[str, str], _Stored]


class PowerDns:
    """``secret`` gives a secret's value; ``timeout`` is the patience of one request."""

    caps = PROVIDERS["powerdns"]

    def __init__(self, secret: Callable[[str], str], timeout: float) -> None:
        self._secret = secret
        self._timeout = timeout

    def records(self, zone: Zone) -> tuple[RRset, ...]:
        found = (
            one.rrset for one in self._sets(zone).values()
            if parse_type(one.rtype) not in LEFT_OUT
        )
        return tuple(sorted((one for one in found if one is not None), key=lambda one: one.key))

    def present(self, zone: Zone, keys: Sequence[tuple[str, str]]) -> Present:
        return _served(self._sets(zone), keys)

    def apply(self, zone: Zone, changes: tuple[Change, ...]) -> Outcome:
        refused = inadmissible(zone, changes)
        if refused is not None:
            return refused
        wanted = [change for change in changes if change.before != change.after]
        forms: dict[str, str] = {}
        while True:
            sets = self._sets(zone)
            present = _served(sets, [change.key for change in changes])
            if any(not stands(present[c.key], c.before, self.caps) for c in changes):
                return Conflict()
            if not wanted:
                return Applied()
            body = {"rrsets": _patch(wanted, sets, forms)}
            reply = self._api(zone).change("PATCH", _path(zone), body)
            if 200 <= reply.status < 300:
                return Applied()
            other = _other_form(wanted, str((reply.data or {}).get("error", "")))
            if other is None or other[0] in forms:
                return Rejected(
                    f"PowerDNS refused the update of {zone.name} ({reply.status}): {reply.text}; "
                    "nothing was changed"
                )
            forms[other[0]] = other[1]

    def update_right(self, zone: Zone, changes: tuple[Change, ...]) -> UpdateRight:
        return may_read(self, zone, changes)

    def _api(self, zone: Zone) -> JsonApi:
        if zone.endpoint is None:
            raise Errored(
                f"the zone {zone.name} has provider powerdns but no `endpoint:`",
                hint="the URL of its web server, like http://127.0.0.1:8081",
            )
        return JsonApi(
            zone.endpoint, header="X-API-Key", secret=self._secret(api_key(zone)),
            timeout=self._timeout,
        )

    def _sets(self, zone: Zone) -> _Sets:
        data = self._api(zone).read(_path(zone))
        try:
            found = (_stored(one) for one in data["rrsets"] if one["type"] not in _OWN_TYPES)
            return {(one.name, one.rtype): one for one in found}
        except (KeyError, TypeError, ValueError) as fault:
            raise Errored(
                f"{zone.endpoint} gave an answer for {zone.name} that cannot be read: {fault!r}",
                hint="is `endpoint` the web server of PowerDNS Authoritative?",
            ) from fault


def _path(zone: Zone) -> str:
    """The zone's name with its final dot is its id, a slash in it written ``=2F``."""
    ident = zone.zone_id or zone.name.replace("/", "=2F")
    return f"/api/v1/servers/localhost/zones/{urllib.parse.quote(ident, safe='=')}"


def _stored(data: Mapping[str, Any]) -> _Stored:
    rtype = dns.rdatatype.to_text(parse_type(data["type"]))
    made = _Stored(canonical_name(data["name"]), rtype, int(data["ttl"]))
    for record in data["records"]:
        if record.get("disabled"):
            made.disabled.append(record["content"])
        else:
            made.texts[canonical_text(rtype, record["content"])] = record["content"]
    return made


def _served(sets: _Sets, keys: Iterable[tuple[str, str]]) -> Present:
    return {key: sets[key].rrset if key in sets else None for key in keys}


def _patch(
    changes: Sequence[Change], sets: _Sets, forms: Mapping[str, str]
) -> list[dict[str, Any]]:
    """What goes comes first, or an address could not become an alias."""
    gone: list[dict[str, Any]] = []
    made: list[dict[str, Any]] = []
    for change in changes:
        name, rtype = change.key
        stored = sets.get(change.key)
        disabled = stored.disabled if stored is not None else []
        texts = stored.texts if stored is not None else {}
        if change.after is None and not disabled:
            gone.append({"name": name, "type": rtype, "changetype": "DELETE"})
            continue
        rdatas = change.after.rdatas if change.after is not None else ()
        served = [texts.get(one) or forms.get(one) or one for one in rdatas]
        made.append(
            {
                "name": name, "type": rtype, "changetype": "REPLACE",
                "ttl": change.after.ttl if change.after is not None else stored and stored.ttl,
                "records": [
                    *({"content": text, "disabled": False} for text in served),
                    *({"content": text, "disabled": True} for text in disabled),
                ],
            }
        )
    return [*gone, *made]


def _other_form(changes: Sequence[Change], error: str) -> tuple[str, str] | None:
    """PowerDNS takes a record only in its own spelling and says which; (ours, its).

    None where that is not what it says, or where its spelling means another record.
    """
    said = _OTHER_FORM.search(error)
    if said is None:
        return None
    sent, form = said["sent"], said["form"]
    for change in changes:
        if change.after is not None and sent in change.after.rdatas:
            try:
                same = canonical_text(change.after.rtype, form) == sent
            except ValueError:  # not even a record
                return None
            return (sent, form) if same else None
    return None
