"""Dynamic update, RFC 2136, signed with TSIG, RFC 8945: BIND, Knot, PowerDNS and others.

Compare-and-swap is the server's own: every set's prior value is a prerequisite. Value
prerequisites leave out the TTL, so the SOA read beforehand is one too: while it stands, nothing
in the zone has changed since, TTLs included. A server that signs a copy of the zone (BIND:
``inline-signing``) checks against the unsigned one, whose serial nobody is shown: there the values
are guarded by the server and the TTLs by having been read right before. All changes go in one
message, which is atomic (section 3.7). A set is always replaced as a whole: servers differ in what
one added record does to the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.tsig
import dns.update

from runbook.errors import Errored
from runbook.model.dns import PROVIDERS, Change, NameServer, RRset, Zone
from runbook.model.ports import UpdateRight
from runbook.transports.dns.provider import (
    Applied,
    Conflict,
    Outcome,
    Present,
    Rejected,
    inadmissible,
)
from runbook.transports.dns.records import (
    LEFT_OUT,
    canonical_name,
    parse_rdatas,
    parse_type,
    referral,
    to_rrset,
    zone_records,
)
from runbook.transports.dns.wire import KeyRefused, Unsure, Wire

_TRIES = 32
"""Attempts while others keep changing other sets of the zone."""

_ONE_BY_ONE = 3
"""Sets up to which single questions are cheaper than a zone transfer."""

_AT_ONCE = 100
"""Sets that the right to change is asked for in one message."""

_NAMED = 20
"""Sets that are asked for one by one, where the right to some of many is missing."""

_NEVER_THERE: dict[str, tuple[str, ...]] = {
    # Addresses for documentation and for nothing at all, and a name that never exists (RFC 2606).
    "A": ("192.0.2.255", "192.0.2.254"), "AAAA": ("100::ffff", "100::fffe"),
    "CNAME": ("runbook-probe.invalid.",), "DNAME": ("runbook-probe.invalid.",),
    "NS": ("runbook-probe.invalid.",), "PTR": ("runbook-probe.invalid.",),
    "MX": ("65535 runbook-probe.invalid.",), "SRV": ("65535 65535 65535 runbook-probe.invalid.",),
    "TXT": ('"runbook probe"',), "SPF": ('"runbook probe"',),
    "HTTPS": ("65535 runbook-probe.invalid.",), "SVCB": ("65535 runbook-probe.invalid.",),
    "CAA": ('0 issue "runbook-probe.invalid"',),
}
"""Records that a set can be asked to lose, as it does not have them."""

_PREREQUISITE = {
    dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN,
}


class Rfc2136:
    """``primary`` finds the server to update; ``key`` gives the zone's TSIG key, if it has one."""

    caps = PROVIDERS["rfc2136"]

    def __init__(
        self,
        wire: Wire,
        primary: Callable[[Zone], NameServer],
        key: Callable[[Zone], dns.tsig.Key | None],
    ) -> None:
        self._wire = wire
        self._primary = primary
        self._key = key

    def records(self, zone: Zone) -> tuple[RRset, ...]:
        return zone_records(self._wire.transfer(self._primary(zone), zone.name, self._key(zone)))

    def present(self, zone: Zone, keys: Sequence[tuple[str, str]]) -> Present:
        """A few are asked for one by one; many come by one zone transfer, in one round trip."""
        if len(keys) <= _ONE_BY_ONE:
            return {key: self._get(zone, *key) for key in keys}
        everything = {one.key: one for one in self.records(zone)}
        return {
            key: everything.get(key) if parse_type(key[1]) not in LEFT_OUT
            else self._get(zone, *key)
            for key in keys
        }

    def _get(self, zone: Zone, name: str, rtype: str) -> RRset | None:
        """Asked directly; where a wildcard may have made the answer up, by a zone transfer."""
        wanted = canonical_name(name)
        found = self._query(zone, wanted, rtype)
        if found is None or wanted.startswith("*.") or wanted == zone.name:
            return found
        for source in _wildcards(wanted, zone.name):
            wild = self._query(zone, source, rtype)
            if wild is not None and wild.rdatas == found.rdatas:
                return next((r for r in self.records(zone) if r.key == found.key), None)
        return found

    def apply(self, zone: Zone, changes: tuple[Change, ...]) -> Outcome:
        server, key = self._primary(zone), self._key(zone)
        refused = inadmissible(zone, changes)
        if refused is not None:
            return refused
        refused_with: RRset | None = None
        for _ in range(_TRIES):
            soa = self._query(zone, zone.name, "SOA")
            if soa is None:
                raise Errored(f"{server} does not serve {zone.name}: it has no SOA")
            present = self.present(zone, [change.key for change in changes])
            if any(present[change.key] != change.before for change in changes):
                return Conflict()
            try:
                # Nothing changed around the refusal: it is this SOA that does not stand there.
                message = _message(zone, None if soa == refused_with else soa, changes)
                reply = self._wire.update(server, message, key)
            except dns.exception.TooBig:
                return Rejected(
                    f"{len(changes)} changes do not fit into one update of 64 KiB; nothing was "
                    "sent. Move them in several steps, each with some of the `names`"
                )
            code = reply.rcode()
            if code == dns.rcode.NOERROR:
                return Applied()
            if code == dns.rcode.SERVFAIL:
                raise Unsure(f"{server} answered SERVFAIL")
            if code not in _PREREQUISITE:
                return Rejected(_refusal(server, zone, code, signed=key is not None))
            refused_with = soa
        raise Errored(
            f"{zone.name} was changed by others {_TRIES} times while one update was tried; "
            "nothing was changed",
            hint="somebody keeps updating the zone; try again when it is quieter",
        )

    def update_right(self, zone: Zone, changes: tuple[Change, ...]) -> UpdateRight:
        """As the port says. The server judges the right to each set by name and type, as it would
        for the change itself (section 3.3), and then has nothing to do (section 3.4.2.4): the
        serial stands, no secondary is told."""
        refused = inadmissible(zone, changes)
        if refused is not None:
            return UpdateRight(may=False, seen=refused.why)
        server = self._primary(zone)
        asked = [change for change in changes if _lacking(change) is not None]
        if not asked:
            return UpdateRight(may=None, seen="none of these sets can be asked for")
        for start in range(0, len(asked), _AT_ONCE):
            part = asked[start : start + _AT_ONCE]
            told = self._nothing(server, zone, part)
            if told.may is False and len(part) > 1:
                alone = (self._nothing(server, zone, [one]) for one in part[:_NAMED])
                names = [
                    " ".join(one.key) for one, own in zip(part, alone, strict=False)
                    if own.may is False
                ]
                if 0 < len(names) < len(part):
                    return told.model_copy(update={"seen": f"{told.seen} (for {', '.join(names)})"})
            if told.may is not True:
                return told
        return UpdateRight(
            may=True, seen=f"{server} would let the update of {len(asked)} sets through"
        )

    def _nothing(self, server: NameServer, zone: Zone, changes: Sequence[Change]) -> UpdateRight:
        """Send an update that can change nothing: every set as it was is a prerequisite, and what
        is removed is not in it."""
        message, key = dns.update.UpdateMessage(zone.name), self._key(zone)
        for change in changes:
            _guard(message, change)
        for change in changes:
            lacking = _lacking(change)
            assert lacking is not None
            for rdata in parse_rdatas(lacking):
                message.delete(dns.name.from_text(lacking.name), rdata)
        try:
            code = self._wire.update(server, message, key).rcode()
        except KeyRefused as fault:
            return UpdateRight(may=False, seen=fault.message, hint=fault.hint)
        except Unsure as fault:
            return UpdateRight(may=None, seen=f"{fault}; it could change nothing")
        if code == dns.rcode.NOERROR:
            return UpdateRight(may=True, seen=f"{server} would let it through")
        if code in _PREREQUISITE or code == dns.rcode.SERVFAIL:
            text = dns.rcode.to_text(code)
            return UpdateRight(may=None, seen=f"{server} answered {text}; probe again")
        return UpdateRight(
            may=False, seen=_refusal(server, zone, code, signed=key is not None),
            hint="the name server's own log says which rule it was",
        )

    def _query(self, zone: Zone, name: str, rtype: str) -> RRset | None:
        """The set at exactly this name. Raises Errored, also where the server is not right."""
        server = self._primary(zone)
        query = dns.message.make_query(name, parse_type(rtype), use_edns=0, payload=1232)
        query.flags &= ~dns.flags.RD
        reply = self._wire.ask(server, query, self._key(zone))
        code = reply.rcode()
        if code not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
            text = dns.rcode.to_text(code)
            raise Errored(
                f"{server} answered {text} when asked for {name} {rtype}",
                hint=f"is it the primary of {zone.name}, and may we ask it?",
            )
        wanted = parse_type(rtype)
        for rrset in (*reply.answer, *referral(reply, name, wanted)):
            if rrset.rdtype == wanted and canonical_name(rrset.name) == name:
                return to_rrset(rrset.name, rrset)
        return None


def _wildcards(name: str, origin: str) -> list[str]:
    """Wildcard owners in the zone that could answer for a name."""
    out: list[str] = []
    rest = name
    while rest != origin and "." in rest.rstrip("."):
        rest = rest.partition(".")[2]
        out.append(f"*.{rest}")
    return out


def _message(
    zone: Zone, soa: RRset | None, changes: tuple[Change, ...]
) -> dns.update.UpdateMessage:
    """Prerequisites first, then every deletion, then every addition (A → CNAME works so)."""
    message = dns.update.UpdateMessage(zone.name)
    if soa is not None:
        _present(message, soa)
    for change in changes:
        _guard(message, change)
    for change in changes:
        name, rtype = change.key
        if (name, rtype) == (zone.name, "NS"):
            _swap_apex_ns(message, change)
        elif change.before is not None:
            message.delete(dns.name.from_text(name), rtype)
    for change in changes:
        if change.after is not None and change.key != (zone.name, "NS"):
            message.add(dns.name.from_text(change.key[0]), _rdataset(change.after))
    return message


def _guard(message: dns.update.UpdateMessage, change: Change) -> None:
    """The prerequisite that a set is still as it was."""
    if change.before is None:
        message.absent(dns.name.from_text(change.key[0]), change.key[1])
    else:
        _present(message, change.before)


def _lacking(change: Change) -> RRset | None:
    """One record that the set as it was does not have; None where none of that type is known."""
    name, rtype = change.key
    had = change.before.rdatas if change.before is not None else ()
    new = change.after.rdatas if change.after is not None else ()
    for rdata in (*new, *_NEVER_THERE.get(rtype, ())):
        if rdata not in had:
            return RRset(name=name, rtype=rtype, ttl=0, rdatas=(rdata,))
    return None


def _present(message: dns.update.UpdateMessage, rrset: RRset) -> None:
    """A prerequisite on the value. Its TTL must be zero (section 2.4.2)."""
    message.present(dns.name.from_text(rrset.name), _rdataset(rrset.with_ttl(0)))


def _rdataset(rrset: RRset) -> dns.rdataset.Rdataset:
    return dns.rdataset.from_rdata_list(rrset.ttl, parse_rdatas(rrset))


def _swap_apex_ns(message: dns.update.UpdateMessage, change: Change) -> None:
    """Deleting the NS set at the apex is ignored (section 3.4.2.3): add first, then remove."""
    if change.before is None or change.after is None:
        raise ValueError("the NS set of the zone itself cannot be made or removed")
    owner = dns.name.from_text(change.after.name)
    message.add(owner, _rdataset(change.after))
    gone = set(change.before.rdatas) - set(change.after.rdatas)
    for rdata in parse_rdatas(change.before.model_copy(update={"rdatas": tuple(sorted(gone))})):
        message.delete(owner, rdata)


def _refusal(server: NameServer, zone: Zone, code: dns.rcode.Rcode, *, signed: bool) -> str:
    text = dns.rcode.to_text(code)
    how = "the update" if signed else "the update, which carried no TSIG signature"
    reasons = {
        dns.rcode.REFUSED: "check its update policy for this key (BIND: allow-update)",
        dns.rcode.NOTAUTH: f"it is not the primary of {zone.name}, or the key is not for it",
        dns.rcode.NOTIMP: "it takes no dynamic updates",
        dns.rcode.NOTZONE: "a name lies outside of the zone",
        dns.rcode.FORMERR: "it finds the update malformed",
    }
    return f"{server} refused {how}: {text}; {reasons.get(code, 'nothing was changed')}"
