"""An authoritative name server in this process: queries, AXFR, TSIG and dynamic update.

For rehearsals and tests on 127.0.0.1; no delegations, no DNSSEC. Zones are dnspython versioned
zones: an update is one transaction, and every earlier version stays readable, which is how a
secondary can follow with a lag.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update
import dns.versioned
import dns.zone

from runbook.model.ports import Clock
from runbook.sandbox.dns_answer import answer
from runbook.sandbox.dns_listener import DnsServer
from runbook.sandbox.dns_update import Refusal, apply_update

_SETS_A_MESSAGE = 100
_MAX_MESSAGE = 65535
_BADSIG, _BADKEY, _BADTIME = 16, 17, 18


class _History:
    """One zone and the moments at which each of its versions began."""

    def __init__(self, origin: dns.name.Name, text: str, now: float) -> None:
        self.origin = origin
        self.zone: dns.versioned.Zone = dns.zone.from_text(  # type: ignore[assignment]
            text, origin, zone_factory=dns.versioned.Zone, relativize=False
        )
        self.zone.set_pruning_policy(lambda zone, version: False)
        with self.zone.reader() as reader:
            self.versions = [(now, _version_id(reader))]

    def mark(self, now: float) -> None:
        """A new version has begun."""
        with self.zone.reader() as reader:
            self.versions.append((now, _version_id(reader)))

    def at(self, moment: float | None) -> int | None:
        """Id of the version that stood at a moment; None: the newest."""
        if moment is None:
            return None
        past = [ident for began, ident in self.versions if began <= moment]
        return past[-1] if past else self.versions[0][1]


def _version_id(reader: object) -> int:
    ident: int = reader.version.id  # type: ignore[attr-defined]
    return ident


class AuthoritativeServer(DnsServer):
    """A primary, or, made by :meth:`secondary`, a follower that lags.

    ``zones`` maps each origin to its zone text (RFC 1035 section 5). ``tsig_keys`` maps a key's
    name to (algorithm, base64 secret); with keys given, AXFR and updates need a signature,
    without any they are open. ``clock`` is the run's time; TSIG's own time is the machine's.
    """

    title = "name server"

    def __init__(
        self,
        zones: Mapping[str, str],
        tsig_keys: Mapping[str, tuple[str, str]],
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._lag: float | None = None
        self._lock = threading.Lock()
        now = clock.now()
        self._histories = {
            origin: _History(origin, text, now)
            for origin, text in ((dns.name.from_text(name), zones[name]) for name in zones)
        }
        self._keys: dict[dns.name.Name, dns.tsig.Key] = {
            dns.name.from_text(name): dns.tsig.Key(name, secret, algorithm)
            for name, (algorithm, secret) in tsig_keys.items()
        }

    def secondary(self, lag: float) -> AuthoritativeServer:
        """A server of the same zones that sees every change ``lag`` seconds of the clock late.

        It takes no updates. Start and stop it by itself.
        """
        other = AuthoritativeServer({}, {}, self._clock)
        other._histories, other._keys, other._lock = self._histories, self._keys, self._lock
        other._lag = lag
        return other

    def snapshot(self) -> str:
        """Canonical text of all zones, one record a line, for fingerprints.

        The SOA's serial is left out, as every change and its undo counts it up.
        """
        lines: list[str] = []
        with ExitStack() as stack:
            for reader in self._readers(stack).values():
                for name, rdataset in reader.iterate_rdatasets():
                    kind = dns.rdatatype.to_text(rdataset.rdtype)
                    for rdata in rdataset:
                        one = rdata.replace(serial=0) if kind == "SOA" else rdata
                        owner = name.canonicalize().to_text()
                        lines.append(f"{owner} {rdataset.ttl} IN {kind} {one.to_text()}")
        return "\n".join(sorted(lines)) + "\n"

    def _readers(self, stack: ExitStack) -> dict[dns.name.Name, dns.zone.Transaction]:
        moment = None if self._lag is None else self._clock.now() - self._lag
        with self._lock:
            wanted = [(h, h.at(moment)) for h in self._histories.values()]
            return {h.origin: stack.enter_context(h.zone.reader(ident)) for h, ident in wanted}

    def _handle(self, wire: bytes, tcp: bool) -> Iterable[bytes]:
        try:
            query = dns.message.from_wire(wire, keyring=self._keys, one_rr_per_rrset=True)
        except dns.message.UnknownTSIGKey:
            return self._not_authentic(wire, _BADKEY)
        except (dns.tsig.BadSignature, dns.tsig.BadKey, dns.tsig.BadAlgorithm):
            return self._not_authentic(wire, _BADSIG)
        except dns.tsig.BadTime:
            return self._not_authentic(wire, _BADTIME)
        except (dns.exception.DNSException, ValueError):
            return self._malformed(wire)
        if query.flags & dns.flags.QR:
            return []
        return self._respond(query, tcp)

    def _respond(self, query: dns.message.Message, tcp: bool) -> Iterator[bytes]:
        response = dns.message.make_response(query)
        if isinstance(query, dns.update.UpdateMessage):
            response.set_rcode(self._update(query))
            yield response.to_wire()
            return
        if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
            response.set_rcode(dns.rcode.NOTIMP)
            yield response.to_wire()
            return
        if query.question[0].rdtype in {dns.rdatatype.AXFR, dns.rdatatype.IXFR}:
            yield from self._transfer(query, response, tcp)
            return
        response.flags |= dns.flags.AA
        with ExitStack() as stack:
            answer(self._readers(stack), query, response)
        if tcp:
            yield response.to_wire(max_size=_MAX_MESSAGE)
        else:
            size = max(512, query.payload) if query.edns >= 0 else 512
            yield response.to_wire(max_size=size, prefer_truncation=True)

    def _update(self, query: dns.update.UpdateMessage) -> dns.rcode.Rcode:
        if self._lag is not None:
            return dns.rcode.NOTAUTH
        if self._keys and not query.had_tsig:
            return dns.rcode.REFUSED
        history = self._histories.get(query.zone[0].name) if query.zone else None
        if history is None:
            return dns.rcode.NOTAUTH
        with self._lock:
            try:
                if apply_update(history.zone, query):
                    history.mark(self._clock.now())
            except Refusal as refusal:
                return refusal.rcode
        return dns.rcode.NOERROR

    def _transfer(
        self, query: dns.message.Message, response: dns.message.Message, tcp: bool
    ) -> Iterator[bytes]:
        origin = query.question[0].name
        refused = not tcp or (self._keys and not query.had_tsig)
        if refused or origin not in self._histories:
            response.set_rcode(dns.rcode.REFUSED if refused else dns.rcode.NOTAUTH)
            yield response.to_wire()
            return
        sets: list[dns.rrset.RRset] = []
        with ExitStack() as stack:
            for name, rdataset in self._readers(stack)[origin].iterate_rdatasets():
                one = dns.rrset.from_rdata_list(name, rdataset.ttl, list(rdataset))
                sets.insert(0 if one.rdtype == dns.rdatatype.SOA else len(sets), one)
        sets.append(sets[0])
        context, start, count = None, 0, _SETS_A_MESSAGE
        while start < len(sets):
            part = dns.message.make_response(query)
            part.flags |= dns.flags.AA
            part.answer = sets[start : start + count]
            try:
                yield part.to_wire(max_size=_MAX_MESSAGE, multi=True, tsig_ctx=context)
            except dns.exception.TooBig:
                if count == 1:
                    raise
                count = max(1, count // 2)
                continue
            context, start = part.tsig_ctx, start + count

    def _not_authentic(self, wire: bytes, error: int) -> Iterable[bytes]:
        """RFC 8945 section 5.2: NOTAUTH with an unsigned TSIG record that names the error."""
        query = dns.message.from_wire(wire, keyring=False, continue_on_error=True)
        response = dns.message.make_response(query)
        response.use_edns(-1)  # an OPT record would be written after the TSIG, which must be last
        response.set_rcode(dns.rcode.NOTAUTH)
        seen = query.tsig[0] if query.tsig is not None else None
        if query.tsig is not None and seen is not None:
            rdata = seen.replace(
                time_signed=int(time.time()), mac=b"", original_id=query.id, error=error, other=b""
            )
            response.additional.append(dns.rrset.from_rdata(query.tsig.name, 0, rdata))
        return [response.to_wire()]

    def _malformed(self, wire: bytes) -> Iterable[bytes]:
        if len(wire) < 12 or wire[2] & 0x80:
            return []
        flags = bytes([0x80 | (wire[2] & 0x79), int(dns.rcode.FORMERR)])
        return [wire[:2] + flags + bytes(8)]
