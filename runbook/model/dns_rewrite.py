"""Moving addresses inside record sets: old ones out, new ones in. No network."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from runbook.model.dns import Change, RRset, show_weights
from runbook.model.dns_literals import (
    REWRITABLE,
    Network,
    literals,
    overlaps,
    parse_network,
    rewrite,
    show,
)


class AddressMap(BaseModel):
    """Which address (or network) takes the place of which."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: tuple[tuple[str, str], ...]

    @classmethod
    def build(
        cls, old: str | Sequence[str], new: str | Sequence[str] | Mapping[str, str]
    ) -> AddressMap:
        """Pair ``old`` with ``new``: by key where ``new`` is a mapping, else by position.

        Raises ValueError where one has no partner, the families differ, or the sizes do.
        """
        olds = [old] if isinstance(old, str) else list(old)
        if not olds:
            raise ValueError("`from` names no address")
        if isinstance(new, Mapping):
            by_network = {parse_network(key): value for key, value in new.items()}
            missing = [one for one in olds if parse_network(one) not in by_network]
            if missing:
                raise ValueError(f"`to` has no address for {', '.join(missing)}")
            if len(by_network) > len(olds):
                raise ValueError("`to` holds addresses that are not in `from`")
            news = [by_network[parse_network(one)] for one in olds]
        else:
            news = [new] if isinstance(new, str) else list(new)
        if len(news) != len(olds):
            raise ValueError(
                f"{len(olds)} addresses in `from` but {len(news)} in `to`; write `to` as a list "
                "of the same length or as a mapping old: new"
            )
        for one, other in zip(olds, news, strict=True):
            _check_pair(parse_network(one), parse_network(other))
        return cls(
            pairs=tuple(
                (str(parse_network(a)), str(parse_network(b)))
                for a, b in zip(olds, news, strict=True)
            )
        )

    @property
    def networks(self) -> tuple[tuple[Network, Network], ...]:
        return tuple((ipaddress.ip_network(a), ipaddress.ip_network(b)) for a, b in self.pairs)

    @property
    def old(self) -> tuple[Network, ...]:
        return tuple(a for a, _ in self.networks)

    @property
    def new(self) -> tuple[Network, ...]:
        return tuple(b for _, b in self.networks)

    def translate(self, network: Network) -> Network | None:
        """The network's new place: host bits are kept. None where it is not to move."""
        for a, b in self.networks:
            if network.version == a.version and _inside(network, a):
                offset = int(network.network_address) - int(a.network_address)
                start = ipaddress.ip_address(int(b.network_address) + offset)
                if start.version != b.version:
                    start = ipaddress.IPv6Address(int(b.network_address) + offset)
                return ipaddress.ip_network(f"{start}/{network.prefixlen}")
        return None


def _check_pair(old: Network, new: Network) -> None:
    if old.version != new.version:
        raise ValueError(f"{show(old)} cannot become {show(new)}: IPv4 and IPv6 do not mix")
    if old.prefixlen != new.prefixlen:
        raise ValueError(f"{show(old)} and {show(new)} are not of the same size")
    if old.overlaps(new):
        raise ValueError(f"{show(old)} and {show(new)} overlap: nothing would move")


def _inside(one: Network, other: Network) -> bool:
    return (
        one.prefixlen >= other.prefixlen
        and one.network_address in other
        and one.broadcast_address in other
    )


class Rewriting(BaseModel):
    """What moving the addresses would change, and what stands in the way."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    changes: tuple[Change, ...]
    blocked: tuple[str, ...]
    """Each a sentence: a set that would go on leading to the old side."""


def holds(rrset: RRset, networks: Sequence[Network]) -> bool:
    """Whether an address of ``networks`` is written out in the set."""
    return any(
        overlaps(found, networks)
        for rdata in rrset.rdatas
        for found in literals(rrset.rtype, rdata)
    )


def moved(rrset: RRset, addresses: AddressMap) -> RRset:
    """The set with every old address replaced; the TTL is kept."""
    rdatas = {rewrite(rrset.rtype, rdata, addresses.translate) for rdata in rrset.rdatas}
    return rrset.model_copy(update={"rdatas": tuple(sorted(rdatas))})


def rewriting(
    records: Iterable[RRset],
    addresses: AddressMap,
    *,
    leave: Collection[str] = (),
    ttl: int | None = None,
) -> Rewriting:
    """Changes that move every literal old address, by name and type.

    ``leave`` holds ``name`` or ``name TYPE`` of sets that stay as they are on purpose. Blocked is
    a set whose old address cannot be rewritten (a wider SPF network, a URL), and a set of the
    other address family beside a moved one: clients would go on reaching the old side by it.
    """
    everything = [r for r in records if r.name not in leave and f"{r.name} {r.rtype}" not in leave]
    changes: list[Change] = []
    blocked: list[str] = []
    for rrset in sorted(everything, key=lambda r: r.key):
        if not holds(rrset, addresses.old):
            continue
        if rrset.variants:
            blocked.append(
                f"{rrset.name} {rrset.rtype} is weighted ({show_weights(rrset.weights)}): its "
                "traffic is moved by dns.shift, not by another address"
            )
            continue
        after = moved(rrset, addresses) if rrset.rtype in REWRITABLE else rrset
        if holds(after, addresses.old):
            blocked.append(
                f"{rrset.name} {rrset.rtype} holds an old address that cannot be replaced: "
                f"{', '.join(rrset.rdatas)}"
            )
        elif after.rdatas != rrset.rdatas:
            changes.append(
                Change(before=rrset, after=after if ttl is None else after.with_ttl(ttl))
            )
    changed = {change.key for change in changes}
    moving = {name for name, rtype in changed if rtype in {"A", "AAAA"}}
    for rrset in everything:
        if rrset.name not in moving or rrset.rtype not in {"A", "AAAA", "HTTPS", "SVCB"}:
            continue
        stays = _stays(rrset, addresses, whole=rrset.key not in changed)
        if stays:
            blocked.append(
                f"{rrset.name} {rrset.rtype} keeps {', '.join(stays)}, which `from` does not "
                "name: clients would go on using it beside the moved address"
            )
    return Rewriting(changes=tuple(changes), blocked=tuple(blocked))


def _stays(rrset: RRset, addresses: AddressMap, *, whole: bool) -> list[str]:
    """Addresses of a neighbouring set that would not move and are not new either.

    In a set that does change, only the family that has no address in ``from`` counts: an A set
    of several addresses may keep the others.
    """
    families = {network.version for network in addresses.old}
    return [
        show(found)
        for rdata in rrset.rdatas
        for found in literals(rrset.rtype, rdata)
        if not overlaps(found, addresses.old)
        and not overlaps(found, addresses.new)
        and (whole or found.version not in families)
    ]
