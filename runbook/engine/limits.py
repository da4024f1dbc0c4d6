"""Budgets and the window, watched while the run goes on."""

from __future__ import annotations

from dataclasses import dataclass

from runbook.engine.timing import read_budget
from runbook.model.plan import Plan
from runbook.model.runstate import RunState


@dataclass(frozen=True, slots=True)
class Overrun:
    """A limit that is passed now and was not reported yet."""

    what: str
    limit: float
    measured: float
    action: str


def overruns(plan: Plan, state: RunState, now: float) -> list[Overrun]:
    """Limits passed and not yet in ``state.breaches``."""
    told = {breach.what for breach in state.breaches}
    found = []
    for budget in plan.budgets:
        reading = read_budget(state, budget, now)
        if budget.name not in told and reading.breached:
            # Once the interval is over, going back cannot shorten it any more.
            over = reading.state == "closed"
            action = "warn" if over else budget.on_breach or plan.policy.on_breach
            found.append(Overrun(budget.name, budget.limit, reading.seconds or 0.0, action))
    window = plan.window
    if window is not None and "window" not in told and now > window.end:
        found.append(
            Overrun("window", window.duration, now - window.start, plan.policy.on_breach)
        )
    return found
