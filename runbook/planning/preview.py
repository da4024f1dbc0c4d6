"""What every step would do, as far as it can be known offline. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from runbook.errors import TemplateFault
from runbook.model.dns import Change, RRset, zone_name
from runbook.model.kind import Kind
from runbook.model.plan import Check, Node, Plan, PlannedStep
from runbook.planning.scope import CALLER_WHEN
from runbook.templating import render
from runbook.templating.needed import outputs_read
from runbook.templating.outputs import LATE, late_scope
from runbook.templating.references import references
from runbook.templating.values import unprotect

_STAND_IN = "‹"

Records = Mapping[str, tuple[RRset, ...]]
"""Record sets of zones, by what each is called in the plan."""


@dataclass(frozen=True, slots=True)
class Doing:
    """What some nodes of a step do alike. ``hosts`` is empty for a step on no host."""

    hosts: tuple[str, ...]
    lines: tuple[str, ...]
    requires: tuple[str, ...] = ()
    verify: tuple[str, ...] = ()
    undo: str | None = None


@dataclass(frozen=True, slots=True)
class StepPreview:
    step: str
    doings: tuple[Doing, ...]
    late: tuple[tuple[str, str], ...]
    """(step, output) of the values that are filled in when the step starts."""
    when: str | None
    """Its condition, with that of the playbook call it belongs to written out."""
    changes: tuple[Change, ...]
    """Differences of DNS, after those of the steps before it."""
    warnings: tuple[str, ...] = ()
    """What it speaks of and does not find in the zone files, after the steps before it."""


def preview(
    plan: Plan, kinds: Mapping[str, type[Kind]], records: Records | None = None
) -> dict[str, StepPreview]:
    """Every step of the plan, by id, in plan order.

    ``records``: the zones as they are now, where there is a zone file to read them from.
    Each step's differences are taken from what the steps before it leave.
    """
    present = {zone: {rrset.key: rrset for rrset in sets} for zone, sets in (records or {}).items()}
    found: dict[str, StepPreview] = {}
    for step in plan.steps:
        warnings = _not_in(step, kinds[step.kind], present)
        changes = _changes(step, kinds[step.kind], present)
        for zone, change in changes:
            _apply(change, present[zone])
        found[step.id] = StepPreview(
            step.id,
            _doings(plan, step, kinds),
            tuple(sorted(outputs_read(plan, step))),
            _condition(step.when, step.scope),
            tuple(change for _, change in changes),
            warnings,
        )
    return found


def known_changes(previews: Mapping[str, StepPreview]) -> dict[str, tuple[Change, ...]]:
    """By step what it changes, of those where that is known offline."""
    return {name: one.changes for name, one in previews.items() if one.changes}


def _condition(when: str | None, scope: Mapping[str, Any]) -> str | None:
    binding = scope.get(LATE, {}).get(CALLER_WHEN)
    if when is None or binding is None:
        return when
    outer = _condition(str(binding["value"])[2:-2].strip(), binding["scope"]) or ""
    return when.replace(CALLER_WHEN, outer if when == CALLER_WHEN else f"({outer})", 1)


def _doings(
    plan: Plan, step: PlannedStep, kinds: Mapping[str, type[Kind]]
) -> tuple[Doing, ...]:
    def stand_ins(name: str) -> Mapping[str, Any]:
        return _stand_ins(plan.by_id[name], kinds)

    groups: dict[tuple[Any, ...], list[str]] = {}
    for node in step.nodes:
        late = node.late or any(check.late for check in (*node.requires, *node.verify))
        scope = late_scope(plan, step, node, stand_ins) if late else None
        args = _shown(node.args, scope if node.late else None)
        alike = (
            (*_lines(kinds[step.kind], args), *_cautions(plan, kinds[step.kind], args)),
            tuple(_check(check, kinds, scope) for check in node.requires),
            tuple(_check(check, kinds, scope) for check in node.verify),
            _shown(node.undo, scope if node.late else None),
        )
        groups.setdefault(alike, []).append(node.host or "")
    return tuple(
        Doing(tuple(filter(None, hosts)), *alike) for alike, hosts in groups.items()
    )


def _stand_ins(step: PlannedStep, kinds: Mapping[str, type[Kind]]) -> Mapping[str, Any]:
    """``‹text of lower-ttl›`` for every output the step will give."""
    names = (*step.outputs, *kinds[step.kind].output_names)
    found: dict[str, Any] = {name: f"{_STAND_IN}{name} of {step.id}›" for name in names}
    if len(step.nodes) > 1:
        found["by_host"] = {
            str(node.host): {name: f"{_STAND_IN}{name} of {node.id}›" for name in names}
            for node in step.nodes
        }
    return found


def _shown(value: Any, scope: Mapping[str, Any] | None) -> Any:
    """Late texts with stand-ins for what is not known yet; all else as it is."""
    if scope is None:
        return value
    if isinstance(value, str):
        try:
            made = render(value, scope)
        except TemplateFault:
            made = None
        # What was computed from a stand-in (a comparison, say) would only mislead.
        known = made is not None and (_STAND_IN in str(made) or not references(value))
        return made if known else unprotect(value)
    if isinstance(value, Mapping):
        return {key: _shown(item, scope) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item, scope) for item in value]
    return value


def _lines(kind: type[Kind], args: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        return kind.model_validate(dict(args)).preview()
    except ValidationError:
        # A stand-in may not fit its field; the plan itself is valid.
        return tuple(f"{key}: {value}" for key, value in args.items())


def _cautions(
    plan: Plan, kind: type[Kind], args: Mapping[str, Any]
) -> tuple[str, ...]:
    """What to know of the zone that a step changes, where its provider promises less."""
    name = args.get("zone")
    zone = plan.zone(name) if isinstance(name, str) else None
    changes_it = kind.differences is not Kind.differences
    return (f"note: {zone.caution}",) if zone is not None and changes_it and zone.caution else ()


def _check(
    check: Check, kinds: Mapping[str, type[Kind]], scope: Mapping[str, Any] | None
) -> str:
    where = f" on {check.host}" if check.host else ""
    told = "; ".join(_lines(kinds[check.kind], _shown(check.args, scope if check.late else None)))
    return f"{check.kind}{where}: {told}"


def _changes(
    step: PlannedStep, kind: type[Kind], present: Mapping[str, Mapping[tuple[str, str], RRset]]
) -> tuple[tuple[str, Change], ...]:
    """Each with the zone it belongs to: no name tells which of several views is meant."""
    if not present or kind.differences is Kind.differences:
        return ()
    zones = {zone: tuple(sets.values()) for zone, sets in present.items()}
    made: dict[tuple[str, tuple[str, str]], Change] = {}
    for node in step.nodes:
        for change in _differences(kind, node, zones):
            zone = _zone_of(change.key[0], node, zones)
            if zone is not None:
                made[(zone, change.key)] = change
    return tuple((zone, change) for (zone, _), change in made.items())


def _not_in(
    step: PlannedStep, kind: type[Kind], present: Mapping[str, Mapping[tuple[str, str], RRset]]
) -> tuple[str, ...]:
    if not present or kind.not_in is Kind.not_in:
        return ()
    zones = {zone: tuple(sets.values()) for zone, sets in present.items()}
    return tuple(dict.fromkeys(
        line for node in step.nodes if not node.late
        for line in kind.model_validate(node.args).not_in(zones)
    ))


def _zone_of(name: str, node: Node, zones: Records) -> str | None:
    named = zone_name(str(node.args.get("zone", "")))
    if named in zones:
        return named
    return max((one for one in zones if f".{name}".endswith(f".{one}")), key=len, default=None)


def _differences(kind: type[Kind], node: Node, zones: Records) -> tuple[Change, ...]:
    """None where a late value decides: what it leads to is not known offline."""
    return () if node.late else kind.model_validate(node.args).differences(zones)


def _apply(change: Change, sets: dict[tuple[str, str], RRset]) -> None:
    if change.after is None:
        sets.pop(change.key, None)
    else:
        sets[change.key] = change.after
