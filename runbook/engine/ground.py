"""What the steps of a plan stand on: the hosts, zones, databases and secrets that they name, and
those that these name in turn.

A step speaks of a database, the database of its host and its password, the host of the one to go
through: where any of them changes, the step acts, or is taken back, somewhere else or as somebody
else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from runbook.model.dns import zone_name
from runbook.model.inventory import Host
from runbook.model.plan import Plan, PlannedStep
from runbook.model.secrets import names_in

_SPOKEN: Any = {
    "when": True, "run_as": True, "outputs": True, "scope": True,
    "nodes": {"__all__": {"host", "args", "requires", "verify", "undo"}},
}
"""Of a step: where a name is that of a definition; not its id, its kind, its title."""


class Thing(NamedTuple):
    """A definition of a plan: ``host west-web``."""

    what: str
    """``host``, ``zone``, ``database`` or ``secret``."""
    name: str

    def __str__(self) -> str:
        return f"{self.what} {self.name}"


def ground(plan: Plan, steps: Iterable[PlannedStep]) -> dict[Thing, str]:
    """Everything that the steps stand on, each with the first step that does and, where it does
    so through another, through what, in words."""
    below = _definitions(plan)
    found: dict[Thing, str] = {}
    for step in steps:
        text = "\n".join(_texts(step.model_dump(mode="json", include=_SPOKEN)))
        named = [thing for thing in below if _speaks_of(text, thing)]
        for thing in named:
            found.setdefault(thing, f"{step.id} has begun with it")
        waiting = list(named)
        while waiting:
            above = waiting.pop(0)
            for thing in below.get(above, ()):
                if thing not in found:
                    found[thing] = f"{step.id} has begun with {above}, which stands on it"
                    waiting.append(thing)
    return found


def _definitions(plan: Plan) -> dict[Thing, tuple[Thing, ...]]:
    """Every definition, with those that it names itself."""
    found = {Thing("host", host.name): _of_host(host) for host in plan.inventory.hosts}
    for zone in plan.zones:
        keys = (*filter(None, [zone.key]), *zone.keys.values())
        found[Thing("zone", zone.called)] = tuple(Thing("secret", key) for key in keys)
    for base in plan.databases:
        hosts = filter(None, (base.host, base.via))
        secrets = (*filter(None, [base.password]), *names_in(base.replication or ""))
        found[Thing("database", base.name)] = (
            *(Thing("host", host) for host in hosts), *(Thing("secret", key) for key in secrets),
        )
    return found | {Thing("secret", secret.name): () for secret in plan.secrets}


def _of_host(host: Host) -> tuple[Thing, ...]:
    through = (Thing("host", host.jump),) if host.jump else ()
    return (*through, Thing("secret", host.become)) if host.become else through


def _speaks_of(text: str, thing: Thing) -> bool:
    """Whether a name stands in a text as a word of its own, in any of the ways to write it: a zone
    with its final dot or without, a name in a template with ``_`` for ``-``."""
    if thing.what == "zone":
        name, _, view = zone_name(thing.name).partition("@")
        tail = rf"\.?@{re.escape(view)}" if view else ""
        pattern = rf"(?<![\w-]){re.escape(name.rstrip('.'))}{tail}(?!\.?[\w@-])"
        return re.search(pattern, text, re.IGNORECASE) is not None
    written = "[_-]".join(re.escape(part) for part in re.split("[_-]", thing.name))
    return re.search(rf"(?<![\w-]){written}(?![\w-])", text) is not None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
