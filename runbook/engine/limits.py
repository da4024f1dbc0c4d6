"""Budgets and the window, watched while the run goes on."""

from __future__ import annotations

from dataclasses import dataclass

from runbook.model.plan import Plan
from runbook.model.runbook import Budget
from runbook.model.runstate import RunState


@dataclass(frozen=True, slots=True)
class Overrun:
    """A limit that is passed now and was not reported yet."""

    what: str
    limit: float
    measured: float
    action: str


def budget_span(plan: Plan, state: RunState, budget: Budget) -> tuple[float | None, float | None]:
    """(start, end) of a budget's interval; None for an edge that has not come yet.

    A budget may name the call of a playbook: its edges are the first start and the last end of
    the steps in it.
    """
    return (
        _edge(plan, state, budget.from_step, budget.from_edge),
        _edge(plan, state, budget.to_step, budget.to_edge),
    )


def _edge(plan: Plan, state: RunState, name: str, edge: str) -> float | None:
    steps = [s.id for s in plan.steps if s.id == name or s.id.startswith(name + "/")]
    times = [state.step_times(step) for step in steps]
    if edge == "start":
        starts = [start for start, _ in times if start is not None]
        return min(starts) if starts else None
    ends = [end for _, end in times]
    if not ends or any(end is None for end in ends):
        return None
    return max(end for end in ends if end is not None)


def overruns(plan: Plan, state: RunState, now: float) -> list[Overrun]:
    """Limits passed and not yet in ``state.breaches``."""
    told = {breach.what for breach in state.breaches}
    found = []
    for budget in plan.budgets:
        start, end = budget_span(plan, state, budget)
        if budget.name in told or start is None:
            continue
        measured = (now if end is None else end) - start
        if measured > budget.limit:
            action = budget.on_breach or plan.policy.on_breach
            found.append(Overrun(budget.name, budget.limit, measured, action))
    window = plan.window
    if window is not None and "window" not in told and now > window.end:
        found.append(
            Overrun("window", window.duration, now - window.start, plan.policy.on_breach)
        )
    return found
