"""What the templates of one step can see while a plan is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from runbook.model.runbook import Runbook
from runbook.templating.outputs import LATE, PREFIX, pack
from runbook.templating.references import Reference, references
from runbook.templating.scope import base_scope
from runbook.templating.values import Names

CALLER_WHEN = "caller_when"
"""The late condition of the playbook call a step belongs to."""


@dataclass(frozen=True, slots=True)
class Scope:
    """``values`` are all names that can be rendered now; ``own`` those of them that belong to
    this place (variables, parameters, ``item``) and have to be kept for late rendering;
    ``late`` names that are themselves rendered late, as ``PlannedStep.scope`` keeps them."""

    values: Mapping[str, Any]
    own: Mapping[str, Any] = field(default_factory=dict)
    late: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    trail: str = ""
    """``in playbook P, called by …``, for errors."""

    def is_late(self, reference: Reference) -> bool:
        path = reference.path
        if path[0] == "outputs" or path[0] in self.late:
            return True
        return path[0] == "params" and bool(self.late) and (
            len(path) == 1 or path[1] in self.late
        )

    def late_names(self, text: str) -> frozenset[str]:
        """Names the text reads that have to be kept, where it is late; else empty."""
        found = references(text)
        if not any(self.is_late(reference) for reference in found):
            return frozenset()
        names = {ref.path[0] for ref in found}
        if "params" in names:
            names |= set(self.late)
        return frozenset(names)

    def packed(self, names: Iterable[str]) -> dict[str, Any]:
        """JSON of these names, for ``PlannedStep.scope``; names every scope has are left out."""
        wanted = set(names)
        kept: dict[str, Any] = {PREFIX: self.prefix} if self.prefix else {}
        for name in sorted(wanted & set(self.own)):
            kept[name] = pack(self.own[name])
        late = {name: self.late[name] for name in sorted(wanted & set(self.late))}
        if late:
            kept[LATE] = late
        return kept

    def with_item(self, item: Any) -> Scope:
        return replace(
            self, values={**self.values, "item": item}, own={**self.own, "item": item}
        )

    def with_host(self, host: Any) -> dict[str, Any]:
        return {**self.values, "host": host}


def top_scope(runbook: Runbook) -> Scope:
    base = base_scope(
        runbook=runbook.id, title=runbook.title, owner=runbook.owner, window=runbook.window,
        inventory=runbook.inventory, secrets=(secret.name for secret in runbook.secrets),
    )
    variables = dict(runbook.vars)
    return Scope(
        values={**variables, "vars": Names(variables), **base},
        own={**variables, "vars": variables},
    )


def playbook_scope(
    caller: Scope, params: Mapping[str, Any], late: Mapping[str, Any], *, prefix: str, trail: str
) -> Scope:
    """Inside a playbook only its parameters exist, and the names every scope has."""
    base = {
        name: caller.values[name]
        for name in ("runbook", "window", "hosts", "secrets")
        if name in caller.values
    }
    early = dict(params)
    return Scope(
        values={**early, "params": Names(early), **base},
        own={**early, "params": early},
        late=dict(late),
        prefix=prefix,
        trail=trail,
    )
