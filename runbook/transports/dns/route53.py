"""Amazon Route 53 by boto3 (the extra ``route53``): change batches as compare-and-swap.

Source: the Route 53 API reference, ChangeResourceRecordSets. A change batch is transactional. Its
DELETE has to give the set's values and TTL exactly as they are, and its CREATE fails where the
set exists: DELETE of what was and CREATE of what shall be, in one batch, is a compare-and-swap by
the server, TTL included. UPSERT, which asks nothing, is never used.

Weighted sets of one name and type are one set with variants: all of them are deleted as they were
and created as they shall be, so that the swap is of the whole, with what hangs on each (a health
check, an alias). Sets with another routing policy (latency, failover, …) or a plain one's health
check are read, all of one name and type as one set, and never changed; aliases to AWS's own
resources have no records and are left out.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dns.rdatatype

from runbook.errors import Errored
from runbook.model.dns import PROVIDERS, Change, RRset, Variant, Zone
from runbook.model.ports import UpdateRight
from runbook.transports.dns.provider import (
    Applied,
    Conflict,
    Outcome,
    Present,
    Rejected,
    inadmissible,
    may_read,
)
from runbook.transports.dns.records import LEFT_OUT, canonical_name, canonical_text, parse_type
from runbook.transports.dns.route53_client import Calls, Refusal

_ONE_BY_ONE = 3
"""Sets up to which single questions are cheaper than the whole zone."""

_SIMPLE = {"Name", "Type", "TTL", "ResourceRecords"}
_WEIGHTED = {"SetIdentifier", "Weight"}
_OTHER_POLICIES = {
    "CidrRoutingConfig", "Failover", "GeoLocation", "GeoProximityLocation", "MultiValueAnswer",
    "Region",
}
_OCTAL = re.compile(r"\\([0-3][0-7]{2})")
_DECIMAL = re.compile(r"\\(\d{3})")


@dataclass(slots=True)
class _Held:
    """All sets of one name and type. ``texts``: their own spelling by canonical data."""

    name: str
    rtype: str
    ttl: int = 0
    texts: dict[str, str] = field(default_factory=dict)
    sets: list[Mapping[str, Any]] = field(default_factory=list)
    """As they were read: a DELETE has to match, spelling included."""
    variants: list[Variant] = field(default_factory=list)
    special: str = ""
    """Why it is not changed: an alias, a routing policy other than weights."""

    def add(self, data: Mapping[str, Any]) -> None:
        self.sets.append(data)
        self.ttl = max(self.ttl, int(data.get("TTL", 0)))
        rdatas = []
        for record in data.get("ResourceRecords", ()):
            text = str(record["Value"])
            rdatas.append(canonical_text(self.rtype, _from_octal(text)))
            self.texts[rdatas[-1]] = text
        odd = data.keys() - _SIMPLE
        if odd >= _WEIGHTED and not odd & _OTHER_POLICIES:
            also = {key: data[key] for key in sorted(odd - _WEIGHTED)}
            self.variants.append(Variant(
                name=str(data["SetIdentifier"]), weight=int(data["Weight"]),
                ttl=int(data.get("TTL", 0)), rdatas=tuple(sorted(rdatas)),
                also=json.dumps(also, sort_keys=True) if also else "",
            ))
        elif odd:
            identifier = f" {data['SetIdentifier']!r}" if "SetIdentifier" in data else ""
            self.special = f"{', '.join(sorted(odd))}{identifier}"

    @property
    def rrset(self) -> RRset | None:
        if not self.texts and not self.variants:
            return None
        variants = () if self.special else sorted(self.variants, key=lambda one: one.name)
        return RRset(
            name=self.name, rtype=self.rtype, ttl=self.ttl, rdatas=tuple(sorted(self.texts)),
            variants=tuple(variants),
        )


class Route53:
    """``secret`` gives a secret's value; ``timeout`` is the patience of one request."""

    caps = PROVIDERS["route53"]

    def __init__(self, secret: Callable[[str], str], timeout: float) -> None:
        self._secret = secret
        self._timeout = timeout
        self._lock = threading.Lock()
        self._opened: dict[str, Calls] = {}

    def records(self, zone: Zone) -> tuple[RRset, ...]:
        held = self._all(zone)
        found = (held[key].rrset for key in sorted(held) if parse_type(key[1]) not in LEFT_OUT)
        return tuple(one for one in found if one is not None and one.rdatas)

    def present(self, zone: Zone, keys: Sequence[tuple[str, str]]) -> Present:
        return _served(self._some(zone, keys), keys)

    def apply(self, zone: Zone, changes: tuple[Change, ...]) -> Outcome:
        refused = inadmissible(zone, changes)
        if refused is not None:
            return refused
        keys = [change.key for change in changes]
        held = self._some(zone, keys)
        present = _served(held, keys)
        if any(present[change.key] != change.before for change in changes):
            return Conflict()
        wanted = [change for change in changes if change.before != change.after]
        for change in wanted:
            if change.key in held and held[change.key].special:
                return Rejected(
                    f"{' '.join(change.key)} at Route 53 is no plain set "
                    f"({held[change.key].special}); nothing was changed. Leave it out (`leave` or "
                    "`names` of the step) and change it by hand"
                )
        if not wanted:
            return Applied()
        batch = [
            *({"Action": "DELETE", "ResourceRecordSet": one}
              for c in wanted if c.before is not None for one in held[c.key].sets),
            *({"Action": "CREATE", "ResourceRecordSet": one}
              for c in wanted if c.after is not None for one in _to_make(c.after, held)),
        ]
        try:
            self._calls(zone).change(batch)
        except Refusal as refusal:
            now = _served(self._some(zone, keys), keys)
            if any(now[change.key] != change.before for change in changes):
                return Conflict()
            return Rejected(
                f"Route 53 refused the change batch for {zone.name}: {refusal}; "
                "nothing was changed"
            )
        return Applied()

    def update_right(self, zone: Zone, changes: tuple[Change, ...]) -> UpdateRight:
        return may_read(self, zone, changes)

    def _calls(self, zone: Zone) -> Calls:
        with self._lock:
            found = self._opened.get(zone.name)
            if found is None:
                keys = self._secret(zone.key) if zone.key is not None else None
                found = Calls.open(zone, keys, self._timeout)
                self._opened[zone.name] = found
            return found

    def _all(self, zone: Zone) -> dict[tuple[str, str], _Held]:
        return _held(zone, self._calls(zone).sets())

    def _some(
        self, zone: Zone, keys: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], _Held]:
        if len(keys) > _ONE_BY_ONE:
            return self._all(zone)
        calls = self._calls(zone)
        found: dict[tuple[str, str], _Held] = {}
        for key in keys:
            found |= _held(zone, _of_key(calls, key))
        return found


def _of_key(calls: Calls, key: tuple[str, str]) -> Iterator[Mapping[str, Any]]:
    """The sets of one name and type; they come first in a listing that starts there."""
    for data in calls.sets(key):
        if (_name(data), data["Type"]) != key:
            return
        yield data


def _held(
    zone: Zone, sets: Iterator[Mapping[str, Any]]
) -> dict[tuple[str, str], _Held]:
    found: dict[tuple[str, str], _Held] = {}
    try:
        for data in sets:
            name, rtype = _name(data), dns.rdatatype.to_text(parse_type(data["Type"]))
            found.setdefault((name, rtype), _Held(name, rtype)).add(data)
    except (KeyError, ValueError) as fault:
        raise Errored(
            f"a record set of {zone.name} at Route 53 cannot be read: {fault!r}"
        ) from fault
    return found


def _served(
    held: Mapping[tuple[str, str], _Held], keys: Sequence[tuple[str, str]]
) -> Present:
    return {key: held[key].rrset if key in held else None for key in keys}


def _name(data: Mapping[str, Any]) -> str:
    return canonical_name(_from_octal(str(data["Name"])))


def _to_make(
    rrset: RRset, held: Mapping[tuple[str, str], _Held]
) -> Iterator[dict[str, Any]]:
    """The set, or the set of each of its variants; records that stay are spelled as they were."""
    texts = held[rrset.key].texts if rrset.key in held else {}
    owner = {"Name": _to_octal(rrset.name), "Type": rrset.rtype}

    def records(ttl: int, rdatas: Sequence[str]) -> dict[str, Any]:
        values = [texts.get(rdata) or _to_octal(rdata) for rdata in rdatas]
        # An alias has neither.
        made = {"TTL": ttl, "ResourceRecords": [{"Value": value} for value in values]}
        return made if rdatas else {}

    if not rrset.variants:
        yield {**owner, **records(rrset.ttl, rrset.rdatas)}
    for one in rrset.variants:
        also = json.loads(one.also) if one.also else {}
        weighted = {"SetIdentifier": one.name, "Weight": one.weight}
        yield {**owner, **weighted, **records(one.ttl, one.rdatas), **also}


def _from_octal(text: str) -> str:
    """Route 53 writes unusual characters as three *octal* digits, zone files as decimal ones."""
    return _OCTAL.sub(lambda found: f"\\{int(found[1], 8):03d}", text)


def _to_octal(text: str) -> str:
    return _DECIMAL.sub(lambda found: f"\\{int(found[1]):03o}", text)
