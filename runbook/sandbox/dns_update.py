"""RFC 2136 dynamic update of one zone: prerequisites (section 3.2) and update (section 3.4)."""

from __future__ import annotations

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
import dns.serial
import dns.transaction
import dns.update
import dns.versioned

_ANY, _NONE = dns.rdataclass.ANY, dns.rdataclass.NONE
_SOA, _NS, _CNAME = dns.rdatatype.SOA, dns.rdatatype.NS, dns.rdatatype.CNAME
_BESIDE_CNAME = {_CNAME, dns.rdatatype.RRSIG, dns.rdatatype.NSEC}


class Refusal(Exception):
    """The update cannot be done; nothing of it was."""

    def __init__(self, rcode: dns.rcode.Rcode) -> None:
        super().__init__(dns.rcode.to_text(rcode))
        self.rcode = rcode


def apply_update(zone: dns.versioned.Zone, message: dns.update.UpdateMessage) -> bool:
    """Carry out a whole update message as one transaction; False where it changed nothing.

    The message must have been parsed with one record a set, so that its order is kept. Raises
    Refusal with the response code.
    """
    origin = zone.origin
    assert origin is not None
    with zone.writer() as txn:
        _check_prerequisites(txn, origin, message.prerequisite)
        _prescan(origin, message.update)
        before = _soa(txn, origin)
        changed = False
        for rr in message.update:
            changed = _one(txn, origin, rr) or changed
        if changed and _soa(txn, origin)[0].serial == before[0].serial:
            txn.update_serial(1, True, origin)
        if not changed:
            txn.rollback()
        return changed


def _soa(txn: dns.transaction.Transaction, origin: dns.name.Name) -> dns.rdataset.Rdataset:
    found = txn.get(origin, _SOA)
    if found is None:
        raise Refusal(dns.rcode.SERVFAIL)
    return found


def _in_zone(origin: dns.name.Name, rr: dns.rrset.RRset) -> None:
    if not rr.name.is_subdomain(origin):
        raise Refusal(dns.rcode.NOTZONE)


def _check_prerequisites(
    txn: dns.transaction.Transaction, origin: dns.name.Name, section: list[dns.rrset.RRset]
) -> None:
    wanted: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], list[dns.rdata.Rdata]] = {}
    for rr in section:
        if rr.ttl != 0:
            raise Refusal(dns.rcode.FORMERR)
        _in_zone(origin, rr)
        exists = (
            txn.name_exists(rr.name)
            if rr.rdtype == dns.rdatatype.ANY
            else txn.get(rr.name, rr.rdtype) is not None
        )
        if rr.deleting == _ANY:
            if not exists:
                whole = rr.rdtype == dns.rdatatype.ANY
                raise Refusal(dns.rcode.NXDOMAIN if whole else dns.rcode.NXRRSET)
        elif rr.deleting == _NONE:
            if exists:
                whole = rr.rdtype == dns.rdatatype.ANY
                raise Refusal(dns.rcode.YXDOMAIN if whole else dns.rcode.YXRRSET)
        elif rr.rdclass == dns.rdataclass.IN and not dns.rdatatype.is_metatype(rr.rdtype):
            wanted.setdefault((rr.name, rr.rdtype), []).extend(rr)
        else:
            raise Refusal(dns.rcode.FORMERR)
    for (name, rdtype), rdatas in wanted.items():
        present = txn.get(name, rdtype)
        if present is None or set(present) != set(rdatas):
            raise Refusal(dns.rcode.NXRRSET)


def _prescan(origin: dns.name.Name, section: list[dns.rrset.RRset]) -> None:
    """Section 3.4.1: anything wrong is found before anything is changed."""
    for rr in section:
        _in_zone(origin, rr)
        meta = dns.rdatatype.is_metatype(rr.rdtype)
        if rr.deleting == _ANY:
            if meta and rr.rdtype != dns.rdatatype.ANY:
                raise Refusal(dns.rcode.FORMERR)
        elif rr.rdclass != dns.rdataclass.IN or meta or len(rr) != 1:
            raise Refusal(dns.rcode.FORMERR)


def _one(
    txn: dns.transaction.Transaction, origin: dns.name.Name, rr: dns.rrset.RRset
) -> bool:
    if rr.deleting == _ANY:
        return _delete_sets(txn, origin, rr)
    if rr.deleting == _NONE:
        return _delete_record(txn, origin, rr)
    return _add(txn, origin, rr)


def _delete_sets(
    txn: dns.transaction.Transaction, origin: dns.name.Name, rr: dns.rrset.RRset
) -> bool:
    node = txn.get_node(rr.name)
    types = [rdataset.rdtype for rdataset in node] if node is not None else []
    if rr.rdtype != dns.rdatatype.ANY:
        types = [one for one in types if one == rr.rdtype]
    if rr.name == origin:
        types = [one for one in types if one not in {_SOA, _NS}]
    for rdtype in types:
        txn.delete(rr.name, rdtype)
    return bool(types)


def _delete_record(
    txn: dns.transaction.Transaction, origin: dns.name.Name, rr: dns.rrset.RRset
) -> bool:
    present = txn.get(rr.name, rr.rdtype)
    if present is None or rr[0] not in present or rr.rdtype == _SOA:
        return False
    if rr.rdtype == _NS and rr.name == origin and len(present) == 1:
        return False
    rest = [rdata for rdata in present if rdata != rr[0]]
    if rest:
        txn.replace(rr.name, dns.rdataset.from_rdata_list(present.ttl, rest))
    else:
        txn.delete(rr.name, rr.rdtype)
    return True


def _add(txn: dns.transaction.Transaction, origin: dns.name.Name, rr: dns.rrset.RRset) -> bool:
    """Add one record. A CNAME beside other data, and the other way round, is ignored; a new
    TTL retimes the whole set (RFC 2181 section 5.2)."""
    node = txn.get_node(rr.name)
    others = {rdataset.rdtype for rdataset in node} if node is not None else set()
    if rr.rdtype == _CNAME and others - _BESIDE_CNAME:
        return False
    if rr.rdtype not in _BESIDE_CNAME and _CNAME in others:
        return False
    present = txn.get(rr.name, rr.rdtype)
    if rr.rdtype == _SOA:
        newer = present is not None and (
            dns.serial.Serial(rr[0].serial) > dns.serial.Serial(present[0].serial)
        )
        if rr.name != origin or not newer:
            return False
        present = None
    keep = list(present) if present is not None and rr.rdtype != _CNAME else []
    if present is not None and rr[0] in present and present.ttl == rr.ttl:
        return False
    rdatas = [rdata for rdata in keep if rdata != rr[0]]
    txn.replace(rr.name, dns.rdataset.from_rdata_list(rr.ttl, [*rdatas, rr[0]]))
    return True
