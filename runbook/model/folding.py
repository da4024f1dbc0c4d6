"""A run's state out of its events: a pure fold. No I/O, no clock; the same events give the same
state."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from runbook.model.events import Event
from runbook.model.plan import Plan
from runbook.model.runstate import (
    WAY_BACK,
    WINDOW,
    Amendment,
    Breach,
    Decision,
    Lateness,
    NodeStatus,
    ProbeSummary,
    RunState,
)
from runbook.model.state import NodeState, RunPhase, check_transition


def fold(run_id: str, plan: Plan, events: Iterable[Event]) -> RunState:
    """The state after all events, in order."""
    state = RunState.empty(run_id, plan)
    for event in events:
        apply(state, event)
    return state


def apply(state: RunState, event: Event) -> None:
    """Fold one event in. Raises IllegalTransition for an impossible one."""
    state.last_seq, state.last_hash, state.last_ts = event.seq, event.hash, event.ts
    handler = _HANDLERS.get(event.kind)
    if handler is not None:
        handler(state, event)


def check(state: RunState, changes: Iterable[tuple[str, str, str]]) -> None:
    """Whether events (node, op, kind) may come next, in this order; changes nothing.

    Raises IllegalTransition. Asked before events become durable: an impossible event in a
    journal would make its run unreadable.
    """
    states: dict[str, NodeState] = {}
    for node, op, kind in changes:
        new = _MOVES_TO.get((op, kind)) if node in state.nodes else None
        if new is not None:
            check_transition(node, states.get(node, state.nodes[node].state), new)
            states[node] = new


def _move(status: NodeStatus, new: NodeState) -> None:
    check_transition(status.node, status.state, new)
    if status.state is NodeState.ROLLED_BACK:
        _begin_anew(status)
    status.state = new


def _begin_anew(status: NodeStatus) -> None:
    """Forward again after it was taken back: what it finds, does and leaves is its own."""
    status.intended = status.intended_before = status.undo_begun = False
    status.before = status.after = None
    status.started_at = status.ended_at = None
    status.undo_started_at = status.undo_ended_at = None
    status.undo_attempt = status.undo_applied = 0
    status.outputs, status.results, status.given = {}, [], None
    status.progress = {}


def _run_started(run: RunState, e: Event) -> None:
    run.started_at = e.ts
    run.who = str(e.data.get("who", ""))
    run.level = str(e.data.get("level", "live"))
    run.endpoints = str(e.data.get("endpoints", ""))
    run.faults = tuple(map(str, e.data.get("faults", ())))


def _resumed(run: RunState, e: Event) -> None:
    run.resumed += 1
    if run.rolling_back:
        run.phase, run.why = RunPhase.ROLLING_BACK, run.rollback_why
    else:
        run.phase, run.why = RunPhase.RUNNING, ""
    run.ended_at = None


def _host_opened(run: RunState, e: Event) -> None:
    run.spool_markers[str(e.data["host"])] = str(e.data["marker"])


def _intent(run: RunState, e: Event) -> None:
    n = run.nodes[e.node]
    if e.op == "undo":
        _move(n, NodeState.UNDOING)
        n.undo_attempt, n.undo_begun, n.undo_unsettled = e.attempt, True, True
        n.undo_number = max(n.undo_number, e.attempt)
        n.undo_actions = list(e.data.get("actions", ()))
        n.undo_started_at = n.undo_started_at or e.ts
        return
    _move(n, NodeState.STARTED)
    n.attempt = e.attempt
    n.actions = list(e.data.get("actions", ()))
    n.results, n.acted, n.acted_at, n.given = [], [], e.ts, None
    n.goes_back, n.final = "", False
    n.after, n.undo_begun = None, False
    if n.before is None:
        n.before = e.data.get("before")
    n.intended_before, n.intended = n.intended, True
    n.unsettled = True
    n.started_at = n.started_at if n.started_at is not None else e.ts
    n.ended_at = None


def _acted(run: RunState, e: Event) -> None:
    n = run.nodes[e.node]
    n.acted = [*n.acted, e.data["result"]]  # a screen may hold the one before
    n.acted_at = e.ts


def _done(run: RunState, e: Event) -> None:
    n = run.nodes[e.node]
    if e.op == "undo":
        # After a doubt, too: now it is known to have been carried out, and is to be verified.
        _move(n, NodeState.UNDOING)
        n.undo_applied, n.undo_unsettled = e.attempt, False
        return
    n.unsettled = False
    _move(n, NodeState.APPLIED)
    n.results = list(e.data.get("results", ()))
    n.given = e.data.get("outputs")


def _end(run: RunState, e: Event, new: NodeState, detail: str) -> None:
    n = run.nodes[e.node]
    _move(n, new)
    n.detail = detail
    n.attempt = max(n.attempt, e.attempt)
    started = e.data.get("started_at")
    if n.started_at is None:
        n.started_at = float(started) if started is not None else e.ts
    n.ended_at = e.ts
    n.question, n.asked, n.final = "", {}, bool(e.data.get("final"))
    if new not in {NodeState.IN_DOUBT, NodeState.SKIPPED}:
        n.unsettled = False
    if new is not NodeState.ERRORED:
        # Where nobody could be asked, the next attempt goes on with the same look.
        n.progress = {}
    if "results" in e.data:
        n.results = list(e.data["results"])


def _verified(run: RunState, e: Event) -> None:
    _end(run, e, NodeState.VERIFIED, str(e.data.get("reason") or e.data.get("seen", "")))
    n = run.nodes[e.node]
    if n.before is None:
        n.before = e.data.get("before")
    n.after = e.data.get("after")
    n.outputs = dict(e.data.get("outputs", {}))


def _failed(run: RunState, e: Event) -> None:
    _end(run, e, NodeState.FAILED, str(e.data.get("error", "")))
    n = run.nodes[e.node]
    n.goes_back = n.detail if e.data.get("goes_back") else ""


def _errored(run: RunState, e: Event) -> None:
    n = run.nodes[e.node]
    if n.unsettled:
        # Nobody could be asked, so this attempt changed nothing.
        n.intended = n.intended_before
    _end(run, e, NodeState.ERRORED, str(e.data.get("error", "")))


def _in_doubt(run: RunState, e: Event) -> None:
    run.nodes[e.node].doubtful = int(e.data.get("index", 0))
    _end(run, e, NodeState.IN_DOUBT, str(e.data.get("error", "")))


def _skipped(run: RunState, e: Event) -> None:
    _end(run, e, NodeState.SKIPPED, str(e.data.get("why", "")))
    run.nodes[e.node].outputs = dict(e.data.get("outputs") or {})


def _ask(run: RunState, e: Event) -> None:
    n = run.nodes[e.node]
    if n.state is NodeState.SKIPPED and e.op == "do":
        return  # A person has left it out just before: there is nothing to answer.
    n.question = str(e.data.get("question", ""))
    n.asked = dict(e.data)


def _answered(run: RunState, e: Event) -> None:
    n = run.nodes[e.node]
    n.question, n.asked = "", {}


def _decision(run: RunState, e: Event) -> None:
    d = e.data
    run.decisions.append(
        Decision(e.seq, e.ts, str(d.get("verb", "")), str(d.get("who", "")),
                 str(d.get("role", "")), str(d.get("why", "")), e.node, dict(d))
    )
    if d.get("verb") == "rollback" and "turn" in d:
        run.owed = d["turn"]


def _amended(run: RunState, e: Event) -> None:
    d = e.data
    run.amendments.append(Amendment(
        e.seq, e.ts, str(d.get("who", "")), str(d.get("why", "")), run.plan.digest,
        str(d["digest"]), tuple(map(str, d.get("changes", ()))),
    ))
    before, run.plan = run.plan, Plan.model_validate(d["plan"])
    run.told &= _same_limits(before, run.plan)
    if before.window != run.plan.window:
        # What was accepted was to be late by the old one.
        run.accepted_until = None
    known = {**run.retired, **run.nodes}
    run.nodes = {name: known.get(name) or NodeStatus(name) for name in run.plan.nodes}
    run.retired = {name: status for name, status in known.items() if name not in run.nodes}
    for node in run.nodes.values():
        # Who approved has approved the plan as it was: what is still open is asked anew.
        node.question, node.asked = "", {}


def _same_limits(before: Plan, after: Plan) -> frozenset[str]:
    """Names of limits that an amendment left alone. Those that are no budget's are the window's."""
    budgets = {budget.name: budget for budget in before.budgets}
    same = {budget.name for budget in after.budgets if budgets.get(budget.name) == budget}
    return frozenset(same | ({WINDOW, WAY_BACK} if before.window == after.window else set()))


def _paused(run: RunState, e: Event) -> None:
    run.phase, run.why = RunPhase.PAUSED, str(e.data.get("why", ""))


def _continued(run: RunState, e: Event) -> None:
    run.phase = RunPhase.ROLLING_BACK if run.rolling_back else RunPhase.RUNNING
    run.why = ""


def _held(run: RunState, e: Event) -> None:
    if e.data.get("rolled_back_to"):
        run.rolling_back = False
    run.phase, run.why = RunPhase.HELD, str(e.data.get("why", ""))
    if e.data.get("heard"):
        run.owed = None
        _forget_questions(run)


def _forget_questions(run: RunState) -> None:
    """The run has turned: whether a step may start is not asked any more."""
    for node in run.nodes.values():
        if node.state is NodeState.PENDING:
            node.question, node.asked = "", {}


def _rollback_started(run: RunState, e: Event) -> None:
    run.rolling_back = True
    run.phase, run.why = RunPhase.ROLLING_BACK, str(e.data.get("why", ""))
    run.rollback_started_at = run.rollback_started_at or e.ts
    run.rollback_to, run.rollback_why = e.data.get("to"), run.why
    run.accept_drift = tuple(e.data.get("accept_drift", ()))
    run.accept_loss = tuple(e.data.get("accept_loss", ()))
    _forget_questions(run)
    run.owed = None
    run.ended_at = None
    for node in run.nodes.values():
        # The whole run goes back, and takes it along.
        node.goes_back = ""


def _undo_end(run: RunState, e: Event, new: NodeState, detail: str) -> None:
    n = run.nodes[e.node]
    _move(n, new)
    n.detail = detail
    n.undo_number = max(n.undo_number, e.attempt)
    n.undo_unsettled = n.undo_unsettled and bool(e.data.get("unsettled"))
    n.undo_started_at = n.undo_started_at if n.undo_started_at is not None else e.ts
    n.undo_ended_at = e.ts
    n.question, n.asked = "", {}


def _restored(run: RunState, e: Event) -> None:
    _undo_end(run, e, NodeState.ROLLED_BACK, str(e.data.get("how", "")))


def _rollback_failed(run: RunState, e: Event) -> None:
    _undo_end(run, e, NodeState.ROLLBACK_FAILED, str(e.data.get("error", "")))


def _irreversible(run: RunState, e: Event) -> None:
    _undo_end(run, e, NodeState.IRREVERSIBLE, str(e.data.get("why", "")))


def _breach(run: RunState, e: Event) -> None:
    d = e.data
    run.breaches.append(
        Breach(e.ts, str(d["what"]), float(d["limit"]), float(d["measured"]), str(d["action"]),
               str(d.get("detail", "")))
    )
    run.told |= {str(d["what"])}
    if d["action"] in {"rollback", "hold"} and run.owed is None and not run.rolling_back:
        run.owed = {
            "what": d["action"], "why": str(d.get("why") or f"{d['what']} overran its limit"),
        }


def _late(run: RunState, e: Event) -> None:
    d = e.data
    found = Lateness(
        ts=e.ts, step=str(d["step"]), action=str(d["action"]), busy=float(d["busy"]),
        takes=float(d["takes"]), takes_by=str(d["takes_by"]), back=float(d["back"]),
        back_by=str(d["back_by"]), safety=float(d["safety"]), back_at=float(d["back_at"]),
        over=float(d["over"]), until=float(d["until"]), who=str(d.get("who", "")),
        why=str(d.get("why", "")),
    )
    run.lateness.append(found)
    if found.action == "accepted":
        run.accepted_until = max(run.accepted_until or 0.0, found.until)


def _probe(run: RunState, e: Event) -> None:
    known = {key: value for key, value in e.data.items() if key != "budget"}
    run.probes[str(e.data["budget"])] = ProbeSummary(**known)


def _run_finished(run: RunState, e: Event) -> None:
    run.phase, run.why = RunPhase(e.data["phase"]), str(e.data.get("why", ""))
    run.ended_at = e.ts
    if run.phase is not RunPhase.NOT_RESTORED:
        run.owed = None


def _progress(run: RunState, e: Event) -> None:
    run.nodes[e.node].progress = dict(e.data.get("progress", {}))


def _note(run: RunState, e: Event) -> None:
    run.notes.append((e.ts, e.node, str(e.data.get("text", ""))))


_MOVES_TO: dict[tuple[str, str], NodeState] = {
    ("do", "intent"): NodeState.STARTED, ("do", "done"): NodeState.APPLIED,
    ("do", "verified"): NodeState.VERIFIED, ("do", "failed"): NodeState.FAILED,
    ("do", "errored"): NodeState.ERRORED, ("do", "in_doubt"): NodeState.IN_DOUBT,
    ("do", "skipped"): NodeState.SKIPPED, ("undo", "intent"): NodeState.UNDOING,
    ("undo", "done"): NodeState.UNDOING, ("undo", "restored"): NodeState.ROLLED_BACK,
    ("undo", "rollback_failed"): NodeState.ROLLBACK_FAILED,
    ("undo", "irreversible"): NodeState.IRREVERSIBLE,
}
"""Where the handlers below move a node; :func:`check` looks before they do."""

_HANDLERS: dict[str, Callable[[RunState, Event], None]] = {
    "run_started": _run_started, "resumed": _resumed, "host_opened": _host_opened,
    "intent": _intent, "acted": _acted, "done": _done, "verified": _verified, "failed": _failed,
    "errored": _errored, "in_doubt": _in_doubt, "skipped": _skipped, "ask": _ask,
    "answered": _answered, "decision": _decision, "paused": _paused, "continued": _continued,
    "amended": _amended, "held": _held, "rollback_started": _rollback_started,
    "restored": _restored,
    "rollback_failed": _rollback_failed, "irreversible": _irreversible, "breach": _breach,
    "late": _late, "probe": _probe,
    "run_finished": _run_finished, "note": _note, "progress": _progress,
}
