"""Keeping the way back inside the window.

Before a step starts: is there time for it *and* for going back after it? If not it is refused, with
the arithmetic, and a person may accept that by name. While the run goes on: when does the way back
have to begin at the latest? The arithmetic is pure; :func:`may_start` asks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from runbook.engine.backout import backout_time, ceiling, clock, needs_undo, safety, settling
from runbook.engine.context import LeftOut, RunContext
from runbook.engine.gates import ask_people, reason_of
from runbook.engine.history import Expected, Reckoning
from runbook.journal import Draft
from runbook.model.actions import AskOperator
from runbook.model.duration import format_duration
from runbook.model.plan import Plan, PlannedStep
from runbook.model.runstate import RunState
from runbook.model.state import FINISHED

_SLIP = 0.1
"""Part of the window by which things may turn out later than what was accepted."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """Going back right after a step that starts now. Moments are Unix seconds."""

    step: str
    now: float
    busy: float
    takes: float
    takes_by: str
    back: float
    back_by: str
    safety: float
    window_end: float

    @property
    def back_at(self) -> float:
        """When everything would be back."""
        return self.now + max(self.busy, self.takes) + self.back

    @property
    def over(self) -> float:
        """Seconds too late, the safety included; not positive: it fits."""
        return self.back_at + self.safety - self.window_end

    def arithmetic(self, timezone: str) -> str:
        """``02:40:00 now + 12m this step (estimate) + 9m back (measured) + …``."""
        first = f"{time_at(self.now, timezone)} now"
        if self.busy > self.takes:
            first += f" + {format_duration(self.busy)} until what is at work has ended"
        else:
            first += f" + {format_duration(self.takes)} for this step ({self.takes_by})"
        parts = [first, f"{format_duration(self.back)} to go back ({self.back_by})"]
        if self.safety:
            parts.append(f"{format_duration(self.safety)} to spare")
        end = time_at(self.back_at + self.safety, timezone)
        return (f"{' + '.join(parts)} = {end}; the window ends "
                f"{time_at(self.window_end, timezone)}, {format_duration(self.over)} earlier")


def time_at(moment: float, timezone: str) -> str:
    return f"{datetime.fromtimestamp(moment, ZoneInfo(timezone)):%H:%M:%S}"


def window_steps(plan: Plan) -> frozenset[str]:
    """Steps that belong to the window: all but those that are dated after it, and what comes after
    such a step."""
    if plan.window is None:
        return frozenset()
    outside: set[str] = set()
    for step in plan.steps:
        dated = max(step.at or 0.0, step.not_before or 0.0) >= plan.window.end
        if dated or outside.intersection(step.after):
            outside.add(step.id)
    return frozenset(plan.by_id) - outside


def bound(state: RunState) -> bool:
    """Whether the way back still has to fit the window: it has to hold, and no point of no return
    is passed."""
    if state.rolling_back or not window_holds(state):
        return False
    return not any(s.point_of_no_return and needs_undo(state, s.id) for s in state.plan.steps)


def window_holds(state: RunState) -> bool:
    """Whether the run still has to keep its window: there is one, it was not over when the run
    started, and not all of its steps are done."""
    window = state.plan.window
    if window is None or (state.started_at or 0.0) > window.end:
        return False
    inside = window_steps(state.plan)
    return any(name in inside and not _over(state, name) for name in state.plan.by_id)


def _over(state: RunState, step: str) -> bool:
    planned = state.plan.by_id[step]
    return planned.skipped is not None or state.step_state(step) in FINISHED


def outlook(
    state: RunState, step: PlannedStep, now: float, reckoning: Reckoning
) -> Outlook | None:
    """None where the step cannot make anything too late: no window that binds it, or it is a point
    of no return, after which nothing is taken back by itself."""
    window = state.plan.window
    if window is None or step.point_of_no_return or not bound(state):
        return None
    if step.id not in window_steps(state.plan):
        return None
    takes = reckoning.doing(step)
    back = backout_time(state, reckoning, also={step.id})
    return Outlook(
        step=step.id, now=now, busy=settling(state, now, reckoning), takes=takes.seconds,
        takes_by=_by(takes), back=back, back_by=_back_by(state, now, step, reckoning),
        safety=safety(state.plan, back), window_end=window.end,
    )


def far_from(state: RunState, now: float, reckoning: Reckoning) -> bool:
    """Whether the window's end is so far away that nothing can be too late yet."""
    back, longest = ceiling(state, reckoning)
    end = state.plan.window.end if state.plan.window else now
    return now + longest + back + safety(state.plan, back) < end


def _by(expected: Expected) -> str:
    return "estimate" if expected.basis == "estimate" else f"measured, {expected.basis}"


def _back_by(state: RunState, now: float, step: PlannedStep, reckoning: Reckoning) -> str:
    here = clock(state, now, reckoning)
    own = reckoning.undoing(step)
    counts = own.seconds > 0 and step.irreversible is None and step.id not in reckoning.waits(state)
    weighing = here.weighing + counts
    measured = here.measured + (counts and own.basis != "estimate")
    if not weighing or measured == 0:
        return "estimate"
    return "measured" if measured == weighing else f"{measured} of {weighing} steps measured"


def latest_back(state: RunState, now: float, reckoning: Reckoning) -> float:
    """When everything would be back at the very latest, were every estimate right and the run
    turned at its worst moment: the end of the step after which going back takes longest."""
    plan = state.plan
    inside = window_steps(plan)
    begins: dict[str, float] = {}
    ends: dict[str, float] = {}
    for step in plan.steps:
        ready = max((ends[name] for name in step.after), default=now)
        if _over(state, step.id) or step.id not in inside:
            ends[step.id] = ready if step.id in inside else now
            continue
        begins[step.id] = max(ready, step.at or ready, step.not_before or ready)
        ends[step.id] = begins[step.id] + reckoning.doing(step).seconds
    latest = now
    for name in begins:
        if plan.by_id[name].point_of_no_return:
            continue
        begun = {other for other, begin in begins.items() if begin < ends[name]}
        back = backout_time(state, reckoning, also=begun | {name})
        latest = max(latest, ends[name] + back + safety(state.plan, back))
    return latest


def acts(plan: Plan, level: str) -> bool:
    """Whether the window is kept at this level, and not only told of."""
    enforce = plan.policy.window.enforce
    return enforce == "always" or (enforce == "live" and level == "live")


def may_start(ctx: RunContext, step: PlannedStep) -> str:
    """Before a step starts: empty when it may, else why not. Asks people where it would make it
    too late for the way back. Raises Stopping, and LeftOut when the node that asked was left
    out."""
    state, plan = ctx.state, ctx.plan
    while True:
        # Once more after a yes: time has passed meanwhile, and it may not hold any more.
        if far_from(state, ctx.now(), ctx.reckoning):
            return ""
        found = outlook(state, step, ctx.now(), ctx.reckoning)
        if found is None or plan.window is None or found.over <= 0:
            return ""
        if found.back_at + found.safety <= (state.accepted_until or 0.0):
            return ""
        worst = latest_back(state, found.now, ctx.reckoning)
        slip = _SLIP * plan.window.duration
        until = max(worst, found.back_at + found.safety) + slip
        if not acts(plan, state.level):
            if not any(late.step == step.id for late in state.lateness):
                ctx.append(Draft("late", data={**_record(found, until), "action": "shown"}))
            return ""
        ctx.append(Draft("late", data={**_record(found, until), "action": "ask"}))
        why = _ask(ctx, step, found, until)
        if why:
            return why


def _record(found: Outlook, until: float) -> dict[str, Any]:
    """The arithmetic as the journal keeps it."""
    return {
        key: one for key, one in asdict(found).items() if key not in {"now", "window_end"}
    } | {"back_at": found.back_at, "over": found.over, "until": until}


def _ask(ctx: RunContext, step: PlannedStep, found: Outlook, until: float) -> str:
    """Empty once people have accepted it; what they accepted is journaled as it stands by then."""
    zone = ctx.plan.window.timezone if ctx.plan.window else "UTC"
    node = next((n.id for n in step.nodes if ctx.status(n.id).state not in FINISHED), None)
    if node is None:
        raise LeftOut
    before = ctx.state.accepted_until
    over = "" if before is None else f"What was accepted held until {time_at(before, zone)}. "
    question = (
        f"{step.id} is refused: after it, going back would end outside the window. {over}"
        f"{found.arithmetic(zone)}. To start it nevertheless, accept by name, with a reason; "
        f"that holds for as long as everything could be back by {time_at(until, zone)}"
    )
    result = ask_people(ctx, node, "do", ctx.status(node).attempt,
                        AskOperator(question=question, reason=True))
    said = next(d for d in reversed(ctx.state.decisions)
                if d.node == node and d.verb in {"approve", "reject"})
    now = outlook(ctx.state, step, ctx.now(), ctx.reckoning) or found
    ctx.append(Draft("late", data={
        **_record(now, until), "action": "accepted" if result.ok else "refused", "who": said.who,
        "why": reason_of(said)}))
    if result.ok:
        return ""
    return (f"{step.id} was not started: going back would have ended outside the window "
            f"({result.detail})")


def clock_data(state: RunState, now: float, reckoning: Reckoning) -> dict[str, Any]:
    """The back-out clock as the journal keeps it."""
    read = clock(state, now, reckoning)
    return {"remaining": read.remaining_window, "backout": read.backout, "settle": read.settle,
            "margin": read.margin, "basis": read.basis}


def note_clock(ctx: RunContext, step: PlannedStep) -> None:
    """What the clock says as a step begins; its first intent takes it into the journal."""
    if ctx.plan.window is not None:
        ctx.clock_as_begun[step.id] = clock_data(ctx.state, ctx.now(), ctx.reckoning)
