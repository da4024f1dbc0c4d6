"""What the DNS kinds share: their fields, the poll of every server, sets as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from runbook.errors import Errored, NotFound
from runbook.model.dns import Change, NameServer, RRset, Variant, Zone, zone_name, zone_origin
from runbook.model.dns_literals import parse_networks
from runbook.model.dns_rewrite import holds
from runbook.model.duration import parse_duration
from runbook.model.ports import Reads

MAX_SERVERS_AT_ONCE = 16

_LISTED = 6

Served = dict[str, dict[str, dict[str, Any]]]
"""server → ``name TYPE`` → {rcode, ttl, rdatas, at}: one poll, as JSON."""


def _ttl(value: Any) -> int:
    seconds = parse_duration(value)
    if seconds != int(seconds) or seconds >= 2**31:
        raise ValueError("a TTL is a whole number of seconds below 2^31")
    return int(seconds)


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _addresses(value: Any) -> Any:
    several = _one_or_more(value)
    if isinstance(several, list | tuple) and all(isinstance(one, str) for one in several):
        parse_networks(several)
    return several


Ttl = Annotated[int, BeforeValidator(_ttl)]
Seconds = Annotated[float, BeforeValidator(parse_duration)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]
Addresses = Annotated[tuple[str, ...], BeforeValidator(_addresses), Field(min_length=1)]

EXCEPT_SERVERS = (
    "Authoritative servers (name or address) known to be dead or out of reach; they are not "
    "asked, and no promise covers the answers they may give."
)


def provider_evidence(reads: Reads, zone: Zone) -> dict[str, Any]:
    """What guards a change of the zone, for the evidence of a step that changes it."""
    caps = reads.dns.caps(zone)
    told: dict[str, Any] = {"name": zone.provider, "cas": caps.cas}
    return {**told, "caution": zone.caution} if zone.caution else told


def absolute(name: str, zone: str) -> str:
    """A name as people write it: ``@``, ``www``, ``www.shop.example`` or with a final dot."""
    text, origin = name.strip().lower(), zone_origin(zone)
    if text in {"@", ""}:
        return origin
    if text.endswith("."):
        return text
    if f"{text}." == origin or f"{text}.".endswith("." + origin):
        return f"{text}."
    return f"{text}.{origin}"


def label(rrset: RRset) -> str:
    """``name TYPE``: the key of a set in states and outputs."""
    return f"{rrset.name} {rrset.rtype}"


def only_names(records: Iterable[RRset], names: Sequence[str], zone: str) -> list[RRset]:
    """The sets at the given names; all of them where no name is given."""
    wanted = {absolute(name, zone) for name in names}
    return [one for one in records if not wanted or one.name in wanted]


def addresses_not_in(
    records: Mapping[str, tuple[RRset, ...]], zone: str, addresses: Sequence[str],
    names: Sequence[str],
) -> tuple[str, ...]:
    """A line for each address or network of which a zone that is known holds none."""
    if zone_name(zone) not in records:
        return ()
    given = only_names(records[zone_name(zone)], names, zone)
    where = f" at {', '.join(names)}" if names else ""
    return tuple(
        f"no record of {zone}{where} holds {one}" for one in addresses
        if not any(holds(rrset, parse_networks((one,))) for rrset in given)
    )


def to_json(records: Iterable[RRset]) -> dict[str, dict[str, Any]]:
    """By ``name TYPE``; ``variants`` is there for a weighted set only."""
    return {
        label(one): {"ttl": one.ttl, "rdatas": list(one.rdatas)} | (
            {"variants": [variant.model_dump(mode="json") for variant in one.variants]}
            if one.variants else {}
        )
        for one in records
    }


def from_json(records: Mapping[str, Mapping[str, Any]]) -> list[RRset]:
    """The reverse of :func:`to_json`."""
    out = []
    for key, value in records.items():
        name, _, rtype = key.rpartition(" ")
        variants = tuple(Variant.model_validate(one) for one in value.get("variants", ()))
        out.append(RRset(
            name=name, rtype=rtype, ttl=value["ttl"], rdatas=tuple(value["rdatas"]),
            variants=variants,
        ))
    return out


def reversed_all(changes: Iterable[Change]) -> tuple[Change, ...]:
    return tuple(change.reversed for change in changes)


def poll_servers(
    reads: Reads, zone: Zone, keys: Iterable[str], excepted: Sequence[str]
) -> tuple[Served, tuple[str, ...]]:
    """Ask every authoritative server for every set (``name TYPE``).

    Servers are asked side by side, each for one set after the other. Also returned are those that
    could not be asked, for which nothing is known.
    """
    wanted = list(keys)
    try:
        servers = [one for one in reads.dns.servers(zone) if not _is_excepted(one, excepted)]
    except Errored as fault:
        return {}, (fault.message,)

    def one_server(server: NameServer) -> tuple[str, dict[str, dict[str, Any]]]:
        found: dict[str, dict[str, Any]] = {}
        for key in wanted:
            name, _, rtype = key.rpartition(" ")
            answer = reads.dns.ask(server, name, rtype)
            rrset = answer.rrset if answer.rrset is not None and not answer.chain else None
            found[key] = {
                "rcode": answer.rcode,
                "ttl": rrset.ttl if rrset else None,
                "rdatas": list(rrset.rdatas) if rrset else [],
                "at": answer.at,
            }
            if answer.rcode not in {"NOERROR", "NXDOMAIN"}:
                break
        return str(server), found

    if not servers:
        return {}, (f"{zone.called}: no authoritative server to ask",)
    with ThreadPoolExecutor(max_workers=min(MAX_SERVERS_AT_ONCE, len(servers))) as pool:
        served = dict(pool.map(one_server, servers))
    return served, tuple(
        f"{server}: {one['rcode']}"
        for server, sets in served.items()
        for one in sets.values()
        if one["rcode"] not in {"NOERROR", "NXDOMAIN"}
    )


def _is_excepted(server: NameServer, excepted: Sequence[str]) -> bool:
    names = {one.lower().rstrip(".") for one in excepted}
    return server.address.lower() in names or server.name.lower().rstrip(".") in names


def listed(problems: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    shown = "; ".join(problems[:_LISTED])
    more = len(problems) - _LISTED
    return f"{shown}; and {more} more" if more > 0 else shown


def changed_sets(reads: Reads, step: str, field: str) -> Mapping[str, Any]:
    """Outputs of an earlier dns.ttl or dns.flip step, whose sets each have ``field``.

    Raises NotFound where the step gave no such outputs.
    """
    outputs = reads.outputs(step)
    sets = outputs.get("sets")
    usable = isinstance(sets, Mapping) and all(field in one for one in sets.values())
    if not usable or not sets or "zone" not in outputs:
        raise NotFound(
            f"the step {step!r} has no record sets to go by",
            hint="name a dns.ttl step, or for dns.wait_ttl also a dns.flip step, under `of`",
        )
    return outputs


def of_set(served: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    """server → what it serves of one set; servers that did not get that far are left out."""
    return {server: sets[key] for server, sets in served.items() if key in sets}


def greatest_ttl(served: Mapping[str, Any], key: str, at_least: int) -> int:
    """The greatest TTL any server gives a set with."""
    return max((one["ttl"] or 0 for one in of_set(served, key).values()), default=at_least)


def last_seen(served: Mapping[str, Any], key: str) -> float:
    """When the last server's answer had arrived."""
    return max(float(one["at"]) for one in of_set(served, key).values())


CANNOT_ASK = (
    "every authoritative server has to answer first, or nobody can tell how long caches hold its "
    "answers: {}. Mend it, or list it under `except_servers`"
)
