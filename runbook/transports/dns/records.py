"""Between dnspython's objects and the model's record sets, in canonical form.

Canonical: names absolute and in lower case, also inside record data (RFC 4034 section 6.2, and
SVCB/HTTPS targets besides); records sorted by their text, without repeats.
"""

from __future__ import annotations

from collections.abc import Iterable

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rdtypes.svcbbase
import dns.rrset
import dns.zone

from runbook.model.dns import Answer, RRset

_MAX_CHAIN = 16

LEFT_OUT = frozenset(
    {
        dns.rdatatype.SOA, dns.rdatatype.RRSIG, dns.rdatatype.NSEC, dns.rdatatype.NSEC3,
        dns.rdatatype.NSEC3PARAM, dns.rdatatype.DNSKEY, dns.rdatatype.CDS, dns.rdatatype.CDNSKEY,
        dns.rdatatype.from_text("TYPE65534"),
    }
)
"""Types the server keeps by itself: never part of a snapshot. The last is BIND's own marker of
signing in progress."""


def canonical_name(name: str | dns.name.Name) -> str:
    """Absolute, lower case, with a final dot. Raises ValueError."""
    try:
        parsed = dns.name.from_text(name) if isinstance(name, str) else name
    except dns.exception.DNSException as fault:
        raise ValueError(f"{name!r} is not a domain name: {fault}") from fault
    return parsed.canonicalize().to_text()


def canonical_rdata(rdata: dns.rdata.Rdata) -> str:
    wire = rdata.to_digestable(dns.name.root)
    lowered = dns.rdata.from_wire(rdata.rdclass, rdata.rdtype, wire, 0, len(wire))
    if isinstance(lowered, dns.rdtypes.svcbbase.SVCBBase):
        lowered = lowered.replace(target=lowered.target.canonicalize())
    return str(lowered.to_text())


def to_rrset(name: dns.name.Name, rdataset: dns.rdataset.Rdataset) -> RRset:
    return RRset(
        name=canonical_name(name),
        rtype=dns.rdatatype.to_text(rdataset.rdtype),
        ttl=rdataset.ttl,
        rdatas=tuple(sorted({canonical_rdata(rdata) for rdata in rdataset})),
    )


def parse_rdatas(rrset: RRset) -> list[dns.rdata.Rdata]:
    """Raises ValueError where a record's text does not fit its type."""
    rdtype = parse_type(rrset.rtype)
    try:
        return [
            dns.rdata.from_text(dns.rdataclass.IN, rdtype, text, dns.name.root, relativize=False)
            for text in rrset.rdatas
        ]
    except dns.exception.DNSException as fault:
        raise ValueError(f"{rrset.name} {rrset.rtype}: not valid record data: {fault}") from fault


def canonical_text(rtype: str, text: str) -> str:
    """One record's data in canonical form; relative names count from the root.

    Raises ValueError."""
    one = RRset(name=".", rtype=rtype, ttl=0, rdatas=(text,))
    return canonical_rdata(parse_rdatas(one)[0])


def parse_type(rtype: str) -> dns.rdatatype.RdataType:
    """Raises ValueError."""
    try:
        return dns.rdatatype.from_text(rtype)
    except (dns.exception.DNSException, ValueError) as fault:
        raise ValueError(f"{rtype!r} is not a DNS record type") from fault


def canonical_set(rrset: RRset) -> RRset:
    """The same set in canonical form. Raises ValueError."""
    return RRset(
        name=canonical_name(rrset.name),
        rtype=dns.rdatatype.to_text(parse_type(rrset.rtype)),
        ttl=rrset.ttl,
        rdatas=_canonical_rdatas(rrset),
        variants=tuple(
            one.model_copy(update={"rdatas": _canonical_rdatas(rrset, one.rdatas)})
            for one in sorted(rrset.variants, key=lambda one: one.name)
        ),
    )


def _canonical_rdatas(rrset: RRset, rdatas: tuple[str, ...] | None = None) -> tuple[str, ...]:
    given = rrset if rdatas is None else rrset.model_copy(update={"rdatas": rdatas})
    return tuple(sorted({canonical_rdata(rdata) for rdata in parse_rdatas(given)}))


def zone_records(zone: dns.zone.Zone) -> tuple[RRset, ...]:
    """Every set of a zone (not relativised), by name and type, without ``LEFT_OUT``."""
    found: Iterable[RRset] = (
        to_rrset(name, rdataset)
        for name, rdataset in zone.iterate_rdatasets()
        if rdataset.rdtype not in LEFT_OUT
    )
    return tuple(sorted(found, key=lambda one: one.key))


def referral(
    reply: dns.message.Message, name: str, wanted: dns.rdatatype.RdataType
) -> list[dns.rrset.RRset]:
    """The set at a (canonical) name as a referral gives it: the NS set of a delegation, or glue.

    That is how a server shows what the zone holds there (RFC 1034 section 4.3.2, step 3b).
    """
    if reply.answer or reply.flags & dns.flags.AA:
        return []
    cuts = [one.name for one in reply.authority if one.rdtype == dns.rdatatype.NS]
    return [
        one for one in (*reply.authority, *reply.additional)
        if one.rdtype == wanted and canonical_name(one.name) == name
        and any(one.name.is_subdomain(cut) for cut in cuts)
    ]


def to_answer(
    reply: dns.message.Message, server: str, name: str, rtype: str, *, aa: bool, at: float
) -> Answer:
    """The answer section read along its CNAME chain from ``name``, or a referral's glue."""
    wanted = parse_type(rtype)
    at_name, chain, found = canonical_name(name), [], None
    sets = {
        (canonical_name(one.name), one.rdtype): one
        for one in (*reply.answer, *referral(reply, at_name, wanted))
    }
    for _ in range(_MAX_CHAIN):
        final = sets.get((at_name, wanted))
        link = sets.get((at_name, dns.rdatatype.CNAME))
        if final is not None:
            found = to_rrset(final.name, final)
            break
        if link is None:
            break
        chain.append(to_rrset(link.name, link))
        at_name = chain[-1].rdatas[0]
    return Answer(
        server=server, rcode=dns.rcode.to_text(reply.rcode()), rrset=found, chain=tuple(chain),
        authoritative=aa, at=at,
    )
