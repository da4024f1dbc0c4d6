"""What a DNS provider has to do. One file a provider; the transport does the rest once for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runbook.model.dns import Change, ProviderCaps, RRset, Zone


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
