"""Undos that are waits: how long going back waits for what later steps have left in caches.

Before those steps there is nothing to wait for. After a flip it is the low TTL, and after a
restored TTL the high one. Pure.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import takewhile

from runbook.model.dns import Change, RRset, zone_name
from runbook.model.kind import Kind
from runbook.model.plan import Plan, PlannedStep

Changes = Mapping[str, Sequence[Change]]
"""By step what it changes; a step that is missing: nobody knows yet."""

Waits = Mapping[str, Mapping[str, float]]
"""By step whose undo only waits, by step behind it: seconds it waits once that one has begun."""


def back_waits(plan: Plan, kinds: Mapping[str, type[Kind]], changes: Changes) -> Waits:
    """The waits of a plan; what is known only late is left out, and stays with its estimate."""
    found: dict[str, dict[str, float]] = {}
    for step, behind in _waiting(plan, kinds):
        if step.nodes[0].late:
            continue
        made = kinds[step.kind].model_validate(step.nodes[0].args)
        found[step.id] = {
            later.id: made.back_pause(_given(plan, kinds, later, changes)) for later in behind
        }
    return found


def guessed_back_waits(
    plan: Plan, kinds: Mapping[str, type[Kind]], changes: Changes
) -> frozenset[str]:
    """Those of which nobody can tell how long they wait: with which TTLs caches will have been
    given what is not known."""
    return frozenset(
        step.id for step, behind in _waiting(plan, kinds)
        if behind and (step.nodes[0].late or any(
            _given(plan, kinds, later, changes) is None for later in behind
        ))
    )


def _waiting(
    plan: Plan, kinds: Mapping[str, type[Kind]]
) -> Iterator[tuple[PlannedStep, list[PlannedStep]]]:
    """Each step whose undo only waits, with the steps behind it that it waits for."""
    for place, step in enumerate(plan.steps):
        after = kinds[step.kind].back_after
        if after and step.nodes:
            yield step, [
                one for one in plan.steps[place + 1 :] if one.kind in after and one.nodes
            ]


def waited(waits: Waits, begun: Container[str]) -> dict[str, float]:
    """By step whose undo only waits: seconds it waits when these steps have begun."""
    return {
        name: max((seconds for later, seconds in behind.items() if later in begun), default=0.0)
        for name, behind in waits.items()
    }


def _given(
    plan: Plan, kinds: Mapping[str, type[Kind]], step: PlannedStep, changes: Changes
) -> list[RRset] | None:
    """What caches are given by a step: all that it changes, before and after; or, where it puts
    back what another step has found, that, with what came to stand there in between."""
    if step.id in changes:
        sides = [side for one in changes[step.id] for side in (one.before, one.after)]
        return [one for one in sides if one is not None]
    if step.nodes[0].late:
        return None
    sources = kinds[step.kind].model_validate(step.nodes[0].args).references()
    if not sources or any(name not in changes for name in sources):
        return None
    found = [one.before for name in sources for one in changes[name] if one.before is not None]
    left = {one.key: one for one in found}
    for between in takewhile(lambda one: one.id != step.id, plan.steps):
        for change in changes.get(between.id, _would_change(between, kinds, left)):
            if change.key in left and change.after is not None:
                left[change.key] = change.after
    return [left[one.key].with_ttl(one.ttl) for one in found]


def _would_change(
    step: PlannedStep, kinds: Mapping[str, type[Kind]], sets: Mapping[tuple[str, str], RRset]
) -> tuple[Change, ...]:
    """What a step that has not begun changes of these sets."""
    kind = kinds[step.kind]
    if kind.differences is Kind.differences or not step.nodes or step.nodes[0].late:
        return ()
    args = step.nodes[0].args
    return kind.model_validate(args).differences(
        {zone_name(str(args.get("zone", ""))): tuple(sets.values())}
    )
