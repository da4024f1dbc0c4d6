"""Taking a run back: reverse dependency order, as parallel as the graph allows, resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from runbook.engine.context import RunContext, Stopping
from runbook.engine.graph_runner import GraphRunner
from runbook.engine.in_time import clock_data
from runbook.engine.side_by_side import side_by_side
from runbook.engine.undo import SETTLED, losses, needs_undo, undo_node
from runbook.errors import NotFound, Refused
from runbook.journal import Draft
from runbook.model.plan import Plan, PlannedStep
from runbook.model.runstate import RunState
from runbook.model.state import NodeState, RunPhase


def ancestors(plan: Plan, step: str) -> set[str]:
    """A step and all that come before it."""
    found: set[str] = set()
    todo = [step]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(plan.by_id[name].after)
    return found


def to_undo(state: RunState, to: str | None) -> list[PlannedStep]:
    """Steps a rollback would touch, latest first. ``to`` keeps that step and all before it.

    Raises NotFound for an unknown step."""
    if to is not None and to not in state.plan.by_id:
        raise NotFound(f"there is no step {to!r} in run {state.run_id}")
    kept = ancestors(state.plan, to) if to else set()
    return [
        step for step in reversed(state.plan.steps)
        if step.id not in kept and any(needs_undo(state, node) for node in step.nodes)
    ]


def past_return(state: RunState, to: str | None) -> list[PlannedStep]:
    """Steps past the point of no return that a rollback would touch: those that may have acted,
    however they ended."""
    return [s for s in to_undo(state, to) if s.point_of_no_return]


def begin_rollback(
    ctx: RunContext, *, why: str, to: str | None = None, accept_loss: Iterable[str] = (),
    accept_drift: Iterable[str] = (), who: str = "",
) -> None:
    """Journal the decision. Raises Refused at a point of no return, or a loss, that is not
    accepted by name: before anything is undone."""
    accepted = set(accept_loss)
    refused = [step.id for step in past_return(ctx.state, to) if step.id not in accepted]
    if refused:
        names = ", ".join(refused)
        raise Refused(
            f"{names} is past the point of no return",
            hint="What happened since cannot be taken back without loss; accept it by name with "
            + _accepting(refused),
        )
    lost = losses(ctx, (s for s in to_undo(ctx.state, to) if s.id not in accepted))
    if lost:
        raise Refused(
            "; ".join(lost.values()), hint="Nothing was undone. Accept it by name with "
            + _accepting(lost),
        )
    ctx.append(Draft("rollback_started", data={
        "why": why, "to": to, "who": who, "accept_loss": sorted(accepted),
        "accept_drift": sorted(set(accept_drift)),
        "clock": clock_data(ctx.state, ctx.now(), ctx.reckoning),
    }))


def _accepting(names: Iterable[str]) -> str:
    return " ".join(f"--accept-loss {name}" for name in names)


def run_rollback(ctx: RunContext, *, tick: Callable[[], None]) -> RunPhase:
    """Undo everything the journal says is to be undone; the phase the run ends in.

    ``tick`` is called again and again meanwhile: an undo may have to ask people, too.

    A step whose undo failed keeps those before it as they are: undoing them under it could make
    things worse. A step that cannot be undone at all is reported and does not stop the others.
    Raises Stopping, JournalFault or Fenced; ``resume`` carries on from there.
    """
    ctx.turn_back.clear()
    if not ctx.signals.stop.is_set():
        ctx.halt.clear()
        if ctx.signals.stop.is_set():
            # It came just now.
            ctx.halt.set()
    steps = to_undo(ctx.state, ctx.state.rollback_to)
    names = {step.id for step in ctx.plan.steps}
    involved = {step.id for step in steps}
    after = {name: ctx.plan.dependents[name] for name in names}

    def work(name: str) -> bool:
        if name not in involved:
            return True
        step = ctx.plan.by_id[name]
        todo = [node for node in step.nodes if needs_undo(ctx.state, node)]
        width = step.batch or max(1, len(todo))
        drift = name in ctx.state.accept_drift
        for start in range(0, len(todo), width):
            if ctx.signals.stop.is_set():
                raise Stopping
            side_by_side(
                ctx, todo[start : start + width],
                lambda node: undo_node(ctx, step, node, accept_drift=drift), ctx.signals.stop,
            )
        return all(
            not ctx.status(n.id).intended or ctx.status(n.id).state in SETTLED for n in step.nodes
        )

    def may_start() -> bool:
        tick()
        return not ctx.signals.stop.is_set()

    GraphRunner(ctx, after, work, tick=may_start).run()
    if ctx.signals.stop.is_set():
        raise Stopping
    return _conclude(ctx, steps)


def _conclude(ctx: RunContext, steps: list[PlannedStep]) -> RunPhase:
    left = [s.id for s in steps if any(needs_undo(ctx.state, n) for n in s.nodes)]
    gone = [s.id for s in ctx.plan.steps
            if any(ctx.status(n.id).state is NodeState.IRREVERSIBLE for n in s.nodes)]
    why = ctx.state.rollback_why
    if left or gone:
        parts = []
        if left:
            parts.append("not restored: " + ", ".join(left))
        if gone:
            parts.append("cannot be undone: " + ", ".join(gone))
        ctx.append(Draft("run_finished", data={
            "phase": RunPhase.NOT_RESTORED, "why": f"{why}; {'; '.join(parts)}"}))
        return RunPhase.NOT_RESTORED
    if ctx.state.rollback_to is not None:
        ctx.append(Draft("held", data={
            "why": f"rolled back to {ctx.state.rollback_to}", "rolled_back_to":
            ctx.state.rollback_to}))
        return RunPhase.HELD
    ctx.append(Draft("run_finished", data={"phase": RunPhase.ROLLED_BACK, "why": why}))
    return RunPhase.ROLLED_BACK
