"""The section ``staging:``: what is different where a move is rehearsed for real.

    staging:
      inventory: staging.yml          # in place of the inventory, as are zones and databases
      vars: {new: 192.0.2.10}         # over those of the runbook, by name; secrets likewise
      zones: {stage.example: {servers: [192.0.2.53], key: tsig}}
      invert: {vars: [[old, new]], sites: [[east, west]]}
      faults: true

Steps, playbooks, policy and budgets are always the runbook's own: what is rehearsed is what will
run. A zone or database of production that has no counterpart is not there.

The runbook is read as if the sections of ``staging:`` stood in the place of its own, each with the
position at which it is written. Their keys and shapes are checked whenever the runbook is read,
what they say only where it is read for staging: nothing that is wrong there stops a live run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from runbook.loading.fields import Context, Fields, describe
from runbook.loading.yaml import Document
from runbook.model.database import Database
from runbook.model.inventory import Inventory
from runbook.model.runbook import Invert, Pair, Staging, ValuePath
from runbook.templating.values import did_you_mean

STAGING_KEYS: dict[str, str] = {
    "inventory": "The hosts there: a file name, or the inventory itself. None is production's.",
    "vars": "Variables that have another value there.",
    "secrets": "Secrets that come from elsewhere there.",
    "zones": "The DNS zones there, in place of production's.",
    "databases": "The database servers there, in place of production's.",
    "invert": "Names that change places with `--invert`, in pairs.",
    "faults": "Whether steps may be made to fail there (`--fail`).",
}
"""Every key of ``staging:`` with its description."""

INVERT_KEYS: dict[str, str] = {
    "vars": "Variables that take each other's value.",
    "hosts": "Hosts that take each other's name.",
    "sites": "Sites that take each other's name.",
    "groups": "Groups that take each other's name.",
    "databases": "Databases that take each other's name.",
}

_IN_PLACE = ("inventory", "zones", "databases")
_OVER = ("vars", "secrets")
_STAGING: ValuePath = ("staging",)
_PAIR = 2


def read_staging(ctx: Context, raw: Mapping[str, Any]) -> Staging | None:
    """What a runbook says of staging; None where it says nothing."""
    if raw.get("staging") is None:
        return None
    fields = Fields(ctx, _STAGING, raw["staging"], STAGING_KEYS, "`staging`")
    fields.require("inventory", "staging has hosts of its own; none of them is production's")
    variables = raw.get("vars")
    known = variables if isinstance(variables, dict) else {}
    for name in fields.mapping("vars"):
        if name not in known:
            ctx.fault_at_key(
                (*fields.where("vars"), name), f"the runbook has no variable `{name}`",
                did_you_mean(name, known) or "declare it under `vars:` of the runbook first",
            )
    for key in ("secrets", "zones", "databases"):
        fields.mapping(key)
    invert = None
    if "invert" in fields:
        names = {
            "vars": known, "databases": fields.mapping("databases"),
        }
        inner = Fields(ctx, fields.where("invert"), fields.raw["invert"], INVERT_KEYS, "`invert`")
        invert = Invert(**{key: _pairs(inner, key, names.get(key)) for key in INVERT_KEYS})
    faults = fields.raw.get("faults")
    if not isinstance(faults, bool | None):
        fields.wrong("faults", "true or false", faults)
    return Staging(invert=invert, faults=faults is True)


def _pairs(fields: Fields, key: str, names: Collection[str] | None) -> tuple[Pair, ...]:
    """``[[old, new], …]``. ``names``: those there are; None: they are not known yet."""
    found: list[Pair] = []
    taken: set[str] = set()
    for index, item in enumerate(fields.listing(key)):
        path = (*fields.where(key), index)
        if not (isinstance(item, list) and len(item) == _PAIR
                and all(isinstance(one, str) for one in item)):
            fields.ctx.fault(path, f"`{key}` wants pairs of names, not {describe(item)}",
                             "like [[old, new]]")
            continue
        for place, name in enumerate(item):
            if name in taken:
                fields.ctx.fault((*path, place), f"`{name}` stands in a pair already")
            elif names is not None:
                _check_name(fields.ctx, (*path, place), key, name, names)
            taken.add(name)
        found.append((item[0], item[1]))
    return tuple(found)


def _check_name(
    ctx: Context, path: ValuePath, key: str, name: str, names: Collection[str]
) -> bool:
    if name in names:
        return True
    what = key.removesuffix("s") if key != "vars" else "variable"
    ctx.fault(path, f"there is no {what} `{name}` in staging", did_you_mean(name, names))
    return False


def as_staging(document: Document, invert: Invert | None) -> Document:
    """The document as it is read for staging. ``invert``: variables that change places."""
    raw = dict(document.value)
    section = raw.pop("staging")
    section = section if isinstance(section, dict) else {}
    places: dict[ValuePath, ValuePath | None] = {}
    for key in _IN_PLACE:
        raw.pop(key, None)
        places[(key,)] = None
        if key in section:
            raw[key] = section[key]
            places[(key,)] = (*_STAGING, key)
    for key in _OVER:
        own, other = raw.get(key), section.get(key)
        if isinstance(other, dict):
            raw[key] = {**(own if isinstance(own, dict) else {}), **other}
            places.update({(key, name): (*_STAGING, key, name) for name in other})
    for one, two in invert.vars if invert is not None else ():
        values = raw["vars"] = dict(raw.get("vars") or {})
        if one in values and two in values:
            values[one], values[two] = values[two], values[one]
            first, second = ("vars", one), ("vars", two)
            places[first], places[second] = (
                places.get(second, second), places.get(first, first)
            )
    return Document(raw, document.source.rearranged(places), document.text)


def check_names(ctx: Context, invert: Invert, inventory: Inventory) -> bool:
    """Whether hosts, sites and groups that change places are in the inventory; diagnostics of those
    that are not."""
    names = {
        "hosts": {host.name for host in inventory.hosts},
        "sites": {site.name for site in inventory.sites} | {h.site for h in inventory.hosts},
        "groups": {group for host in inventory.hosts for group in host.groups},
    }
    there = True
    for key, known in names.items():
        for index, pair in enumerate(getattr(invert, key)):
            for place, name in enumerate(pair):
                path = (*_STAGING, "invert", key, index, place)
                there = _check_name(ctx, path, key, name, known) and there
    return there


def inverted_inventory(inventory: Inventory, invert: Invert) -> Inventory:
    """The same machines under each other's names. What belongs to the machine stays with it: its
    address, its login, its variables."""
    hosts, sites, groups = map(_swaps, (invert.hosts, invert.sites, invert.groups))
    return inventory.model_copy(update={
        "hosts": tuple(
            host.model_copy(update={
                "name": hosts.get(host.name, host.name),
                "site": sites.get(host.site, host.site),
                "groups": tuple(groups.get(group, group) for group in host.groups),
                "jump": hosts.get(host.jump, host.jump) if host.jump is not None else None,
            })
            for host in inventory.hosts
        ),
        "sites": tuple(
            site.model_copy(update={"name": sites.get(site.name, site.name)})
            for site in inventory.sites
        ),
    })


def inverted_databases(
    databases: Iterable[Database], invert: Invert
) -> tuple[Database, ...]:
    """The same servers under each other's names, on machines that may have changed names, too."""
    hosts, names = _swaps(invert.hosts), _swaps(invert.databases)
    return tuple(
        one.model_copy(update={
            "name": names.get(one.name, one.name),
            "host": hosts.get(one.host, one.host),
            "via": hosts.get(one.via, one.via) if one.via is not None else None,
        })
        for one in databases
    )


def _swaps(pairs: Iterable[Pair]) -> dict[str, str]:
    return {name: other for one, two in pairs for name, other in ((one, two), (two, one))}
