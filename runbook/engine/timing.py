"""When steps were to run, when they did, what decided the end, and what the budgets measured.

Pure functions over the run's state. Times are Unix seconds of the run's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from runbook.model.plan import Plan
from runbook.model.runbook import REAL_LEVELS, Budget
from runbook.model.runstate import NodeStatus, ProbeSummary, RunState
from runbook.model.state import FINISHED, NodeState

Span = tuple[float, float | None]
"""(start, end); the end is None while something of it still goes on."""

_UNDER_WAY = frozenset({NodeState.STARTED, NodeState.APPLIED})


def do_span(state: RunState, step: str) -> Span | None:
    """From the first node's start to the last node's end; None when no node has started."""
    nodes = [state.nodes[node.id] for node in state.plan.by_id[step].nodes]
    starts = [n.started_at for n in nodes if n.started_at is not None]
    if not starts:
        return None
    ends = [n.ended_at for n in nodes if n.ended_at is not None]
    going = not ends or any(n.state in _UNDER_WAY for n in nodes)
    return min(starts), None if going else max(ends)


def undo_span(state: RunState, step: str) -> Span | None:
    """The same for the undo; None when no undo action was started (also: nothing to undo)."""
    nodes = [state.nodes[node.id] for node in state.plan.by_id[step].nodes]
    nodes = [n for n in nodes if n.undo_attempt > 0 and n.undo_started_at is not None]
    if not nodes:
        return None
    starts = [n.undo_started_at for n in nodes if n.undo_started_at is not None]
    ends = [n.undo_ended_at for n in nodes if n.undo_ended_at is not None]
    going = not ends or any(n.state is NodeState.UNDOING for n in nodes)
    return min(starts), None if going else max(ends)


def planned_schedule(plan: Plan, start: float) -> dict[str, tuple[float, float]]:
    """(start, end) of each step that is to run, were every estimate right.

    A step starts when all before it have ended, and not before its ``at`` or ``not_before``.
    """
    ends: dict[str, float] = {}
    out: dict[str, tuple[float, float]] = {}
    for step in plan.steps:
        begin = max((ends[earlier] for earlier in step.after), default=start)
        if step.skipped is not None:
            ends[step.id] = begin
            continue
        begin = max(begin, step.at or begin, step.not_before or begin)
        ends[step.id] = begin + step.estimate
        out[step.id] = (begin, ends[step.id])
    return out


@dataclass(frozen=True, slots=True)
class Link:
    """One step of the chain that decided the end. ``waited``: seconds between the end of the
    link before it and its own start (an anchor, a free slot, a person who had to decide)."""

    step: str
    op: Literal["do", "undo"]
    start: float
    end: float | None
    waited: float


def critical_path(state: RunState) -> tuple[Link, ...]:
    """The chain of steps that really decided when the run ended, first to last.

    It goes back from the step that ended last to that one of its predecessors that ended last,
    and so on. After a rollback: first the doing up to the last step done, then the undoing.
    """
    plan = state.plan
    done = {
        step.id: span
        for step in plan.steps
        if state.step_state(step.id) is not NodeState.SKIPPED
        and (span := do_span(state, step.id)) is not None
    }
    undone = {
        step.id: span
        for step in plan.steps
        if (span := undo_span(state, step.id)) is not None
    }
    origin = state.started_at if state.started_at is not None else 0.0
    links = _chain(done, lambda step: plan.by_id[step].after, "do", origin)
    if undone:
        last = links[-1].end if links and links[-1].end is not None else origin
        links += _chain(undone, lambda step: plan.dependents[step], "undo", last)
    return tuple(links)


def _late(span: Span) -> float:
    return float("inf") if span[1] is None else span[1]


def _chain(
    spans: Mapping[str, Span],
    before: Callable[[str], tuple[str, ...]],
    op: Literal["do", "undo"],
    origin: float,
) -> list[Link]:
    links: list[Link] = []
    step = max(spans, key=lambda name: _late(spans[name]), default=None)
    while step is not None:
        earlier = _nearest(step, spans, before)
        previous = max(earlier, key=lambda name: _late(spans[name]), default=None)
        start, end = spans[step]
        ready = origin if previous is None else spans[previous][1]
        waited = 0.0 if ready is None else max(0.0, start - ready)
        links.append(Link(step, op, start, end, waited))
        step = previous
    return links[::-1]


def _nearest(
    step: str, spans: Mapping[str, Span], before: Callable[[str], tuple[str, ...]]
) -> set[str]:
    """Predecessors that really ran; through those that did not, to the ones behind them."""
    found: set[str] = set()
    seen: set[str] = set()
    todo = list(before(step))
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in spans:
            found.add(name)
        else:
            todo.extend(before(name))
    return found


@dataclass(frozen=True, slots=True)
class BudgetReading:
    """A budget as measured. ``seconds`` is None before the interval has begun."""

    name: str
    limit: float
    state: Literal["waiting", "running", "closed"]
    since: float | None = None
    until: float | None = None
    """None while it runs."""
    seconds: float | None = None
    by_rollback: bool = False
    """It was the undo of the first step that ended it."""
    service: Literal["", "up", "down", "unknown"] = ""
    """What the budget's probe meets now; empty: it has none, or none asks now."""
    probed: bool = False
    unknown: float = 0.0
    """Seconds that nobody measured: no controller was there, or its vantage point out of reach."""
    outages: int = 0
    samples: int = 0
    failed: int = 0
    why: str = ""
    """Last words of the probe about what was not good."""

    @property
    def breached(self) -> bool:
        return self.seconds is not None and self.seconds > self.limit


def read_budget(
    state: RunState, budget: Budget, now: float, *,
    probes: Mapping[str, ProbeSummary] | None = None,
) -> BudgetReading:
    """Measure a budget at the run's time ``now``.

    With a probe it is what that measured: by ``probes`` where given, else as the journal has it.

    An edge names a step, or a playbook call: then the first start and the last end of the
    steps in it. An end counts only when it was reached well (verified or skipped): a thaw that
    failed thaws nothing. Where the far edge was never reached, the undo of everything at the
    near edge ends the interval: what the first step began is over.
    """
    if budget.probe is not None:
        known = (probes or {}).get(budget.name) or state.probes.get(budget.name)
        return _read_probe(state, budget, known, now, live=bool(probes))
    since = _edge(state, budget.from_step, budget.from_edge)
    if since is None:
        return BudgetReading(budget.name, budget.limit, "waiting")
    until = _edge(state, budget.to_step, budget.to_edge)
    by_rollback = False
    if until is None:
        until = _undone_at(state, budget.from_step)
        by_rollback = until is not None
    if until is not None:
        return BudgetReading(
            budget.name, budget.limit, "closed", since, until, until - since, by_rollback
        )
    stop = state.ended_at if state.ended_at is not None else now
    return BudgetReading(
        budget.name, budget.limit, "running", since, None, max(0.0, stop - since)
    )


_STALE = 45.0
"""Seconds after which what a probe has put on record says nothing about now. It does so every 15 s
as long as a controller is there."""


def _read_probe(
    state: RunState, budget: Budget, known: ProbeSummary | None, now: float, *, live: bool
) -> BudgetReading:
    if known is None:
        return BudgetReading(budget.name, budget.limit, "waiting", probed=True)
    over = known.ended or state.ended_at is not None
    end = known.until if over else now
    if not live and not over and state.level in REAL_LEVELS and now - known.until > _STALE:
        # Whoever measured is gone. An outage is known up to the latest sample, and not after it.
        end = known.until
    down = known.down
    unknown = known.unknown + (now - end if not over else 0.0)
    longest = known.longest
    if known.state == "down":
        down += end - known.since
        longest = max(longest, end - known.since)
    elif known.state == "unknown":
        unknown += end - known.since
    service: Literal["", "up", "down", "unknown"] = ""
    if not over:
        service = cast("Any", known.state) if end == now else "unknown"
    return BudgetReading(
        budget.name, budget.limit, "closed" if over else "running", known.began,
        known.until if over else None, longest if budget.counts == "longest" else down,
        probed=True, service=service, unknown=unknown,
        outages=known.outages + (known.state == "down"), samples=known.samples,
        failed=known.failed, why=known.why,
    )


def probe_active(state: RunState, budget: Budget, now: float) -> bool:
    """Whether the budget's probe shall ask now: from its first edge, else from the window's start,
    to its last edge, else to the run's end. On the way back it goes on in any case."""
    if budget.from_step:
        begun = _edge(state, budget.from_step, budget.from_edge) is not None
    else:
        window = state.plan.window
        begun = window is None or now >= window.start or state.rolling_back
    if not begun:
        return False
    ended = budget.to_step and _edge(state, budget.to_step, budget.to_edge) is not None
    return not ended or state.rolling_back


def _members(state: RunState, step: str) -> list[NodeStatus]:
    prefix = f"{step}/"
    return [
        state.nodes[node.id]
        for planned in state.plan.steps
        if planned.id == step or planned.id.startswith(prefix)
        for node in planned.nodes
    ]


def _edge(state: RunState, step: str, edge: Literal["start", "end"]) -> float | None:
    nodes = _members(state, step)
    if edge == "start":
        starts = [
            n.started_at
            for n in nodes
            if n.started_at is not None and n.state is not NodeState.SKIPPED
        ]
        return min(starts, default=None)
    ends = [n.ended_at for n in nodes if n.ended_at is not None and _reached(n)]
    return max(ends) if nodes and len(ends) == len(nodes) else None


def _reached(status: NodeStatus) -> bool:
    """Verified or skipped, now or before a rollback took it back (only ``verified`` leaves an
    observation of afterwards)."""
    return status.state in FINISHED or (
        status.after is not None and status.undo_ended_at is not None
    )


def _undone_at(state: RunState, step: str) -> float | None:
    touched = [n for n in _members(state, step) if n.intended]
    ends = [
        n.undo_ended_at
        for n in touched
        if n.state is NodeState.ROLLED_BACK and n.undo_ended_at is not None
    ]
    return max(ends) if touched and len(ends) == len(touched) else None
