"""``dns.restore_ttl``: put the TTLs back that ``dns.ttl`` lowered."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from runbook.kinds.dns_common import (
    EXCEPT_SERVERS,
    Texts,
    changed_sets,
    from_json,
    label,
    listed,
    of_set,
    poll_servers,
    provider_evidence,
    reversed_all,
    to_json,
)
from runbook.model.actions import Action, ChangeRecordSet
from runbook.model.dns import Change
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll


class DnsRestoreTtl(Kind):
    """Put back the TTLs that an earlier ``dns.ttl`` step lowered, and nothing else.

    The records stay as they are now, flipped or not. A set that is gone is left out. Verified when
    every authoritative server gives the old TTL. Undo makes the TTLs low again.
    """

    name: ClassVar[str] = "dns.restore_ttl"
    poll: ClassVar[Poll | None] = Poll(every=1.0, timeout=60.0)
    estimate: ClassVar[float] = 5.0
    example: ClassVar[str] = """\
- id: lower-ttl
  kind: dns.ttl
  with: {zone: shop.example, points_at: 198.51.100.10, ttl: 60}
- id: restore-ttl
  kind: dns.restore_ttl
  with: {of: lower-ttl}
"""
    output_names: ClassVar[dict[str, str]] = {
        "zone": "the zone",
        "sets": "by 'name TYPE': the TTL that was put back, in seconds",
    }

    of: str = Field(description="Id of the dns.ttl step whose old TTLs to put back.")
    except_servers: Texts = Field(default=(), description=EXCEPT_SERVERS)

    def preview(self) -> tuple[str, ...]:
        return (f"put back every TTL that {self.of} lowered",)

    def references(self) -> tuple[str, ...]:
        return (self.of,)

    def observe(self, reads: Reads) -> Observation:
        source = changed_sets(reads, self.of, "restore")
        zone = reads.dns.zone(str(source["zone"]))
        wanted = {key: int(one["restore"]) for key, one in source["sets"].items()}
        present = [one for one in reads.dns.records(zone) if label(one) in wanted]
        served, unknown = poll_servers(
            reads, zone, [label(one) for one in present], self.except_servers
        )
        return Observation(
            state={"zone": zone.called, "restore": wanted, "records": to_json(present)},
            evidence={"served": served, "provider": provider_evidence(reads, zone)},
            unknown=unknown, at=reads.now(),
        )

    def plan(self, before: Observation) -> Planned:
        changes = _changes(before)
        if not changes:
            return Planned(reason="already done: every set has its old TTL")
        return Planned(actions=(ChangeRecordSet(zone=before.state["zone"], changes=changes),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        served = after.evidence["served"]
        wanted = {key: after.state["restore"][key] for key in after.state["records"]}
        problems = [*after.unknown]
        problems += [
            f"{server}: {key} has TTL {one['ttl']}, not {ttl}"
            for key, ttl in wanted.items()
            for server, one in of_set(served, key).items()
            if one["ttl"] != ttl
        ]
        if problems:
            return Verdict(ok=False, seen=listed(problems))
        gone = [key for key in after.state["restore"] if key not in wanted]
        note = f"; gone since: {', '.join(gone)}" if gone else ""
        return Verdict(
            ok=True, outputs={"zone": after.state["zone"], "sets": wanted},
            seen=f"{len(wanted)} sets have their old TTL on all {len(served)} servers{note}",
        )

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        changes = reversed_all(_changes(before))
        if not changes:
            return ()
        return (ChangeRecordSet(zone=before.state["zone"], changes=changes),)


def _changes(before: Observation) -> tuple[Change, ...]:
    wanted = before.state["restore"]
    return tuple(
        Change(before=one, after=one.with_ttl(wanted[label(one)]))
        for one in from_json(before.state["records"])
        if one.ttl != wanted[label(one)]
    )
