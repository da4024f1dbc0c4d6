"""``dns.verify``: what servers and resolvers answer."""

from __future__ import annotations

import ipaddress
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from runbook.kinds.dns_common import EXCEPT_SERVERS, Texts, absolute
from runbook.model.actions import Action
from runbook.model.dns import Answer, zone_name
from runbook.model.dns_literals import txt_text
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads


class DnsVerify(Kind):
    """Check what every authoritative server, and the resolvers named, answer to one question.

    Aliases are followed inside the zone. ``expect`` is the whole set, in any order; an empty list
    means that there is no such set. A server that does not answer is not a yes.
    """

    name: ClassVar[str] = "dns.verify"
    check: ClassVar[bool] = True
    example: ClassVar[str] = """\
- id: everybody-sees-it
  kind: dns.verify
  with: {zone: shop.example, name: www, type: A, expect: [203.0.113.10]}
"""
    output_names: ClassVar[dict[str, str]] = {
        "answers": "list of {server, type, rcode, ttl, rdatas, chain, at}",
    }

    zone: str | None = Field(
        default=None, description="The zone whose authoritative servers to ask."
    )
    record: str = Field(alias="name", description="The name to ask for, e.g. www or @.")
    type: str = Field(
        default="A",
        description="The record type, e.g. A, AAAA, MX; or `address`: A and AAAA, each asked by "
        "itself for the values of its family, where `expect` has any.",
    )
    expect: Texts = Field(description="Values the set shall have, all and no others.")
    resolvers: Texts = Field(default=(), description="Recursive resolvers to ask: address[:port].")
    servers: Literal["all", "none"] = Field(
        default="all", description="Whether to ask the authoritative servers of `zone`."
    )
    except_servers: Texts = Field(default=(), description=EXCEPT_SERVERS)

    @model_validator(mode="after")
    def _somebody_to_ask(self) -> DnsVerify:
        if not self.resolvers and (self.zone is None or self.servers == "none"):
            raise ValueError("nobody to ask: give `zone` (with servers: all) or `resolvers`")
        return self

    @property
    def _wanted(self) -> dict[str, tuple[str, ...]]:
        """By type to ask for, what the set shall hold."""
        if self.type.upper() != "ADDRESS":
            return {self.type.upper(): self.expect}
        families = {
            "A": tuple(one for one in self.expect if ":" not in one),
            "AAAA": tuple(one for one in self.expect if ":" in one),
        }
        return {rtype: own for rtype, own in families.items() if own or not self.expect}

    def preview(self) -> tuple[str, ...]:
        asked = [f"every server of {self.zone}"] if self.zone and self.servers == "all" else []
        wanted = ", ".join(self.expect) or "no such set"
        return (
            f"{self.record} {self.type.upper()} is {wanted} "
            f"at {', '.join([*asked, *self.resolvers])}",
        )

    def zones(self) -> tuple[str, ...]:
        return (self.zone,) if self.zone is not None else ()

    def observe(self, reads: Reads) -> Observation:
        answers: list[tuple[str, Answer]] = []
        owner = absolute(self.record, self.zone) if self.zone else zone_name(self.record)
        if self.zone is not None and self.servers == "all":
            zone = reads.dns.zone(self.zone)
            left_out = {one.lower().rstrip(".") for one in self.except_servers}
            answers += [
                (rtype, reads.dns.ask(server, owner, rtype))
                for server in reads.dns.servers(zone)
                for rtype in self._wanted
                if not left_out & {server.address.lower(), server.name.lower().rstrip(".")}
            ]
        answers += [
            (rtype, reads.dns.resolve(resolver, owner, rtype))
            for resolver in self.resolvers
            for rtype in self._wanted
        ]
        return Observation(
            state={
                f"{one.server} {rtype}": sorted(one.rrset.rdatas) if one.rrset else one.rcode
                for rtype, one in answers
            },
            evidence={"answers": [_shown(rtype, one) for rtype, one in answers]},
            unknown=tuple(
                f"{one.server}: {one.rcode}"
                for _, one in answers
                if one.rcode not in {"NOERROR", "NXDOMAIN"}
            ),
            at=reads.now(),
        )

    def plan(self, before: Observation) -> Planned:
        return Planned(reason="a check changes nothing")

    def verify(self, before: Observation, after: Observation) -> Verdict:
        answers = after.evidence["answers"]
        wanted = {
            rtype: {_normal(value, rtype) for value in values}
            for rtype, values in self._wanted.items()
        }
        wrong = [
            f"{one['server']} says {', '.join(one['rdatas']) or one['rcode']}"
            + (f" ({one['type']})" if len(wanted) > 1 else "")
            for one in answers
            if one["rcode"] not in {"NOERROR", "NXDOMAIN"}
            or {_normal(rdata, one["type"]) for rdata in one["rdatas"]} != wanted[one["type"]]
        ]
        text = ", ".join(self.expect) or "no such set"
        if wrong or not answers:
            why = "; ".join(wrong) or "nobody was asked"
            return Verdict(
                ok=False, seen=f"expected {text}, but {why}", outputs={"answers": answers}
            )
        asked = {one["server"] for one in answers}
        return Verdict(
            ok=True, outputs={"answers": answers},
            seen=f"{self.record} {self.type.upper()} is {text} at all {len(asked)} asked",
        )

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        return ()


def _shown(rtype: str, answer: Answer) -> dict[str, Any]:
    return {
        "server": answer.server, "type": rtype, "rcode": answer.rcode,
        "ttl": answer.rrset.ttl if answer.rrset else None,
        "rdatas": list(answer.rrset.rdatas) if answer.rrset else [],
        "chain": [str(link) for link in answer.chain], "at": answer.at,
    }


def _normal(rdata: str, rtype: str) -> str:
    """One form for values that people write in several ways."""
    if rtype.upper() in {"A", "AAAA"}:
        try:
            return str(ipaddress.ip_address(rdata))
        except ValueError:
            return rdata
    if rtype.upper() in {"TXT", "SPF"}:
        return txt_text(rdata) if rdata.startswith('"') else rdata
    return " ".join(word.rstrip(".") for word in rdata.lower().split())
