"""Budgets, the window and the way back, watched while the run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runbook.engine.backout import backout_time, clock, safety
from runbook.engine.history import Reckoning
from runbook.engine.in_time import acts, bound, far_from, window_holds
from runbook.engine.timing import read_budget
from runbook.model.duration import format_duration
from runbook.model.plan import Plan
from runbook.model.runstate import WAY_BACK, WINDOW, ProbeSummary, RunState

_A_LITTLE = 0.001


@dataclass(frozen=True, slots=True)
class Overrun:
    """A limit that is passed now and was not reported yet."""

    what: str
    limit: float
    measured: float
    action: str
    why: str
    """In words, as the reason of what it leads to."""
    detail: str = ""


def overruns(
    plan: Plan, state: RunState, now: float, *, reckoning: Reckoning | None = None,
    probes: Mapping[str, ProbeSummary] | None = None,
) -> list[Overrun]:
    """Limits passed and not told yet (``state.told``). ``probes``: what the probes of budgets know
    now, where that is more than the journal does."""
    told = state.told
    found = []
    for budget in plan.budgets:
        if budget.name in told:
            continue
        reading = read_budget(state, budget, now, probes=probes)
        if reading.breached:
            # Once it is over, going back cannot shorten it any more.
            over = reading.state == "closed" or reading.service == "up"
            action = "warn" if over else budget.on_breach or plan.policy.on_breach
            detail = f"{reading.why}" if reading.service == "down" else ""
            found.append(Overrun(budget.name, budget.limit, reading.seconds or 0.0, action,
                                 f"{budget.name} overran its limit", detail))
    window = plan.window
    if window is not None:
        if WAY_BACK not in told:
            found += _way_back(plan, state, now, reckoning or Reckoning())
        if WINDOW not in told and now > window.end and window_holds(state):
            # In staging the window was moved to now: that it overran is told, and is no reason to
            # turn back.
            moved = state.level == "staging" and not acts(plan, state.level)
            told_only = moved or state.accepted_until is not None
            found.append(Overrun(
                WINDOW, window.duration, now - window.start,
                "warn" if told_only else plan.policy.on_breach, "window overran its limit"))
    return found


def next_limit(
    plan: Plan, state: RunState, now: float, *, reckoning: Reckoning | None = None
) -> float | None:
    """The next moment at which :func:`overruns` would find one more, were nothing else to happen
    until then; None where time alone passes no limit."""
    told = state.told
    moments = []
    for budget in plan.budgets:
        if budget.probe is None and budget.name not in told:
            reading = read_budget(state, budget, now)
            if reading.state == "running" and reading.since is not None:
                moments.append(reading.since + budget.limit)
    window = plan.window
    if window is not None:
        back = backout_time(state, reckoning)
        if WAY_BACK not in told and back and state.accepted_until is None and bound(state):
            moments.append(window.end - back - safety(state.plan, back))
        if WINDOW not in told and window_holds(state):
            moments.append(window.end)
    # Some of them are passed only when they are over, by as little as there is.
    return min((moment + _A_LITTLE for moment in moments if moment + _A_LITTLE > now), default=None)


def _way_back(plan: Plan, state: RunState, now: float, reckoning: Reckoning) -> list[Overrun]:
    """Going back has to begin now to be over inside the window. Nothing done yet: there is time."""
    if far_from(state, now, reckoning):
        return []
    read = clock(state, now, reckoning)
    if plan.window is None or read.margin is None or not read.backout or not bound(state):
        return []
    spare = safety(state.plan, read.backout)
    if read.margin > spare or state.accepted_until is not None:
        return []
    wanted = plan.policy.window.on_breach or plan.policy.on_breach
    action = wanted if acts(plan, state.level) else "warn"
    end = now + read.settle + read.backout + spare
    parts = [f"{format_duration(read.backout)} to go back ({read.basis or 'estimated'})"]
    if read.settle:
        parts.insert(0, f"{format_duration(read.settle)} until what is at work has ended")
    if spare:
        parts.append(f"{format_duration(spare)} to spare")
    left = format_duration(read.remaining_window or 0.0)
    detail = f"{' + '.join(parts)}; the window ends in {left}"
    return [Overrun(
        WAY_BACK, plan.window.duration, end - plan.window.start, action,
        f"the way back has to begin now to end inside the window: {detail}", detail)]
