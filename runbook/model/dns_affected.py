"""Which record sets of a zone lead to given addresses, and by which way. No network.

The closure runs over every name inside the given records: CNAME, DNAME, MX, SRV, NS, PTR, HTTPS,
SVCB, NAPTR, URI, CAA and SPF, with wildcards (RFC 4592) and DNAME substitution (RFC 6672).
"""

from __future__ import annotations

import ipaddress
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from runbook.model.dns import RRset
from runbook.model.dns_literals import (
    Network,
    is_spf,
    literals,
    mentions,
    overlaps,
    parse_networks,
    show,
    txt_text,
)

_ADDRESS_TYPES = ("A", "AAAA", "CNAME", "HTTPS", "SVCB")
_URL_NAME = re.compile(r"(?i)://(?:[^@/\s\"]*@)?([a-z0-9_.-]+)|mailto:[^@\s\"]+@([a-z0-9_.-]+)")
Key = tuple[str, str]


class Affected(BaseModel):
    """A record set that leads to one of the addresses.

    ``chain`` is the shortest way: this set first, the set that holds the address last.
    ``literal``: the set's own data holds the address.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rrset: RRset
    chain: tuple[str, ...]
    literal: bool

    @property
    def reason(self) -> str:
        return " → ".join(self.chain)


class FollowUp(BaseModel):
    """Something a person has to see to: a move of addresses does not settle it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rtype: str
    why: str

    def __str__(self) -> str:
        return f"{self.name} {self.rtype}: {self.why}"


class _Names:
    """Owner names of a zone, with lookup as an authoritative server does it."""

    def __init__(self, records: Iterable[RRset]) -> None:
        self.by_name: dict[str, dict[str, RRset]] = {}
        for rrset in records:
            self.by_name.setdefault(rrset.name, {})[rrset.rtype] = rrset
        self.existing = {name for owner in self.by_name for name in _self_and_above(owner)}

    def find(self, name: str, types: Sequence[str], depth: int = 0) -> Iterator[RRset]:
        """Sets of the wanted types that answer for ``name``; none for a name outside."""
        if name in self.by_name:
            sets = self.by_name[name]
            yield from (sets[rtype] for rtype in types if rtype in sets)
            return
        for above in list(_self_and_above(name))[1:]:
            dname = self.by_name.get(above, {}).get("DNAME")
            if dname is not None and depth < 8:
                swapped = name[: -len(above)] + dname.rdatas[0].lstrip(".")
                yield from self.find(swapped, types, depth + 1)
                return
        if name in self.existing:
            return
        encloser = next((up for up in _self_and_above(name) if up in self.existing), ".")
        sets = self.by_name.get("*." + encloser.lstrip("."), {})
        yield from (sets[rtype] for rtype in types if rtype in sets)


def _self_and_above(name: str) -> Iterator[str]:
    labels = name.rstrip(".").split(".")
    for at in range(len(labels)):
        yield ".".join(labels[at:]) + "."


def affected(records: Iterable[RRset], addresses: str | Sequence[str]) -> tuple[Affected, ...]:
    """Every set that leads to one of ``addresses`` (addresses or CIDRs), by name and type.

    Raises ValueError where an address cannot be read.
    """
    everything = tuple(records)
    wanted = parse_networks(addresses)
    names = _Names(everything)
    chains: dict[Key, tuple[str, ...]] = {}
    holders: set[Key] = set()
    for rrset in everything:
        own = _own_address(rrset, wanted)
        if own:
            chains[rrset.key] = (own,)
        if own and rrset.rtype != "PTR":
            holders.add(rrset.key)
    sources: dict[Key, list[RRset]] = {}
    for rrset in everything:
        for target in _targets(rrset, names):
            sources.setdefault(target.key, []).append(rrset)
    queue = deque(sorted(chains))
    while queue:
        reached = queue.popleft()
        for source in sources.get(reached, ()):
            if source.key not in chains:
                chains[source.key] = (f"{source.name} {source.rtype}", *chains[reached])
                queue.append(source.key)
    return tuple(
        Affected(rrset=one, chain=chains[one.key], literal=one.key in holders)
        for one in sorted(everything, key=lambda r: r.key)
        if one.key in chains
    )


def reverse_address(name: str) -> Network | None:
    """The address a full reverse name stands for (RFC 1035 section 3.5, RFC 3596)."""
    labels = name.lower().rstrip(".").split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
            return ipaddress.ip_network(".".join(reversed(labels[:4])))
        if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34:
            digits = "".join(reversed(labels[:32]))
            return ipaddress.ip_network(":".join(digits[i : i + 4] for i in range(0, 32, 4)))
    except ValueError:
        return None
    return None


def _own_address(rrset: RRset, wanted: tuple[Network, ...]) -> str:
    """How the set itself stands for one of the addresses; empty when it does not."""
    for rdata in rrset.rdatas:
        for network in literals(rrset.rtype, rdata):
            if overlaps(network, wanted):
                return f"{rrset.name} {rrset.rtype} {show(network)}"
    if rrset.rtype == "PTR":
        reversed_name = reverse_address(rrset.name)
        if reversed_name is not None and overlaps(reversed_name, wanted):
            return f"{rrset.name} PTR (the reverse name of {show(reversed_name)})"
    return ""


def _targets(rrset: RRset, names: _Names) -> Iterator[RRset]:
    """Sets this one leads to directly."""
    if rrset.rtype == "DNAME":
        below = "." + rrset.rdatas[0].lstrip(".")
        for owner, sets in names.by_name.items():
            if owner.endswith(below):
                yield from (sets[rtype] for rtype in _ADDRESS_TYPES if rtype in sets)
        return
    for rdata in rrset.rdatas:
        for name, types in _links(rrset.name, rrset.rtype, rdata):
            for target in names.find(name, types):
                if target.key != rrset.key:
                    yield target


def _links(owner: str, rtype: str, rdata: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(name, types to follow there) for everything one record points at."""
    words = rdata.split()
    match rtype:
        case "CNAME" | "NS" | "PTR":
            yield words[0], _ADDRESS_TYPES
        case "MX":
            yield words[1], _ADDRESS_TYPES
        case "SRV":
            yield words[3], _ADDRESS_TYPES
        case "HTTPS" | "SVCB":
            target = owner if words[1] == "." else words[1]
            yield target, _ADDRESS_TYPES
        case "NAPTR":
            yield words[-1], (*_ADDRESS_TYPES, "SRV", "NAPTR")
            yield from ((name, _ADDRESS_TYPES) for name in _url_names(rdata))
        case "URI" | "CAA":
            yield from ((name, _ADDRESS_TYPES) for name in _url_names(rdata))
        case "TXT" | "SPF" if is_spf(rtype, rdata):
            yield from _spf_links(owner, txt_text(rdata))
        case _:
            return


def _url_names(rdata: str) -> Iterator[str]:
    for host, domain in _URL_NAME.findall(rdata):
        yield (host or domain).lower().rstrip(".") + "."


def _spf_links(owner: str, policy: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names an SPF policy asks for: ``a``, ``mx``, ``include``, ``redirect`` (RFC 7208)."""
    for raw in policy.split()[1:]:
        term = raw.lstrip("+-~?").lower()
        mechanism, _, argument = re.sub(r"/[\d/]+$", "", term).replace("=", ":", 1).partition(":")
        name = argument.rstrip(".") + "." if argument else owner
        if mechanism == "a":
            yield name, ("A", "AAAA", "CNAME")
        elif mechanism == "mx":
            yield name, ("MX",)
        elif mechanism in {"include", "redirect"} and argument:
            yield name, ("TXT", "SPF", "CNAME")


def follow_ups(
    records: Iterable[RRset], addresses: str | Sequence[str]
) -> tuple[FollowUp, ...]:
    """What a person has to look at: keys bound to hosts, the parent zone, reverse names."""
    everything = tuple(records)
    wanted = parse_networks(addresses)
    found = affected(everything, addresses)
    hosts = {one.rrset.name for one in found if one.rrset.rtype in _ADDRESS_TYPES}
    out: list[FollowUp] = []

    def note(rrset: RRset, why: str) -> None:
        out.append(FollowUp(name=rrset.name, rtype=rrset.rtype, why=why))

    for rrset in everything:
        base = re.sub(r"^(?:_[^.]+\.)+", "", rrset.name)
        if "._domainkey." in rrset.name and rrset.rtype in {"TXT", "CNAME"}:
            note(rrset, "a DKIM key: the new mail host must sign with it, or publish its own")
        elif rrset.rtype == "TLSA" and base in hosts:
            note(rrset, f"pins the certificate of {base}: the new host must present the same")
        elif rrset.rtype == "SSHFP" and rrset.name in hosts:
            note(rrset, "host key of the old machine: publish the new one's")
        elif rrset.rtype == "TXT" and any(
            not is_spf("TXT", rdata) and any(overlaps(n, wanted) for n in mentions(rdata))
            for rdata in rrset.rdatas
        ):
            note(rrset, "a text mentions the address; nothing rewrites it")
    for one in found:
        if one.rrset.rtype == "NS":
            note(one.rrset, f"a name server moves ({one.reason}): change NS and glue at the parent")
        if one.rrset.rtype == "PTR" and len(one.chain) == 1:
            note(one.rrset, "reverse name of an old address: make one for the new address")
    return tuple(sorted(out, key=lambda f: (f.name, f.rtype)))
