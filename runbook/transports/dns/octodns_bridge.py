"""A zone behind any provider of octoDNS (the extra ``octodns``), where there is none of our own.

octoDNS works by whole zones: the zone is read, our sets are put in place of theirs in a copy of it,
and the provider works out the difference and writes that. So a partial zone is never handed to it
(what is missing would be deleted), and what it is about to write is held against what was asked
before it writes anything: not one record more. A provider that writes the whole zone anew, whatever
was changed (octodns-bind's zone files), is refused by that.

There is no compare-and-swap: the zone is read again right before it is written, and read back
after. Nor is one promised to do all or nothing: where it stops in the middle, the transport looks
what is there. What octoDNS keeps beside a set's records (settings of one provider, health checks)
stays in place; a set that has such settings is not removed, as it could not be put back, and one
with an answer that depends on who asks (``geo``, ``dynamic``) is not changed at all.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runbook.errors import Errored, NotFound
from runbook.model.dns import PROVIDERS, Change, RRset, Zone
from runbook.model.ports import UpdateRight
from runbook.transports.dns.provider import (
    Applied,
    Conflict,
    Outcome,
    Present,
    Rejected,
    inadmissible,
    may_read,
)
from runbook.transports.dns.records import LEFT_OUT, canonical_set, parse_type
from runbook.transports.dns.wire import Unsure

_Key = tuple[str, str]


class OctoDns:
    """``secret`` gives a secret's value.

    A provider is made anew for each use: those of octoDNS remember what they have read.
    """

    caps = PROVIDERS["octodns"]

    def __init__(self, secret: Callable[[str], str]) -> None:
        self._secret = secret

    def records(self, zone: Zone) -> tuple[RRset, ...]:
        held = _by_key(zone, _read(zone, self._made(zone)))
        return tuple(rrset for _, (rrset, _) in sorted(held.items()))

    def present(self, zone: Zone, keys: Sequence[_Key]) -> Present:
        return _served(_by_key(zone, _read(zone, self._made(zone))), keys)

    def apply(self, zone: Zone, changes: tuple[Change, ...]) -> Outcome:
        refused = inadmissible(zone, changes)
        if refused is not None:
            return refused
        provider = self._made(zone)
        desired = _read(zone, provider)
        held = _by_key(zone, desired)
        wanted = [change for change in changes if change.before != change.after]
        refused = next(filter(None, (_unable(one, held) for one in wanted)), None)
        if _conflicts(changes, held):
            return Conflict()
        if refused is not None or not wanted:
            return refused or Applied()
        try:
            _put_in_place(desired, wanted, held, provider)
        except Exception as fault:  # noqa: BLE001 - octoDNS refuses what it cannot express
            return Rejected(
                f"octoDNS cannot express the change of {zone.name}: {_words(fault)}; nothing was "
                "sent"
            )
        # Another one, which has not read the zone yet: this is the look right before the writing.
        provider = self._made(zone)
        try:
            plan = provider.plan(desired, lenient=True)
        except Exception as fault:
            raise _not_asked(zone, fault) from fault
        if plan is None:
            return Rejected(f"{zone.provider_class} finds nothing to change in {zone.name}; "
                            "it may not hold the TTL or the type that was asked for")
        if held and not plan.existing.records:
            return Rejected(f"{zone.provider_class} writes whole zones anew; that cannot be used "
                            f"here, and nothing was changed in {zone.name}")
        if _conflicts(changes, _by_key(zone, plan.existing)):
            return Conflict()
        refused = _more_than_asked(zone, plan, wanted)
        if refused is not None:
            return refused
        try:
            provider.apply(plan)
        except Exception as fault:
            raise Unsure(f"{zone.provider_class}: {_words(fault)}") from fault
        return Applied()

    def update_right(self, zone: Zone, changes: tuple[Change, ...]) -> UpdateRight:
        return may_read(self, zone, changes)

    def _made(self, zone: Zone) -> Any:
        """The provider, with its options and secrets. Nothing is sent by that.

        Raises NotFound where its package is missing, Errored where it does not take its options.
        """
        cls = _class(zone)
        options = {**zone.options, **{name: self._secret(of) for name, of in zone.keys.items()}}
        try:
            made = cls(f"runbook {zone.called}", **options)
            # It tells of every oddity of a zone by logging, into the operator's screen.
            for log in (made.log, *map(logging.getLogger, ("Record", "Zone", "Plan"))):
                log.addHandler(_QUIET)
            return made
        except Exception as fault:
            raise Errored(
                f"{zone.provider_class} does not take its options for {zone.name}: "
                f"{_words(fault)}; nothing was changed",
                hint="check `options` and `keys` of the zone against the provider's own page",
            ) from fault


def _class(zone: Zone) -> Any:
    module, _, name = (zone.provider_class or "").rpartition(".")
    try:
        base = importlib.import_module("octodns.provider.base").BaseProvider
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as fault:
        raise NotFound(
            f"{zone.provider_class} of the zone {zone.name} cannot be loaded: {fault}",
            hint='install octoDNS and the provider\'s own package: pip install "runbook[octodns]" '
            f"{module.partition('.')[0].replace('_', '-')}",
        ) from fault
    if not (isinstance(found, type) and issubclass(found, base)):
        raise NotFound(
            f"{zone.provider_class} of the zone {zone.name} is no provider of octoDNS",
            hint="name a class that can be written to, such as octodns_bind.Rfc2136Provider",
        )
    return found


_QUIET = logging.NullHandler()


def _read(zone: Zone, provider: Any) -> Any:
    """The whole zone as octoDNS has it. Raises Errored."""
    from octodns.zone import Zone as OctoZone

    found = OctoZone(zone.name, [])
    try:
        provider.populate(found, lenient=True)
    except Exception as fault:
        raise _not_asked(zone, fault) from fault
    return found


def _by_key(zone: Zone, found: Any) -> dict[_Key, tuple[RRset, Any]]:
    """Sets by name and type, with octoDNS's own record. Raises Errored."""
    held: dict[_Key, tuple[RRset, Any]] = {}
    for record in found.records:
        try:
            if parse_type(record._type) in LEFT_OUT:
                continue
        except ValueError:
            continue  # of octoDNS or a provider alone: ALIAS, URLFWD
        data = record.to_rrset()
        try:
            rrset = canonical_set(RRset(
                name=record.fqdn, rtype=record._type, ttl=data.ttl, rdatas=tuple(data.rdatas)
            ))
        except ValueError as fault:
            raise Errored(f"a set of {zone.name} cannot be read: {fault}") from fault
        held[rrset.key] = (rrset, record)
    return held


def _served(held: Mapping[_Key, tuple[RRset, Any]], keys: Sequence[_Key]) -> Present:
    return {key: held[key][0] if key in held else None for key in keys}


def _conflicts(changes: Sequence[Change], held: Mapping[_Key, tuple[RRset, Any]]) -> bool:
    present = _served(held, [change.key for change in changes])
    return any(present[change.key] != change.before for change in changes)


def _unable(change: Change, held: Mapping[_Key, tuple[RRset, Any]]) -> Rejected | None:
    """Why a set is left as it is: something hangs on it that would be lost."""
    if change.key not in held:
        return None
    record = held[change.key][1]
    label = " ".join(change.key)
    by_asker = [name for name in ("geo", "dynamic") if getattr(record, name, None)]
    if by_asker:
        return Rejected(
            f"{label} is no plain set (octoDNS: {', '.join(by_asker)}); nothing was changed. Leave "
            "it out (`leave` or `names` of the step) and change it by hand"
        )
    if change.after is None and record.octodns:
        return Rejected(
            f"{label} has settings of its own at octoDNS ({', '.join(sorted(record.octodns))}), "
            "which could not be put back; nothing was changed. Remove it by hand"
        )
    return None


def _put_in_place(
    desired: Any, changes: Sequence[Change], held: Mapping[_Key, tuple[RRset, Any]], provider: Any
) -> None:
    """Change our sets in the whole zone, and nothing else. Removals first, for an alias."""
    from octodns.record import Record, Rrset

    for change in changes:
        if change.key in held:
            desired.remove_record(held[change.key][1])
    for change in changes:
        after = change.after
        if after is None:
            continue
        made = Record.from_rrset(
            desired, Rrset(after.name, after.rtype, after.ttl, after.rdatas), lenient=True,
            source=provider,
        )
        _check_survives(made, after)
        if change.key in held:
            made.octodns = held[change.key][1].octodns
        desired.add_record(made, lenient=True)


def _check_survives(record: Any, rrset: RRset) -> None:
    """Whether octoDNS's own record says the same, in both ways that providers write it from.

    One of them loses the backslashes of a text. Raises ValueError.
    """
    ways = [record.to_rrset().rdatas]
    if hasattr(record, "rrs"):  # until octoDNS 2.0
        ways.append(record.rrs[3])
    for rdatas in ways:
        if canonical_set(rrset.model_copy(update={"rdatas": tuple(rdatas)})) != rrset:
            raise ValueError(
                f"{rrset.name} {rrset.rtype} would become {', '.join(rdatas)}"
            )


def _more_than_asked(zone: Zone, plan: Any, wanted: Sequence[Change]) -> Rejected | None:
    """What the provider would do, held against what was asked; and octoDNS's own last check."""
    from octodns.provider.plan import UnsafePlan

    asked = {change.key: _verb(change) for change in wanted}
    would = {
        (one.record.fqdn.lower(), one.record._type): type(one).__name__ for one in plan.changes
    }
    if would != asked or plan.meta:
        odd = [f"{verb} {' '.join(key)}" for key, verb in would.items() if asked.get(key) != verb]
        left = [f"not {' '.join(key)}" for key in asked if key not in would]
        more = [f"its settings: {plan.meta}"] if plan.meta else []
        return Rejected(
            f"{zone.provider_class} would do something else in {zone.name} than was asked: "
            f"{', '.join([*odd, *left, *more][:6])}; nothing was changed. Somebody else changed "
            "the zone meanwhile, or this provider cannot be used here"
        )
    # Of the whole zone, as many as were asked for: the percentages are to catch any more.
    there = max(1, len(plan.existing.records))
    plan.update_pcent_threshold = list(asked.values()).count("Update") / there
    plan.delete_pcent_threshold = list(asked.values()).count("Delete") / there
    try:
        plan.raise_if_unsafe()
    except UnsafePlan as fault:
        return Rejected(f"octoDNS finds the change of {zone.name} unsafe: {fault}; "
                        "nothing was changed")
    return None


def _verb(change: Change) -> str:
    if change.before is None:
        return "Create"
    return "Delete" if change.after is None else "Update"


def _not_asked(zone: Zone, fault: Exception) -> Errored:
    return Errored(
        f"{zone.provider_class} could not be asked about {zone.name}: {_words(fault)}; "
        "nothing was changed",
        hint="check `options` and `keys` of the zone, and that the provider is reached from here",
    )


def _words(fault: Exception) -> str:
    text = " ".join(str(fault).split())
    return f"{type(fault).__name__}: {text}" if text else type(fault).__name__
