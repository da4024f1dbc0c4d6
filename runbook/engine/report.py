"""The report of a run: every number a person wants afterwards, derived from its events.

Pure: no I/O and no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runbook.engine.advice import advise
from runbook.engine.many import hosts_named
from runbook.engine.measures import read_measures
from runbook.engine.report_model import (
    AmendmentLine,
    BreachLine,
    BudgetLine,
    ClockLine,
    CriticalLink,
    DecisionLine,
    Forecast,
    Incident,
    LateLine,
    NodeLine,
    NoteLine,
    Outcome,
    OutputFile,
    Report,
    Restoration,
    Resumption,
    Rollback,
    RollbackLine,
    StepLine,
)
from runbook.engine.timing import (
    critical_path,
    do_span,
    planned_schedule,
    read_budget,
    undo_span,
)
from runbook.model.duration import format_duration
from runbook.model.events import GENESIS, Event
from runbook.model.plan import PlannedStep
from runbook.model.runbook import Probe
from runbook.model.runstate import WAY_BACK, NodeStatus, RunState
from runbook.model.state import FINISHED, NodeState, RunPhase


def build_report(
    state: RunState,
    events: Sequence[Event],
    *,
    now: float,
    judgement: Mapping[str, Any] | None = None,
    forecast: Forecast | None = None,
    held: bool = False,
) -> Report:
    """The report of a run as it stands at the run's time ``now``.

    ``state`` is the fold of ``events``. ``judgement`` holds what was measured from outside, by
    name; see :func:`runbook.engine.measures.read_measures`. ``forecast``: what a simulation had
    said before the run. ``held``: a controller holds it now.
    """
    plan = state.plan
    window = plan.window
    start = state.started_at if state.started_at is not None else now
    schedule = planned_schedule(plan, start)
    path = critical_path(state)
    budgets = tuple(_budget_lines(state, now))
    over = any(line.breached for line in budgets) or bool(state.breaches)
    seconds = None if state.ended_at is None else state.ended_at - start
    inside = None if window is None or state.ended_at is None else state.ended_at <= window.end
    critical = {link.step for link in path}
    forward = _forward(events)
    planned = max((end for _, end in schedule.values()), default=start) - start
    return Report(
        run_id=state.run_id,
        runbook=plan.runbook,
        title=plan.title,
        owner=plan.owner,
        plan_digest=plan.digest,
        level=state.level,
        phase=state.phase,
        outcome=_outcome(state, over or inside is False),
        headline=_headline(state, seconds, inside),
        why=state.why,
        who=state.who,
        written_at=now,
        started_at=state.started_at,
        ended_at=state.ended_at,
        seconds=seconds,
        planned_seconds=planned,
        timezone=window.timezone if window else "UTC",
        window_start=window.start if window else None,
        window_end=window.end if window else None,
        inside_window=inside,
        steps=tuple(
            _step_line(state, step, forward, schedule.get(step.id), step.id in critical)
            for step in plan.steps
        ),
        critical_path=tuple(
            CriticalLink(step=i.step, op=i.op, start=i.start, end=i.end, waited=i.waited)
            for i in path
        ),
        budgets=budgets,
        rollback=_rollback(state, events),
        decisions=tuple(
            DecisionLine(ts=d.ts, who=d.who, role=d.role, verb=d.verb, node=d.node, why=d.why,
                         evidence=str(d.data.get("evidence") or ""), outputs=_given(d.data))
            for d in state.decisions
        ),
        amendments=tuple(
            AmendmentLine(ts=a.ts, who=a.who, why=a.why, was=a.was, digest=a.digest,
                          changes=a.changes)
            for a in state.amendments
        ),
        breaches=tuple(
            BreachLine(ts=b.ts, what=b.what, limit=b.limit, measured=b.measured, action=b.action,
                       detail=b.detail)
            for b in state.breaches
        ),
        clock=tuple(_clock_lines(state, events)),
        lateness=tuple(
            LateLine(ts=one.ts, step=one.step, action=one.action, busy=one.busy, takes=one.takes,
                     takes_by=one.takes_by, back=one.back, back_by=one.back_by,
                     safety=one.safety, back_at=one.back_at, over=one.over, who=one.who,
                     why=one.why)
            for one in state.lateness
        ),
        incidents=tuple(_incidents(events)),
        notes=tuple(NoteLine(ts=ts, node=node, text=text) for ts, node, text in state.notes),
        resumptions=tuple(
            Resumption(ts=e.ts, who=str(e.data.get("who", "")),
                       controller=str(e.data.get("controller", "")))
            for e in events
            if e.kind == "resumed"
        ),
        measures=read_measures(judgement or {}),
        forecast=forecast,
        outputs=tuple(_outputs(events)),
        journal_events=len(events),
        journal_head=events[-1].hash if events else GENESIS,
        next=advise(state, held=held),
    )


def _outcome(state: RunState, over: bool) -> Outcome:
    if state.phase is RunPhase.DONE:
        return "mixed" if over else "good"
    if state.phase in {RunPhase.NOT_RESTORED, RunPhase.ABORTED, RunPhase.HELD}:
        return "bad"
    return "mixed" if state.phase is RunPhase.ROLLED_BACK else "open"


def _given(data: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs as a person said them; a message may hold anything."""
    given = data.get("outputs")
    return dict(given) if isinstance(given, Mapping) else {}


def _asked_back(state: RunState) -> bool:
    """Whether people had it taken back, and not a failure."""
    return any(d.verb == "rollback" for d in state.decisions)


def _why_back(state: RunState) -> str:
    if _asked_back(state):
        return "Taken back on request"
    turned = next((b.what for b in state.breaches if b.action == "rollback"), None)
    if turned is None:
        return "Failed"
    return "Turned back in time" if turned == WAY_BACK else f"Turned back, as {turned} was overrun"


def _headline(state: RunState, seconds: float | None, inside: bool | None) -> str:
    took = f" after {format_duration(seconds)}" if seconds is not None else ""
    total = len(state.plan.steps)
    done = sum(state.step_state(step.id) in FINISHED for step in state.plan.steps)
    match state.phase:
        case RunPhase.DONE:
            where = {True: ", inside the window", False: ", after the window had closed"}
            return f"Done{took}{where.get(inside, '') if inside is not None else ''}."
        case RunPhase.ROLLED_BACK:
            return f"{_why_back(state)}, and everything was put back{took}."
        case RunPhase.NOT_RESTORED:
            return f"{_why_back(state)}{took}, and not everything could be put back."
        case RunPhase.ABORTED:
            return f"Aborted{took}, with {done} of {total} steps done."
        case RunPhase.HELD:
            return f"Held at a failure with {done} of {total} steps done: it waits for a decision."
        case RunPhase.PAUSED:
            return f"Paused with {done} of {total} steps done."
        case RunPhase.ROLLING_BACK:
            return "Rolling back."
        case _:
            asked = next((n.node for n in state.nodes.values() if n.question), None)
            waits = f"; {asked} waits for an answer" if asked else ""
            return f"Running: {done} of {total} steps done{waits}."


_FORWARD = {
    "intent": NodeState.STARTED, "done": NodeState.APPLIED, "verified": NodeState.VERIFIED,
    "failed": NodeState.FAILED, "errored": NodeState.ERRORED, "in_doubt": NodeState.IN_DOUBT,
    "skipped": NodeState.SKIPPED,
}
_FORWARD_WORST_FIRST = (
    NodeState.IN_DOUBT, NodeState.FAILED, NodeState.ERRORED, NodeState.STARTED,
    NodeState.APPLIED, NodeState.VERIFIED, NodeState.SKIPPED, NodeState.PENDING,
)


def _forward(events: Sequence[Event]) -> dict[str, NodeState]:
    """Of each node the last word of its doing."""
    return {e.node: _FORWARD[e.kind] for e in events if e.op != "undo" and e.kind in _FORWARD}


def _step_line(
    state: RunState, step: PlannedStep, forward: Mapping[str, NodeState],
    planned: tuple[float, float] | None, critical: bool,
) -> StepLine:
    nodes = [state.nodes[node.id] for node in step.nodes]
    span = do_span(state, step.id)
    undo = undo_span(state, step.id)
    started, ended = span if span else (None, None)
    return StepLine(
        id=step.id,
        title=step.title,
        kind=step.kind,
        owner=step.owner,
        source=step.source,
        state=state.step_state(step.id),
        forward=min(
            (forward.get(node.id, NodeState.PENDING) for node in step.nodes),
            key=_FORWARD_WORST_FIRST.index, default=NodeState.PENDING,
        ),
        planned_start=planned[0] if planned else None,
        planned_end=planned[1] if planned else None,
        estimate=step.estimate,
        started_at=started,
        ended_at=ended,
        seconds=ended - started if started is not None and ended is not None else None,
        undo_started_at=undo[0] if undo else None,
        undo_ended_at=undo[1] if undo else None,
        hosts=sum(node.host is not None for node in step.nodes),
        hosts_done=sum(
            node.host is not None and state.nodes[node.id].state in FINISHED
            for node in step.nodes
        ),
        attempts=max((n.attempt for n in nodes), default=0),
        critical=critical,
        point_of_no_return=step.point_of_no_return,
        detail=step.skipped or step_detail(state, step),
        nodes=tuple(
            NodeLine(node=n.id, host=n.host or "", state=s.state, attempts=s.attempt,
                     started_at=s.started_at, ended_at=s.ended_at, detail=s.detail)
            for n in step.nodes
            for s in [state.nodes[n.id]]
        ) if len(nodes) > 1 else (),
    )


def step_detail(state: RunState, step: PlannedStep) -> str:
    """Last words of the step: of the nodes that share the step's own (worst) state."""
    nodes = [state.nodes[node.id] for node in step.nodes]
    told = [n for n in nodes if n.question] or [
        n for n in nodes if n.state is state.step_state(step.id) and n.detail
    ]
    words = list(dict.fromkeys(n.question or n.detail for n in told))
    if not words:
        return ""
    if len(nodes) == 1 or (len(told) == len(nodes) and len(words) == 1):
        return words[0]
    same = [n.node for n in told if (n.question or n.detail) == words[0]]
    more = f" (and {len(told) - len(same)} more)" if len(told) > len(same) else ""
    return f"{hosts_named(same)}: {words[0]}{more}"


def _budget_lines(state: RunState, now: float) -> list[BudgetLine]:
    lines = []
    for budget in state.plan.budgets:
        read = read_budget(state, budget, now)
        lines.append(
            BudgetLine(
                name=budget.name,
                from_edge=f"{budget.from_step}.{budget.from_edge}" if budget.from_step else "",
                to_edge=f"{budget.to_step}.{budget.to_edge}" if budget.to_step else "",
                limit=budget.limit, state=read.state, since=read.since, until=read.until,
                seconds=read.seconds, breached=read.breached, by_rollback=read.by_rollback,
                probe=_asked(budget.probe) if budget.probe else "", counts=budget.counts,
                service=read.service, unknown=read.unknown, outages=read.outages,
                samples=read.samples, failed=read.failed, why=read.why,
            )
        )
    return lines


def _asked(probe: Probe) -> str:
    return f"{probe.method} {probe.url} from {probe.host or 'the controller'}"


def _clock_lines(state: RunState, events: Sequence[Event]) -> list[ClockLine]:
    """Of each step the first time that it began."""
    found: dict[str, ClockLine] = {}
    for e in events:
        read = e.data.get("clock") if e.kind == "intent" and e.op == "do" else None
        if not read or read.get("remaining") is None:
            continue
        step = state.plan.nodes[e.node].step
        found.setdefault(step, ClockLine(
            step=step, ts=e.ts, remaining=read["remaining"], backout=read["backout"],
            settle=read["settle"], margin=read["margin"], basis=read["basis"]))
    return list(found.values())


def _rollback(state: RunState, events: Sequence[Event]) -> Rollback | None:
    begun = state.rollback_started_at
    if begun is None:
        return None
    lines = [
        line
        for step in reversed(state.plan.steps)
        if (line := _rollback_line(state, step)) is not None
    ]
    over = state.ended_at
    first = next((e.data for e in events if e.kind == "rollback_started"), {})
    return Rollback(
        why=str(first.get("why", "")), to=state.rollback_to or "", started_at=begun, ended_at=over,
        seconds=None if over is None else over - begun, steps=tuple(lines),
        reckoned=(first.get("clock") or {}).get("backout"),
    )


_WORST_RESTORATION: tuple[Restoration, ...] = (
    "failed", "irreversible", "in progress", "not reached", "restored", "nothing to undo",
)


def _rollback_line(state: RunState, step: PlannedStep) -> RollbackLine | None:
    """None for a step that never had an effect and that the rollback did not look at."""
    found = {
        node.id: outcome
        for node in step.nodes
        if (outcome := _restoration(state.nodes[node.id])) is not None
    }
    if not found:
        return None
    worst = next(o for o in _WORST_RESTORATION if o in found.values())
    speaker = next(name for name, o in found.items() if o == worst)
    span = undo_span(state, step.id)
    seconds = span[1] - span[0] if span is not None and span[1] is not None else None
    detail = "" if worst in {"not reached", "in progress"} else state.nodes[speaker].detail
    return RollbackLine(
        step=step.id, outcome=worst, started_at=span[0] if span else None, seconds=seconds,
        estimate=step.estimate_undo, detail=detail,
    )


def _restoration(status: NodeStatus) -> Restoration | None:
    match status.state:
        case NodeState.ROLLED_BACK:
            return "restored" if status.undo_attempt else "nothing to undo"
        case NodeState.ROLLBACK_FAILED:
            return "failed"
        case NodeState.IRREVERSIBLE:
            return "irreversible"
        case NodeState.UNDOING:
            return "in progress"
        case _:
            return "not reached" if status.intended else None


def _incidents(events: Sequence[Event]) -> list[Incident]:
    wrong = {"failed", "errored", "in_doubt", "rollback_failed"}
    return [
        Incident(ts=e.ts, node=e.node, op=e.op, attempt=e.attempt, kind=e.kind,
                 error=str(e.data.get("error", "")))
        for e in events
        if e.kind in wrong
    ]


def _outputs(events: Sequence[Event]) -> list[OutputFile]:
    found: dict[tuple[str, str, int, int], OutputFile] = {}
    for e in events:
        for index, result in enumerate(e.data.get("results") or ()):
            data = result.get("data") or {}
            if not (data.get("stdout_path") or data.get("stderr_path")):
                continue
            code = data.get("exit_code")
            found[e.node, e.op, e.attempt, index] = OutputFile(
                node=e.node, op=e.op, attempt=e.attempt, index=index,
                exit_code=code if isinstance(code, int) else None,
                stdout_path=str(data.get("stdout_path") or ""),
                stderr_path=str(data.get("stderr_path") or ""),
            )
    return list(found.values())
