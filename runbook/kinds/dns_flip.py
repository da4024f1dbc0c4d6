"""``dns.flip``: move every record from the old addresses to the new ones, in one update."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from runbook.kinds.dns_common import (
    CANNOT_ASK,
    EXCEPT_SERVERS,
    Addresses,
    Texts,
    Ttl,
    absolute,
    addresses_not_in,
    from_json,
    greatest_ttl,
    label,
    last_seen,
    listed,
    of_set,
    only_names,
    poll_servers,
    provider_evidence,
    reversed_all,
    to_json,
)
from runbook.model.actions import Action, ChangeRecordSet
from runbook.model.dns import Change, RRset, zone_name, zone_origin
from runbook.model.dns_occluded import split_occluded
from runbook.model.dns_rewrite import AddressMap, Rewriting, holds, rewriting
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll


class DnsFlip(Kind):
    """Move every record set that holds an old address to the new one, all in one update.

    A, AAAA, the hints of HTTPS and SVCB and ``ip4:``/``ip6:`` in SPF are rewritten together; the
    update is guarded by what every set was, so a change by somebody else in between refuses it
    and nothing is changed. The step is refused before anything is touched where a set would go on
    leading to the old side: an AAAA beside a moved A that ``from`` does not name, a wider SPF
    network, a URL. Add its address to ``from`` and ``to``, or name it under ``leave``.

    TTLs stay as they are unless ``ttl`` is given. Verified when every authoritative server gives
    the new sets. Undo puts back exactly the sets that were there, with their TTLs.
    """

    name: ClassVar[str] = "dns.flip"
    poll: ClassVar[Poll | None] = Poll(every=1.0, timeout=60.0)
    estimate: ClassVar[float] = 3.0
    example: ClassVar[str] = """\
- id: flip
  kind: dns.flip
  with: {zone: shop.example, from: 198.51.100.10, to: 203.0.113.10}
"""
    output_names: ClassVar[dict[str, str]] = {
        "zone": "the zone",
        "what": "'records': what dns.wait_ttl has to look at",
        "sets": (
            "by 'name TYPE': {before, rdatas: the new records, ttl, old_ttl: greatest TTL served "
            "at the flip, seen_new_at: when the last server was seen with them}"
        ),
        "ttl_served": "the greatest TTL of a flipped set on any server at the flip, in seconds",
        "seen_at": "Unix seconds at which the last server was seen with the new records",
    }

    zone: str = Field(description="The zone, as declared under `zones:`.")
    from_: Addresses = Field(
        alias="from", description="The old address, a network, or a list (dual stack)."
    )
    to: str | tuple[str, ...] | dict[str, str] = Field(
        description="The new address, a list in the order of `from`, or a mapping old: new."
    )
    names: Texts = Field(default=(), description="Only sets at these names; empty: all.")
    leave: Texts = Field(
        default=(),
        description="Sets (`name` or `name TYPE`) that stay on the old side on purpose.",
    )
    ttl: Ttl | None = Field(default=None, description="A TTL for the new sets; else unchanged.")
    resolvers: Texts = Field(
        default=(),
        description="Recursive resolvers (address[:port]) to ask besides; evidence, not proof.",
    )
    except_servers: Texts = Field(default=(), description=EXCEPT_SERVERS)

    @model_validator(mode="after")
    def _paired(self) -> DnsFlip:
        _ = self._addresses
        return self

    @property
    def _addresses(self) -> AddressMap:
        return AddressMap.build(self.from_, self.to)

    def zones(self) -> tuple[str, ...]:
        return (self.zone,)

    def observe(self, reads: Reads) -> Observation:
        zone = reads.dns.zone(self.zone)
        records, _ = split_occluded(reads.dns.records(zone), zone.name)
        found = [one for one in self._at_names(records) if self._touches(one)]
        keys = [label(one) for one in found]
        served, unknown = poll_servers(reads, zone, keys, self.except_servers)
        resolved = [
            reads.dns.resolve(resolver, one.name, one.rtype).model_dump(mode="json")
            for resolver in self.resolvers
            for one in found
            if one.rtype in {"A", "AAAA"}
        ]
        return Observation(
            state={"records": to_json(found)},
            evidence={
                "served": served, "resolvers": resolved,
                "blocked": list(self._rewriting(records).blocked),
                "provider": provider_evidence(reads, zone),
            },
            unknown=unknown,
            at=reads.now(),
        )

    def plan(self, before: Observation) -> Planned:
        refusal = self._refusal(before)
        if refusal:
            return Planned(reason=f"refused: {refusal}")
        changes = self._changes(before)
        if not changes:
            return Planned(reason=f"already done: nothing holds {', '.join(self.from_)} any more")
        return Planned(actions=(ChangeRecordSet(zone=zone_name(self.zone), changes=changes),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        refusal = self._refusal(before)
        if refusal:
            return Verdict(ok=False, retry=False, seen=refusal)
        wanted = self._wanted(before)
        served = after.evidence["served"]
        problems = list(after.unknown)
        for key, rrset in wanted.items():
            here = of_set(served, key)
            if not here:
                problems.append(f"{key} was not seen")
            problems += [
                f"{server}: {key} is {', '.join(one['rdatas']) or one['rcode']}, "
                f"not {', '.join(rrset.rdatas)}"
                for server, one in here.items()
                if tuple(one["rdatas"]) != rrset.rdatas
            ]
        if problems:
            return Verdict(ok=False, seen=listed(problems))
        sets = {
            key: {
                "before": before.state["records"][key]["rdatas"],
                "rdatas": list(rrset.rdatas),
                "ttl": greatest_ttl(served, key, rrset.ttl),
                "old_ttl": max(
                    before.state["records"][key]["ttl"],
                    greatest_ttl(before.evidence["served"], key, 0),
                ),
                "seen_new_at": last_seen(served, key),
            }
            for key, rrset in wanted.items()
        }
        ttl_served = max(one["old_ttl"] for one in sets.values())
        outputs: dict[str, Any] = {
            "zone": zone_name(self.zone), "what": "records", "sets": sets,
            "ttl_served": ttl_served,
            "seen_at": max(one["seen_new_at"] for one in sets.values()),
        }
        return Verdict(
            ok=True, outputs=outputs,
            seen=f"{len(sets)} sets lead to the new addresses on all {len(served)} servers; "
            f"caches may hold the old ones for {ttl_served} s more",
        )

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        if self._refusal(before):
            return ()
        changes = self._changes(before)
        if not changes:
            return ()
        return (ChangeRecordSet(zone=zone_name(self.zone), changes=reversed_all(changes)),)

    def preview(self) -> tuple[str, ...]:
        pairs = ", ".join(
            " → ".join(str(side).removesuffix("/32").removesuffix("/128") for side in pair)
            for pair in self._addresses.pairs
        )
        return (f"in {self.zone}: {pairs}", *(f"leave {name} as it is" for name in self.leave))

    def differences(self, records: Mapping[str, tuple[RRset, ...]]) -> tuple[Change, ...]:
        """What it would change in the given records of its zone. Pure; for an offline plan."""
        given, _ = split_occluded(
            records.get(zone_name(self.zone), ()), zone_origin(self.zone)
        )
        return self._rewriting(given).changes

    def not_in(self, records: Mapping[str, tuple[RRset, ...]]) -> tuple[str, ...]:
        return addresses_not_in(records, self.zone, self.from_, self.names)

    def _at_names(self, records: Iterable[RRset]) -> list[RRset]:
        return only_names(records, self.names, self.zone)

    def _touches(self, rrset: RRset) -> bool:
        """Holds an old or a new address: the same sets before, after and once undone."""
        addresses = self._addresses
        return holds(rrset, addresses.old) or holds(rrset, addresses.new)

    def _rewriting(self, records: Iterable[RRset]) -> Rewriting:
        leave = set()
        for one in self.leave:
            name, _, rtype = one.strip().partition(" ")
            leave.add(f"{absolute(name, self.zone)} {rtype.strip().upper()}".strip())
        return rewriting(
            self._at_names(records), self._addresses, leave=leave, ttl=self.ttl
        )

    def _changes(self, before: Observation) -> tuple[Change, ...]:
        return self._rewriting(from_json(before.state.get("records", {}))).changes

    def _wanted(self, before: Observation) -> dict[str, RRset]:
        """The sets as they shall be: the flipped ones, or, with nothing to flip, all of them."""
        after = [change.after for change in self._changes(before) if change.after is not None]
        return {label(one): one for one in after or from_json(before.state["records"])}

    def _refusal(self, before: Observation) -> str:
        """Why it must not act on what was seen; empty when it may."""
        if before.evidence.get("blocked"):
            return (
                "; ".join(before.evidence["blocked"])
                + ". Add the address to `from` and `to`, or name the set under `leave`"
            )
        if before.unknown:
            return CANNOT_ASK.format("; ".join(before.unknown))
        found = from_json(before.state.get("records", {}))
        if not found:
            return f"nothing in {self.zone} holds {', '.join(self.from_)} or its new address"
        there = {one.name for one in found}
        missing = [n for n in self.names if absolute(n, self.zone) not in there]
        if missing:
            return f"{', '.join(missing)} holds neither an old nor a new address"
        return ""
