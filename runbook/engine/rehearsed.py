"""Whether a plan was rehearsed as its policy demands. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from runbook.errors import Refused
from runbook.journal import Rehearsal
from runbook.model.duration import format_duration
from runbook.model.plan import Plan
from runbook.model.runbook import RehearsalLevel

ENOUGH: Mapping[RehearsalLevel, frozenset[str]] = {
    "plan": frozenset({"plan", "probe", "simulate", "sandbox", "staging"}),
    "probe": frozenset({"probe", "sandbox", "staging"}),
    "simulate": frozenset({"simulate"}),
    "sandbox": frozenset({"sandbox", "staging"}),
    "staging": frozenset({"staging"}),
}
"""What satisfies a demand. Nothing stands in for a simulation: a move that was played well in a
sandbox may still not fit its window."""


def is_of(rehearsal: Rehearsal, plan: Plan) -> bool:
    """Whether it rehearsed this plan; with ``same_digest: false``, any version of its runbook."""
    if rehearsal.plan_digest == plan.digest:
        return True
    return not plan.policy.rehearsal.same_digest and rehearsal.data.get("runbook") == plan.runbook


def satisfies(rehearsal: Rehearsal, level: RehearsalLevel) -> bool:
    """Whether it went well and says what ``level`` says of a live run."""
    if not rehearsal.ok or rehearsal.level not in ENOUGH[level]:
        return False
    return level != "simulate" or rehearsal.data.get("for", "live") == "live"


def demanded(plan: Plan) -> tuple[RehearsalLevel, ...]:
    """The levels of rehearsal the policy demands."""
    required = plan.policy.rehearsal.required
    if required is None:
        return ()
    return (required,) if isinstance(required, str) else required


def check_rehearsed(
    plan: Plan, rehearsals: Sequence[Rehearsal], *, now: float, file: str = "FILE"
) -> list[str]:
    """Warnings about rehearsals, newest first, for a live run of this plan. ``file``: its runbook,
    as it is called in a command to type.

    Raises Refused with all that are demanded and are missing or too old."""
    policy = plan.policy.rehearsal
    warnings = []
    gaps: dict[RehearsalLevel, str] = {}
    for level in demanded(plan):
        good = [r for r in rehearsals if satisfies(r, level) and is_of(r, plan)]
        fresh = [r for r in good if policy.max_age is None or now - r.ts <= policy.max_age]
        which = "this very plan" if policy.same_digest else "this runbook"
        if not fresh:
            what = "none is recorded" if not good else (
                f"the last is {format_duration(now - good[0].ts)} old, at most "
                f"{format_duration(policy.max_age or 0)} is allowed")
            gaps[level] = (f"a {level} rehearsal of {which} (digest {plan.digest[:12]}); {what}")
        elif all(r.plan_digest != plan.digest for r in fresh):
            warnings.append(
                f"the {level} rehearsal was of another version of this runbook (digest "
                f"{fresh[0].plan_digest[:12]}); this one is {plan.digest[:12]}"
            )
    if gaps:
        raise Refused(
            f"the policy demands {'; and '.join(gaps.values())}",
            hint="; ".join(f"runbook rehearse {shlex.quote(file)} --level {level}"
                           for level in gaps),
        )
    return warnings
