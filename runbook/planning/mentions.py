"""Which places of another inventory the steps of a plan name, as far as their values are known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from runbook.model.plan import Plan
from runbook.model.whereabouts import canonical

_IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?!\d|\.\d)")
_IPV6 = re.compile(r"[0-9A-Fa-f]*(?::[0-9A-Fa-f.]*){2,}")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]+)+")
_URL = re.compile(r"https?://[^\s\"'<>]+", re.IGNORECASE)
_FROM_ELSEWHERE = ("via", "from", "connect_to")
"""Arguments by which a check looks from another host, or connects to an address that is named."""


@dataclass(frozen=True, slots=True)
class Value:
    """One text that a plan holds."""

    where: str
    """For people: ``step flip (runbook.yml:12)``."""
    text: str
    from_here: bool
    """What it names is asked from the controller itself."""
    key: str = ""
    """Of the mapping it stands in."""


@dataclass(frozen=True, slots=True)
class Mention:
    where: str
    text: str
    """What is named: an address, or a name."""
    place: str
    """What that is, in words."""


def mentions(
    plan: Plan, *, hosts: Mapping[str, str], places: Mapping[str, str]
) -> tuple[Mention, ...]:
    """Where the plan names one of ``hosts`` (by a value that is nothing but the name of one) or
    ``places`` (anywhere in a text: addresses in canonical form, names with a dot in small letters).
    Both lead to what they are, in words."""
    found: dict[Mention, None] = {}
    for value in values(plan):
        if value.text in hosts:
            found[Mention(value.where, value.text, hosts[value.text])] = None
        for word in _words(value.text):
            if word in places:
                found[Mention(value.where, word, places[word])] = None
    return tuple(found)


def asked_names(plan: Plan) -> dict[str, str]:
    """Names of servers that the controller itself will ask, by a URL or as ``host:``, each with
    where it is said first."""
    found: dict[str, str] = {}
    for value in values(plan):
        names = [_host_of(url) for url in _URL.findall(value.text)]
        if value.key == "host" and _NAME.fullmatch(value.text):
            names.append(value.text.rstrip("."))
        for name in filter(None, names if value.from_here else ()):
            found.setdefault(name, value.where)
    return found


def values(plan: Plan) -> Iterator[Value]:
    """Every text that decides what the plan does outside: arguments, checks and undos of its steps,
    variables that are rendered late, probes of budgets, and how databases follow each other."""
    for step in plan.steps:
        where = f"step {step.id} ({step.source})" if step.source else f"step {step.id}"
        for node in step.nodes:
            here = node.host is None
            yield from _texts(node.args, where, here and not _elsewhere(node.args))
            if node.undo is not None:
                yield Value(f"the undo of {where}", node.undo, here)
            for check in (*node.requires, *node.verify):
                there = check.host is not None or node.host is not None
                yield from _texts(
                    check.args, f"a check of {where}", not there and not _elsewhere(check.args)
                )
        yield from _texts(step.scope, where, False)
    for budget in plan.budgets:
        if budget.probe is not None:
            probe = budget.probe
            said = [probe.url, probe.body, probe.headers]
            yield from _texts(said, f"the probe of budget {budget.name}", probe.host is None)
    for database in plan.databases:
        yield from _texts(database.replication, f"`replication` of database {database.name}", False)


def _elsewhere(args: Mapping[str, Any]) -> bool:
    return any(args.get(key) for key in _FROM_ELSEWHERE)


def _texts(value: Any, where: str, from_here: bool, key: str = "") -> Iterator[Value]:
    if isinstance(value, str):
        yield Value(where, value, from_here, key)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _texts(item, where, from_here, str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item, where, from_here, key)


def _words(text: str) -> Iterator[str]:
    for found in (*_IPV4.findall(text), *_IPV6.findall(text)):
        address = canonical(found) or canonical(found.rstrip(".:"))
        if address is not None:
            yield address
    for found in _NAME.findall(text):
        yield found.lower().rstrip(".")


def _host_of(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""
