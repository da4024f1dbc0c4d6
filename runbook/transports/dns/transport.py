"""DNS as the rest of the program sees it: questions, and guarded changes of record sets.

A change is never believed: after the provider's yes the sets are read back from the primary and
compared. A change that conflicts is looked at: where the present already is what was wanted, it
has been done before; else the drift is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import dns.flags
import dns.message
import dns.tsig

from runbook.errors import Errored, InDoubt, NotFound
from runbook.model.actions import ActionKey, ActionResult, ChangeRecordSet
from runbook.model.dns import (
    PROVIDERS,
    Answer,
    Change,
    NameServer,
    ProviderCaps,
    RRset,
    Zone,
    show_weights,
    zone_name,
)
from runbook.model.endpoints import Endpoints
from runbook.model.ports import Clock, Resolution, UpdateRight
from runbook.transports.dns.cloudflare import Cloudflare
from runbook.transports.dns.filezone import FileZone
from runbook.transports.dns.octodns_bridge import OctoDns
from runbook.transports.dns.powerdns import PowerDns
from runbook.transports.dns.provider import (
    Applied,
    Conflict,
    Present,
    Provider,
    Rejected,
    stands,
)
from runbook.transports.dns.records import canonical_name, canonical_set, parse_type, to_answer
from runbook.transports.dns.rfc2136 import Rfc2136
from runbook.transports.dns.route53 import Route53
from runbook.transports.dns.servers import Servers, is_address, parse_server
from runbook.transports.dns.wire import KeyRefused, Unsure, Wire, parse_tsig

_LOOKS = 3
"""Looks, a second apart, for what came of an update nobody answered: it may still be under way."""

_PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between looks at a zone that took an update and still shows what was before."""


class Secrets(Protocol):
    """What this transport needs of the secret store."""

    def value(self, name: str) -> str: ...


class DnsTransport:
    """Implements :class:`~runbook.model.ports.DnsReads` and performs ChangeRecordSet.

    ``endpoints`` redirects every connection (a sandbox); None is the real world. In a sandbox a
    zone that its provider changes by an API is changed in the sandbox's own name server, by
    RFC 2136: no API is ever reached from there. ``directory`` is where the path of a zone file
    starts; ``timeout`` is the patience of one exchange in seconds, ``api_timeout`` that of one
    request to a provider's API. Holds no connection; may be shared by threads.
    """

    def __init__(
        self,
        zones: tuple[Zone, ...],
        *,
        secrets: Secrets,
        clock: Clock,
        endpoints: Endpoints | None = None,
        directory: Path | None = None,
        timeout: float = 3.0,
        api_timeout: float = 15.0,
    ) -> None:
        self._zones = {zone.called: zone for zone in zones}
        self._secrets = secrets
        self._clock = clock
        self._endpoints = endpoints
        self._wire = Wire(endpoints, timeout)
        self._servers = Servers(self._wire, endpoints, self._question_key)
        self._providers: dict[str, Provider] = {
            "rfc2136": Rfc2136(self._wire, self._servers.primary, self._key),
            "file": FileZone(directory or Path()),
            "powerdns": PowerDns(secrets.value, api_timeout),
            "route53": Route53(secrets.value, api_timeout),
            "cloudflare": Cloudflare(secrets.value, api_timeout),
            "octodns": OctoDns(secrets.value),
        }

    def zone(self, name: str) -> Zone:
        found = self._zones.get(zone_name(name))
        if found is None:
            known = ", ".join(sorted(self._zones)) or "none"
            raise NotFound(
                f"the zone {name} is not declared",
                hint=f"declare it under `zones:` (declared: {known})",
            )
        return found

    def caps(self, zone: Zone) -> ProviderCaps:
        """What the zone's provider promises in production, in a sandbox too."""
        found = PROVIDERS.get(zone.provider)
        if found is None:
            raise self._no_provider(zone)
        return found

    def records(self, zone: Zone) -> tuple[RRset, ...]:
        return self._provider(zone).records(zone)

    def get(self, zone: Zone, name: str, rtype: str) -> RRset | None:
        key = (canonical_name(name), rtype.upper())
        return self._provider(zone).present(zone, [key])[key]

    def servers(self, zone: Zone) -> tuple[NameServer, ...]:
        return self._servers.all(zone)

    def primary(self, zone: Zone) -> NameServer:
        """The server that changes of a zone are sent to, where they are sent to a server. Raises
        Errored."""
        return self._servers.primary(zone)

    def ask(self, server: NameServer, name: str, rtype: str) -> Answer:
        return self._answer(server, str(server), name, rtype, recursive=False)

    def resolve(self, resolver: str, name: str, rtype: str) -> Answer:
        return self._resolve(resolver, name, rtype, further=True)

    def cached(self, resolver: str, name: str, rtype: str) -> Answer:
        return self._resolve(resolver, name, rtype, further=False)

    def update_right(self, zone: Zone, changes: tuple[Change, ...]) -> UpdateRight:
        provider = self._provider(zone)
        try:
            return provider.update_right(zone, tuple(_canonical(change) for change in changes))
        except ValueError as fault:
            return UpdateRight(may=False, seen=str(fault))

    def _resolve(self, resolver: str, name: str, rtype: str, *, further: bool) -> Answer:
        try:
            host, port = parse_server(resolver)
        except ValueError:
            return Answer(server=resolver, rcode="UNREACHABLE", rrset=None, at=self._clock.now())
        if not is_address(host):
            host = next(iter(self._servers.addresses(host)), host)
        server = NameServer(name=resolver, address=host, port=port)
        return self._answer(server, resolver, name, rtype, recursive=further)

    def _answer(
        self, server: NameServer, label: str, name: str, rtype: str, *, recursive: bool
    ) -> Answer:
        query = dns.message.make_query(
            canonical_name(name), parse_type(rtype), use_edns=0, payload=1232
        )
        if not recursive:
            query.flags &= ~dns.flags.RD
        try:
            reply = self._wire.ask(server, query, self._question_key(server))
        except Errored as fault:
            rcode = "BADKEY" if isinstance(fault, KeyRefused) else "UNREACHABLE"
            return Answer(server=label, rcode=rcode, rrset=None, at=self._clock.now())
        return to_answer(
            reply, label, name, rtype,
            aa=bool(reply.flags & dns.flags.AA), at=self._clock.now(),
        )

    def perform(self, action: ChangeRecordSet, key: ActionKey) -> ActionResult:
        """Carry out a guarded change, once. ``ok`` false: drift, or refused; nothing changed.

        ``data`` holds ``already`` (it was done before), ``clamped`` (sets whose TTL the server
        made another). Raises Errored (nothing changed) or InDoubt.
        """
        zone = self.zone(action.zone)
        try:
            changes = tuple(_canonical(change) for change in action.changes)
        except ValueError as fault:
            return ActionResult(ok=False, detail=f"{fault}; nothing was sent")
        provider = self._provider(zone)
        if not provider.caps.max_weight and any(_weighted(change) for change in changes):
            return ActionResult(
                ok=False, detail=f"{zone.provider} knows no weighted sets; nothing was sent"
            )
        try:
            outcome = provider.apply(zone, changes)
        except Unsure as unsure:
            return self._settle(provider, zone, changes, str(unsure))
        match outcome:
            case Rejected(why):
                return ActionResult(ok=False, detail=why)
            case Applied():
                return _read_back(changes, self._look(provider, zone, changes))
            case Conflict():
                return _drift(changes, provider.present(zone, _keys(changes)), provider.caps)

    def resolve_change(self, action: ChangeRecordSet, key: ActionKey) -> Resolution:
        """After a crash: whether the change was done, by reading the sets."""
        zone = self.zone(action.zone)
        try:
            changes = tuple(_canonical(change) for change in action.changes)
            provider = self._provider(zone)
            present = provider.present(zone, _keys(changes))
        except (Errored, ValueError) as fault:
            return Resolution(outcome="unknown", detail=str(fault))
        if _all_after(changes, present, provider.caps):
            result = ActionResult(ok=True, detail="the zone holds it", data={"already": True})
            return Resolution(outcome="done", result=result)
        if _all_before(changes, present, provider.caps):
            return Resolution(outcome="not_done", detail="the zone is as it was before")
        return Resolution(outcome="unknown", detail=_drift(changes, present, provider.caps).detail)

    def _look(self, provider: Provider, zone: Zone, changes: tuple[Change, ...]) -> Present:
        """Read after an accepted change, with patience for a server that shows it a moment later
        (BIND's ``inline-signing``). Raises InDoubt where nobody answers any more."""
        try:
            for pause in _PAUSES:
                present = provider.present(zone, _keys(changes))
                if not any(present[one.key] == one.before != one.after for one in changes):
                    return present
                self._clock.wait(self._clock.now() + pause)
            return provider.present(zone, _keys(changes))
        except Errored as fault:
            raise InDoubt(
                f"the update of {zone.called} was accepted but cannot be read back: {fault}",
                hint="look at the zone; `runbook resume` asks again",
            ) from fault

    def _settle(
        self, provider: Provider, zone: Zone, changes: tuple[Change, ...], why: str
    ) -> ActionResult:
        """Nobody answered the update: look what is there. Raises Errored or InDoubt."""
        present: Present | None = None
        asked = ""
        for look in range(_LOOKS):
            if look:
                self._clock.wait(self._clock.now() + 1.0)
            try:
                present = provider.present(zone, _keys(changes))
            except Errored as fault:
                present, asked = None, f"; asked again: {fault}"
                continue
            if _all_after(changes, present, provider.caps):
                return ActionResult(
                    ok=True, detail=f"done, though the server did not say so ({why})",
                    data={"already": False},
                )
        if present is not None and _all_before(changes, present, provider.caps):
            raise Errored(
                f"the update of {zone.called} got no answer ({why}); the zone is unchanged",
                hint="check the name server; trying again is safe, the change is guarded",
            )
        seen = "" if present is None else f"; {_drift(changes, present, provider.caps).detail}"
        raise InDoubt(
            f"the update of {zone.called} was sent and its outcome is unknown ({why}{asked}){seen}",
            hint="look at the zone; `runbook resume` asks again and repeats nothing",
        )

    def _provider(self, zone: Zone) -> Provider:
        found = self._providers.get(zone.provider)
        if found is None:
            raise self._no_provider(zone)
        if self._endpoints is not None and zone.provider != "file":
            return self._providers["rfc2136"]
        return found

    def _no_provider(self, zone: Zone) -> NotFound:
        return NotFound(
            f"there is no DNS provider {zone.provider!r} (zone {zone.name})",
            hint=f"known: {', '.join(sorted(self._providers))}",
        )

    def _question_key(self, server: NameServer) -> dns.tsig.Key | None:
        if server.key is None:
            return None
        return parse_tsig(server.key, self._secrets.value(server.key))

    def _key(self, zone: Zone) -> dns.tsig.Key | None:
        if zone.provider != "rfc2136":
            # Only in a sandbox: the zone's own key opens an API and is none of TSIG's.
            made_up = self._endpoints.tsig.get(zone.called) if self._endpoints is not None else None
            return parse_tsig("the sandbox's own", made_up) if made_up is not None else None
        if zone.key is None:
            return None
        return parse_tsig(zone.key, self._secrets.value(zone.key))


def _canonical(change: Change) -> Change:
    return Change(
        before=canonical_set(change.before) if change.before is not None else None,
        after=canonical_set(change.after) if change.after is not None else None,
    )


def _weighted(change: Change) -> bool:
    return any(one is not None and one.variants for one in (change.before, change.after))


def _keys(changes: Sequence[Change]) -> list[tuple[str, str]]:
    return [change.key for change in changes]


def _all_after(changes: Sequence[Change], present: Present, caps: ProviderCaps) -> bool:
    return all(stands(present[change.key], change.after, caps) for change in changes)


def _all_before(changes: Sequence[Change], present: Present, caps: ProviderCaps) -> bool:
    return all(stands(present[change.key], change.before, caps) for change in changes)


def _value(rrset: RRset | None) -> str:
    if rrset is None:
        return "no such set"
    values = show_weights(rrset.weights) if rrset.variants else ", ".join(rrset.rdatas)
    return f"{values} (TTL {rrset.ttl})"


def _drift(changes: Sequence[Change], present: Present, caps: ProviderCaps) -> ActionResult:
    """The prior values do not stand: done before, or drift, which is shown."""
    if _all_after(changes, present, caps):
        return ActionResult(ok=True, detail="already applied", data={"already": True})
    lines = [
        f"{' '.join(change.key)}: now {_value(present[change.key])}, "
        f"the plan saw {_value(change.before)}"
        for change in changes
        if not stands(present[change.key], change.before, caps)
    ]
    text = "; ".join(lines) or "the sets are as the plan saw them again"
    return ActionResult(
        ok=False, detail=f"the zone is not as the plan saw it; nothing was changed: {text}",
        data={"drift": lines},
    )


def _read_back(changes: Sequence[Change], present: Present) -> ActionResult:
    """Compare what is there after an accepted change with what was asked for."""
    wrong: list[str] = []
    clamped: dict[str, int] = {}
    for change in changes:
        now, after = present[change.key], change.after
        if now == after:
            continue
        if now is not None and after is not None and now.with_ttl(0) == after.with_ttl(0):
            clamped[" ".join(change.key)] = now.ttl
        else:
            wrong.append(f"{' '.join(change.key)}: now {_value(now)}, asked for {_value(after)}")
    if wrong:
        return ActionResult(
            ok=False, data={"differs": wrong},
            detail="the server accepted the update but does not hold it: " + "; ".join(wrong),
        )
    detail = f"{len(changes)} record set{'s' if len(changes) != 1 else ''} changed and read back"
    if clamped:
        detail += "; TTL made another by the server: " + ", ".join(
            f"{name} {ttl}" for name, ttl in clamped.items()
        )
    return ActionResult(ok=True, detail=detail, data={"already": False, "clamped": clamped})
