"""Whether one MariaDB server follows another: that one, and none that only looks like it.

Global transaction ids do not tell: every server that was given no ``server_id`` has 1, every one
that was given no domain has 0, and ``0-1-100`` of the one is not ``0-1-100`` of the other.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_DEFAULT_ID = 1
"""The ``server_id`` of every server that was given none."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a server is not taken for a replica of another one. ``words`` are about the replica
    ("it …"); ``stranger``: it surely follows another server; ``passing``: that may end by
    itself."""

    words: str
    hint: str
    stranger: bool = False
    passing: bool = False


def doubt(name: str, primary: Mapping[str, Any], replica: Mapping[str, Any]) -> Doubt | None:
    """Whether a replica follows the primary ``name`` and replays what it gets; None: it does.
    Both are given as :func:`~runbook.kinds.mysql_common.state` tells them, the primary first."""
    if replica["role"] != "replica":
        return Doubt("it is a primary, too", f"let it follow {name}")
    if replica["sources"] > 1:
        return Doubt(f"it follows {replica['sources']} servers at once",
                     "RESET SLAVE 'name' ALL takes leave of one")
    of, leader = f"{replica['of']}:{replica['port']}", replica["leader"]
    place, own = primary["place"], primary["server_id"]
    same = _same(place, replica)
    if same is False:
        return Doubt(
            f"it follows {of}, and `replication` of {name} is {place['host']}:{place['port']}",
            f"let it follow {name}, or say in `replication` of {name} where it is followed",
            stranger=True,
        )
    if leader not in (0, own):
        return Doubt(f"it follows {of}, whose server_id is {leader}, and {name} has {own}",
                     f"let it follow {name}", stranger=True)
    if replica["stopped"]:
        return Doubt(f"replication does not run: {replica['error'] or 'it was stopped'}",
                     "see SHOW ALL SLAVES STATUS")
    if not leader:
        return Doubt(f"it has not reached {of} yet{_because(replica)}",
                     "see SHOW ALL SLAVES STATUS", passing=True)
    if same is None and own == _DEFAULT_ID:
        return Doubt(
            f"it follows {of}, and nobody can tell whether that is {name}: the server_id "
            f"{_DEFAULT_ID} has everybody who was given none",
            f"databases: {{{name}: {{replication: 'host={replica['of']} port={replica['port']} "
            "…'}}, where that is it",
        )
    return _unknown_to(name, primary, replica)


def _because(replica: Mapping[str, Any]) -> str:
    return f" ({replica['error']})" if replica["error"] else ""


def _same(place: Mapping[str, Any], replica: Mapping[str, Any]) -> bool | None:
    """Whether a replica follows the server at a place; None: two names, or a name and an address,
    may be one server's. Where `replication` is not declared, the place is only how we get there:
    another one says nothing."""
    ports = int(place["port"]) == replica["port"]
    hosts = _same_host(str(place["host"]), str(replica["of"]))
    if not place["declared"]:
        return True if ports and hosts else None
    return hosts if ports else False


def _same_host(one: str, other: str) -> bool | None:
    if one.casefold() == other.casefold():
        return True
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    except ValueError:
        return None


def _unknown_to(
    name: str, primary: Mapping[str, Any], replica: Mapping[str, Any]
) -> Doubt | None:
    """Transactions of the primary that it does not know of itself. They show only while it takes
    no writes: it was looked at first."""
    if not primary["read_only"]:
        return None
    more = [
        f"{origin}-{sequence}" for origin, sequence in replica["has"].items()
        if origin.endswith(f"-{primary['server_id']}")
        and sequence > primary["has"].get(origin, 0)
    ]
    if not more:
        return None
    return Doubt(
        f"it has transactions of {name} that {name} does not know of itself, up to "
        f"{', '.join(more)}: the binary log of {name} was begun anew (RESET MASTER), or they are "
        "another server's", f"compare both sides, and make the replica anew from {name}",
    )
