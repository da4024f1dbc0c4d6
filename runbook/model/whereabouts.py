"""Where the machines of an inventory are, and who they are: what tells two of them apart."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from runbook.model.dns import Zone


def canonical(text: str) -> str | None:
    """An IP address in its one form: without a zone, and IPv4 as IPv4 where it is mapped into
    IPv6. None for what is none."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HostKey(_Frozen):
    """A public host key. The same key is the same machine, whatever it is called."""

    kind: str
    """``ssh-ed25519``, …"""
    fingerprint: str
    """``SHA256:…``"""

    def __str__(self) -> str:
        return f"{self.kind} {self.fingerprint}"


class HostPlace(_Frozen):
    """One host of an inventory as it was found."""

    host: str
    """Its name in the inventory."""
    at: str
    """``address:port`` as ssh_config has it, for people."""
    addresses: tuple[str, ...] = ()
    """All of them, in their canonical form; none where only its jump host can resolve its name."""
    way: tuple[str, ...] = ()
    """Addresses of the jump host right before it; none where it is reached directly."""
    keys: tuple[HostKey, ...] = ()
    """The host keys it shows, or is known by."""
    unknown: str = ""
    """Why it cannot be told where or who it is; empty: it can."""


class Whereabouts(Protocol):
    """Finds out about the machines of one plan. Nothing is changed anywhere."""

    def hosts(self, names: Iterable[str]) -> Mapping[str, HostPlace]:
        """Hosts of the inventory by name. What goes wrong is in ``unknown``."""

    def addresses(self, name: str) -> tuple[str, ...]:
        """Of a host name or an address, in canonical form. Raises Errored."""

    def changed_at(self, zone: Zone) -> tuple[str, ...]:
        """Addresses to which changes of a zone are sent. Raises Errored."""

    def served_at(self, zone: Zone) -> tuple[str, ...]:
        """Addresses of every server of a zone, its secondaries too. Raises Errored."""
