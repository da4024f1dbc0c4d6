"""``dns.ttl``: lower the TTL of everything that leads to given addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import Field

from runbook.kinds.dns_common import (
    CANNOT_ASK,
    EXCEPT_SERVERS,
    Addresses,
    Texts,
    Ttl,
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
from runbook.model.dns_affected import affected
from runbook.model.dns_occluded import split_occluded
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll

_LINKS = {"CNAME", "DNAME"}


class DnsTtl(Kind):
    """Lower the TTL of every record set that leads to the given addresses.

    Lowered are the sets that hold an address (A, AAAA, HTTPS and SVCB hints, SPF) and the CNAME
    and DNAME links that lead to them, all in one guarded update. A TTL that is lower already is
    left alone, never raised. The step is verified when *every* authoritative server, at every
    address, gives the new TTL.

    Caches still hold answers with the old TTL afterwards: ``dns.wait_ttl`` waits for those. What a
    TTL was before somebody else lowered it a short while ago (by hand, or in a run that was given
    up) no server can tell: say it with `old_ttl`, and it is waited for, too.

    Undo puts the old TTLs back; ``dns.restore_ttl`` does it at the end of a good run.
    """

    name: ClassVar[str] = "dns.ttl"
    settled_in_plan: ClassVar[bool] = False
    poll: ClassVar[Poll | None] = Poll(every=1.0, timeout=60.0)
    estimate: ClassVar[float] = 5.0
    example: ClassVar[str] = """\
- id: lower-ttl
  kind: dns.ttl
  with: {zone: shop.example, points_at: 198.51.100.10, ttl: 60}
"""
    output_names: ClassVar[dict[str, str]] = {
        "zone": "the zone",
        "what": "'ttl': what dns.wait_ttl has to look at",
        "ttl": "the TTL asked for, in seconds",
        "old_ttl": "the greatest TTL any set had on any server, in seconds",
        "sets": (
            "by 'name TYPE': {restore: TTL to put back, old_ttl: greatest on any authoritative "
            "server, ttl, seen_new_at: Unix seconds at which the last server was seen with it}"
        ),
    }

    zone: str = Field(description="The zone, as declared under `zones:`.")
    points_at: Addresses = Field(description="An address, a network (CIDR), or a list of them.")
    ttl: Ttl = Field(description="The TTL wanted: seconds, or a duration like 60s or 5m.")
    old_ttl: Ttl = Field(
        default=0, description="A TTL that caches may hold, though no server gives it any more.",
    )
    names: Texts = Field(default=(), description="Only sets at these names; empty: all.")
    except_servers: Texts = Field(default=(), description=EXCEPT_SERVERS)

    def settled_by(self) -> str:
        """A debt: where the plan pays it back, it may not do so by chance."""
        return "dns.restore_ttl"

    def zones(self) -> tuple[str, ...]:
        return (self.zone,)

    def observe(self, reads: Reads) -> Observation:
        zone = reads.dns.zone(self.zone)
        found = self._lowerable(reads.dns.records(zone))
        served, unknown = poll_servers(
            reads, zone, [label(one) for one in found], self.except_servers
        )
        return Observation(
            state={"records": to_json(found)},
            evidence={"served": served, "provider": provider_evidence(reads, zone)},
            unknown=unknown, at=reads.now(),
        )

    def plan(self, before: Observation) -> Planned:
        if before.unknown:
            return Planned(reason="refused: " + CANNOT_ASK.format("; ".join(before.unknown)))
        if not before.state["records"]:
            return Planned(reason=self._nothing())
        changes = self._changes(from_json(before.state["records"]))
        if not changes:
            return Planned(
                reason=f"already done: all {len(before.state['records'])} sets have a TTL of "
                f"{self.ttl} s or less"
            )
        return Planned(actions=(ChangeRecordSet(zone=zone_name(self.zone), changes=changes),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        if before.unknown:
            return Verdict(
                ok=False, retry=False, seen=CANNOT_ASK.format("; ".join(before.unknown))
            )
        if not before.state["records"]:
            return Verdict(ok=False, retry=False, seen=self._nothing())
        wanted = {label(one): min(one.ttl, self.ttl) for one in from_json(before.state["records"])}
        served = after.evidence["served"]
        late = [
            f"{server}: {key} has TTL {one['ttl']}, not {ttl}" if one["rdatas"]
            else f"{server}: {key} is not there"
            for key, ttl in wanted.items()
            for server, one in of_set(served, key).items()
            if one["ttl"] is None or one["ttl"] > ttl
        ]
        missing = [key for key in wanted if not of_set(served, key)]
        problems = [*after.unknown, *late, *(f"{key} was not seen" for key in missing)]
        if problems:
            return Verdict(ok=False, seen=listed(problems))
        outputs = self._outputs(before, served, wanted)
        return Verdict(
            ok=True, outputs=outputs,
            seen=f"{len(wanted)} sets at TTL {self.ttl} s or less on all {len(served)} servers; "
            f"the greatest TTL before was {outputs['old_ttl']} s",
        )

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        changes = self._changes(from_json(before.state.get("records", {})))
        if not changes or before.unknown:
            return ()
        return (ChangeRecordSet(zone=zone_name(self.zone), changes=reversed_all(changes)),)

    def preview(self) -> tuple[str, ...]:
        sets = f"at {', '.join(self.names)} " if self.names else ""
        return (
            f"lower to {self.ttl} s every TTL {sets}in {self.zone} that leads to "
            f"{', '.join(self.points_at)}",
        )

    def not_in(self, records: Mapping[str, tuple[RRset, ...]]) -> tuple[str, ...]:
        return addresses_not_in(records, self.zone, self.points_at, self.names)

    def differences(self, records: Mapping[str, tuple[RRset, ...]]) -> tuple[Change, ...]:
        """What it would change in the given records of its zone. Pure; for an offline plan."""
        return self._changes(self._lowerable(records.get(zone_name(self.zone), ())))

    def _nothing(self) -> str:
        names = f" at {', '.join(self.names)}" if self.names else ""
        return f"nothing in {self.zone}{names} leads to {', '.join(self.points_at)}"

    def _lowerable(self, records: Iterable[RRset]) -> list[RRset]:
        given, _ = split_occluded(records, zone_origin(self.zone))
        found = [
            one.rrset
            for one in affected(given, self.points_at)
            if one.literal or one.rrset.rtype in _LINKS
        ]
        return only_names(found, self.names, self.zone)

    def _changes(self, records: Iterable[RRset]) -> tuple[Change, ...]:
        return tuple(
            Change(before=one, after=one.with_ttl(self.ttl))
            for one in records
            if one.ttl > self.ttl
        )

    def _outputs(
        self, before: Observation, served: Mapping[str, Any], wanted: Mapping[str, int]
    ) -> dict[str, Any]:
        sets = {
            key: {
                "restore": before.state["records"][key]["ttl"],
                "old_ttl": max(
                    self.old_ttl,
                    before.state["records"][key]["ttl"],
                    greatest_ttl(before.evidence["served"], key, 0),
                ),
                "ttl": ttl,
                "seen_new_at": last_seen(served, key),
            }
            for key, ttl in wanted.items()
        }
        return {
            "zone": zone_name(self.zone), "what": "ttl", "ttl": self.ttl, "sets": sets,
            "old_ttl": max(one["old_ttl"] for one in sets.values()),
        }
