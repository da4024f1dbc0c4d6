"""``dns.inventory``: everything in a zone that leads to given addresses."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from runbook.kinds.dns_common import Addresses, Texts
from runbook.model.actions import Action
from runbook.model.dns import RRset, zone_origin
from runbook.model.dns_affected import affected, follow_ups
from runbook.model.dns_literals import parse_networks
from runbook.model.dns_occluded import split_occluded
from runbook.model.dns_rewrite import holds
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads

_SHOWN = 5


class DnsInventory(Kind):
    """List every record set that leads to the given addresses, and by which way.

    The zone is read whole (AXFR). Found are A and AAAA, the hints of HTTPS and SVCB, SPF
    (``ip4:``, ``ip6:``, ``a``, ``mx``, ``include``), URLs in URI, CAA and NAPTR, and everything
    that leads there by name inside the zones given: CNAME, DNAME, MX, SRV, NS, PTR, wildcards.
    ``follow_ups`` lists what a person has to see to: DKIM, TLSA, SSHFP, glue at the parent, and
    old addresses below a delegation, which no server gives.

    With ``expect: none`` it is the proof that nothing leads to the old side any more.
    """

    name: ClassVar[str] = "dns.inventory"
    check: ClassVar[bool] = True
    estimate: ClassVar[float] = 2.0
    example: ClassVar[str] = """\
- id: what-points-there
  kind: dns.inventory
  with: {zone: shop.example, points_at: 198.51.100.10}
"""
    output_names: ClassVar[dict[str, str]] = {
        "records": "list of {name, type, ttl, rdatas, reason}, by name and type",
        "count": "how many record sets lead to the addresses",
        "follow_ups": "list of sentences for a person",
    }

    zone: Texts = Field(description="The zone, or several whose names lead into each other.")
    points_at: Addresses = Field(description="An address, a network (CIDR), or a list of them.")
    expect: Literal["any", "some", "none"] = Field(
        default="any", description="Whether it must find something (some) or nothing (none)."
    )

    @model_validator(mode="after")
    def _one_view_of_each(self) -> DnsInventory:
        if len({zone_origin(name) for name in self.zone}) < len(self.zone):
            raise ValueError("`zone` names one zone twice; look at each view of it by itself")
        return self

    def preview(self) -> tuple[str, ...]:
        wanted = "" if self.expect == "any" else f", {self.expect} expected"
        return (
            f"list what in {', '.join(self.zone)} leads to {', '.join(self.points_at)}{wanted}",
        )

    def zones(self) -> tuple[str, ...]:
        return self.zone

    def observe(self, reads: Reads) -> Observation:
        records: list[RRset] = []
        unseen: list[RRset] = []
        for name in self.zone:
            given, hidden = split_occluded(
                reads.dns.records(reads.dns.zone(name)), zone_origin(name)
            )
            records += given
            unseen += hidden
        found = [
            {
                "name": one.rrset.name, "type": one.rrset.rtype, "ttl": one.rrset.ttl,
                "rdatas": list(one.rrset.rdatas), "reason": one.reason,
            }
            for one in affected(records, self.points_at)
        ]
        notes = [str(one) for one in follow_ups(records, self.points_at)]
        notes += [
            f"{one.name} {one.rtype}: no server gives it, it lies below a delegation or DNAME: "
            "nothing moves it, remove it"
            for one in unseen if holds(one, parse_networks(self.points_at))
        ]
        return Observation(state={"records": found, "follow_ups": notes}, at=reads.now())

    def plan(self, before: Observation) -> Planned:
        return Planned(reason="a check changes nothing")

    def verify(self, before: Observation, after: Observation) -> Verdict:
        found = after.state["records"]
        count = len(found)
        ok = self.expect == "any" or (count > 0) == (self.expect == "some")
        where = ", ".join(self.points_at)
        seen = f"{count} record set{'s' if count != 1 else ''} lead to {where}"
        if found:
            shown = "; ".join(one["reason"] for one in found[:_SHOWN])
            seen += f": {shown}" + ("; …" if count > _SHOWN else "")
        return Verdict(
            ok=ok, seen=seen,
            outputs={
                "records": found, "count": count, "follow_ups": after.state["follow_ups"],
            },
        )

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        return ()
