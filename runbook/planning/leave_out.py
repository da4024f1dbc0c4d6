"""A plan without some of its steps."""

from __future__ import annotations

from collections.abc import Sequence

from runbook.errors import NotFound, Refused
from runbook.model.plan import Plan
from runbook.templating.needed import outputs_needed
from runbook.templating.values import did_you_mean


def without(plan: Plan, steps: Sequence[str]) -> Plan:
    """The plan with these steps skipped; a name may also be a playbook call or a tag.

    Raises NotFound for an unknown one, and Refused where a step that stays needs an output.
    """
    if not steps:
        return plan
    out: set[str] = set()
    for name in steps:
        found = {
            s.id for s in plan.steps
            if s.id == name or s.id.startswith(f"{name}/") or name in s.tags
        }
        if not found:
            raise NotFound(f"there is no step {name!r}", hint=did_you_mean(name, plan.by_id))
        out |= found
    made = plan.model_copy(
        update={
            "steps": tuple(
                step.model_copy(
                    update={
                        "nodes": (), "when": None, "scope": {}, "estimate": 0.0,
                        "estimate_undo": 0.0,
                        "skipped": step.skipped or "left out when the run was started",
                    }
                )
                if step.id in out else step
                for step in plan.steps
            )
        }
    )
    fresh = Plan.model_validate(made.model_dump())
    for name in sorted(out):
        needed = outputs_needed(fresh, name)
        if needed:
            raise Refused(
                f"step {name!r} cannot be left out: later steps need its outputs "
                + ", ".join(sorted(needed)),
                hint="let the run reach it, then `runbook skip` it and give the outputs",
            )
    return fresh
