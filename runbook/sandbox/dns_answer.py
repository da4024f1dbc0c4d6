"""How an authoritative server answers from its zones: chains, wildcards, negative answers."""

from __future__ import annotations

from collections.abc import Mapping

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
import dns.transaction

_CNAME, _DNAME, _SOA = dns.rdatatype.CNAME, dns.rdatatype.DNAME, dns.rdatatype.SOA
_MAX_CHAIN = 16
_WILD = dns.name.Name([b"*"])

Readers = Mapping[dns.name.Name, dns.transaction.Transaction]
"""Read transactions by origin."""


def zone_of(readers: Readers, name: dns.name.Name) -> dns.name.Name | None:
    """The origin of the closest zone that holds ``name``."""
    found = [origin for origin in readers if name.is_subdomain(origin)]
    return max(found, key=len, default=None)


def answer(readers: Readers, query: dns.message.Message, response: dns.message.Message) -> None:
    """Fill ``response``: RFC 1034 section 4.3.2, without delegations."""
    question = query.question[0]
    name = question.name
    for _ in range(_MAX_CHAIN):
        origin = zone_of(readers, name)
        if origin is None:
            if not response.answer:
                response.set_rcode(dns.rcode.REFUSED)
                response.flags &= ~dns.flags.AA
            return
        following = _step(readers[origin], origin, name, question.rdtype, response)
        if following is None:
            return
        name = following


def _step(
    reader: dns.transaction.Transaction,
    origin: dns.name.Name,
    name: dns.name.Name,
    rdtype: dns.rdatatype.RdataType,
    response: dns.message.Message,
) -> dns.name.Name | None:
    """Answer for one name; the target of an alias where the chain goes on."""
    names = list(reader.iterate_names())
    existing = any(one.is_subdomain(name) for one in names)
    source = name
    if not existing:
        dname = _dname_above(reader, origin, name)
        if dname is not None:
            owner, rdataset = dname
            target = name.relativize(owner).derelativize(rdataset[0].target)
            _put(response.answer, owner, rdataset)
            link = dns.rdataset.from_text(dns.rdataclass.IN, _CNAME, rdataset.ttl, str(target))
            _put(response.answer, name, link)
            return target
        encloser = name.parent()
        while not any(one.is_subdomain(encloser) for one in names):
            encloser = encloser.parent()
        source = _WILD.concatenate(encloser)
    node = reader.get_node(source)
    if node is None:
        wild = any(one.is_subdomain(source) for one in names)
        if not existing and not wild:
            response.set_rcode(dns.rcode.NXDOMAIN)
        _put_soa(reader, origin, response)
        return None
    if rdtype == dns.rdatatype.ANY:
        for rdataset in node:
            _put(response.answer, name, rdataset)
        return None
    found = reader.get(source, rdtype)
    if found is not None:
        _put(response.answer, name, found)
        return None
    alias = reader.get(source, _CNAME)
    if alias is not None:
        _put(response.answer, name, alias)
        target = alias[0].target
        return target if isinstance(target, dns.name.Name) else None
    _put_soa(reader, origin, response)
    return None


def _dname_above(
    reader: dns.transaction.Transaction, origin: dns.name.Name, name: dns.name.Name
) -> tuple[dns.name.Name, dns.rdataset.Rdataset] | None:
    above = name
    while above != origin:
        above = above.parent()
        found = reader.get(above, _DNAME)
        if found is not None:
            return above, found
    return None


def _put(
    section: list[dns.rrset.RRset], name: dns.name.Name, rdataset: dns.rdataset.Rdataset
) -> None:
    section.append(dns.rrset.from_rdata_list(name, rdataset.ttl, list(rdataset)))


def _put_soa(
    reader: dns.transaction.Transaction, origin: dns.name.Name, response: dns.message.Message
) -> None:
    """The SOA of a negative answer carries min(TTL, MINIMUM) (RFC 2308 section 3)."""
    soa = reader.get(origin, _SOA)
    if soa is not None:
        ttl = min(soa.ttl, soa[0].minimum)
        response.authority.append(dns.rrset.from_rdata_list(origin, ttl, list(soa)))
