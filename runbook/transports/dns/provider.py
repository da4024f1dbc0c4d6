"""What a DNS provider has to do. One file a provider; the transport does the rest once for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runbook.model.dns import Change, ProviderCaps, RRset, Zone
from runbook.model.ports import UpdateRight
from runbook.transports.dns.wire import KeyRefused


@dataclass(frozen=True, slots=True)
class Applied:
    """The provider said yes. Whether it did so is read back by the transport."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """What is there is not what the change expects; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The provider said no for another reason; nothing was changed."""

    why: str


Present = Mapping[tuple[str, str], RRset | None]
Outcome = Applied | Conflict | Rejected


def stands(present: RRset | None, wanted: RRset | None, caps: ProviderCaps) -> bool:
    """Whether a set is there as wanted.

    A TTL outside of what the provider can hold stands as the nearest that it can: it was made
    another without a word when it was written.
    """
    if present == wanted or present is None or wanted is None:
        return present == wanted
    nearest = min(max(wanted.ttl, caps.min_ttl), caps.max_ttl)
    return present == wanted.with_ttl(nearest)


def inadmissible(zone: Zone, changes: Sequence[Change]) -> Rejected | None:
    """What no provider is asked for: the SOA, and names of another zone."""
    for change in changes:
        if change.key[1] == "SOA":
            return Rejected("the SOA is the server's own; it is not changed by an update")
        if not (change.key[0] == zone.name or change.key[0].endswith("." + zone.name)):
            return Rejected(f"{change.key[0]} is not in the zone {zone.name}")
    return None


def may_read(provider: Provider, zone: Zone, changes: Sequence[Change]) -> UpdateRight:
    """All that a provider's API tells of a key without a change. Raises Errored."""
    try:
        provider.present(zone, [change.key for change in changes[:1]])
    except KeyRefused as fault:
        return UpdateRight(may=False, seen=fault.message, hint=fault.hint)
    return UpdateRight(
        may=None,
        seen=f"the key reads {zone.called} at {zone.provider}; that it may write shows only by a "
        "change",
        hint="look at what the provider's own page says the key may do",
    )


class Provider(Protocol):
    """Sets are in canonical form (see :mod:`runbook.transports.dns.records`) in and out."""

    @property
    def caps(self) -> ProviderCaps: ...

    def records(self, zone: Zone) -> tuple[RRset, ...]:
        """The whole zone. Raises Errored."""

    def present(self, zone: Zone, keys: Sequence[tuple[str, str]]) -> Present:
        """Sets, each by (name, type), as the primary has them now. Raises Errored."""

    def apply(self, zone: Zone, changes: tuple[Change, ...]) -> Outcome:
        """All changes in one, only if every ``before`` still stands, its TTL included.

        Raises Errored (certainly nothing changed) or Unsure (it was sent, nobody answered).
        """

    def update_right(self, zone: Zone, changes: tuple[Change, ...]) -> UpdateRight:
        """Whether these changes would be let through, without changing anything. Raises
        Errored."""
