"""Steps that only wait, and how long, as far as that can be told before a run. Pure.

What waits for caches waits for the TTLs that another step replaces: known where zone files tell
them, and a guess where the records stand at the provider alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runbook.model.kind import Kind
from runbook.model.plan import Plan, PlannedStep
from runbook.planning.back_waits import Changes


@dataclass(frozen=True, slots=True)
class KnownPause:
    """The step ends no earlier than ``seconds`` after its start, or after the end of the step
    ``of``; nor before the moment ``until`` (Unix seconds)."""

    seconds: float = 0.0
    of: str | None = None
    until: float | None = None


Pauses = Mapping[str, KnownPause | None]
"""By step that only waits; None: nobody can tell yet how long, and its estimate is a guess."""


def pauses(plan: Plan, kinds: Mapping[str, type[Kind]], changes: Changes) -> Pauses:
    """The waits of a plan on the way forward. ``changes``: of each step that changes records, what
    it changes, where that is known."""
    return {
        step.id: _pause(plan, step, kinds[step.kind], changes)
        for step in plan.steps
        if step.skipped is None and step.nodes and kinds[step.kind].pause is not Kind.pause
    }


def _pause(
    plan: Plan, step: PlannedStep, kind: type[Kind], changes: Changes
) -> KnownPause | None:
    node = step.nodes[0]
    found = None if node.late else kind.model_validate(node.args).pause()
    if found is None:
        return None
    if found.of is not None:
        source = plan.by_id.get(found.of)
        ttl = _greatest_ttl(changes, found.of)
        if source is None or source.skipped is not None or not source.nodes or ttl is None:
            return None
        return KnownPause(found.seconds + ttl, of=found.of)
    if found.until is not None and not plan.dated:
        return None
    return KnownPause(found.seconds, until=found.until)


def _greatest_ttl(changes: Changes, step: str) -> float | None:
    """The greatest TTL that caches may hold what was there before a step with."""
    told = [one.before.ttl for one in changes.get(step, ()) if one.before is not None]
    return float(max(told)) if told else None
