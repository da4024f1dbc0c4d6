"""One step, forward: its condition, its moment, its batches of nodes, its threshold."""

from __future__ import annotations

from enum import StrEnum

from runbook.engine.attempt import run_node
from runbook.engine.context import ANSWER_LOOK_EVERY, RunContext, Stopping
from runbook.engine.late import condition_holds
from runbook.engine.side_by_side import batches, side_by_side
from runbook.errors import TemplateFault
from runbook.journal import Draft
from runbook.model.plan import PlannedStep
from runbook.model.runstate import RunState
from runbook.model.state import FINISHED, NodeState, RunPhase


class StepOutcome(StrEnum):
    FINISHED = "finished"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    STOPPED = "stopped"


def finished(state: RunState, step: PlannedStep) -> bool:
    """Whether steps after it may start, as the journal stands."""
    states = [state.nodes[node.id].state for node in step.nodes]
    failed = sum(s in {NodeState.FAILED, NodeState.ERRORED} for s in states)
    others = sum(s not in FINISHED for s in states) - failed
    tolerated = len(states) if step.on_failure == "continue" else step.max_failures
    return others == 0 and failed <= tolerated


def run_step(ctx: RunContext, step: PlannedStep) -> StepOutcome:
    """Run what is left of a step. Raises JournalFault or Fenced."""
    todo = [n for n in step.nodes if ctx.status(n.id).state not in FINISHED]
    if not todo:
        return StepOutcome.FINISHED
    try:
        if step.when is not None and not any(ctx.status(n.id).intended for n in step.nodes):
            try:
                wanted = condition_holds(ctx, step)
            except TemplateFault as fault:
                ctx.append(*(Draft("failed", n.id, "do", ctx.status(n.id).attempt + 1,
                                   {"error": f"when: {fault.message}"}) for n in todo))
                return StepOutcome.FAILED
            if not wanted:
                why = f"its condition does not hold: {step.when}"
                ctx.append(*(Draft("skipped", n.id, "do", 0, {"why": why}) for n in todo))
                return StepOutcome.FINISHED
        for moment in (step.at, step.not_before):
            if moment is not None and not ctx.clock.wait(moment, ctx.halt):
                return StepOutcome.STOPPED
        for number, nodes in enumerate(batches(step, todo)):
            if number and step.soak:
                _soak(ctx, step.soak)
            _while_paused(ctx)
            side_by_side(ctx, nodes, lambda node: run_node(ctx, step, node), ctx.halt)
            if _failures(ctx, step) > step.max_failures:
                break
    except Stopping:
        return StepOutcome.STOPPED
    return _outcome(ctx, step)


def _soak(ctx: RunContext, seconds: float) -> None:
    """Between two batches: what the first did shall have time to show."""
    if not ctx.clock.wait(ctx.now() + seconds, ctx.halt):
        raise Stopping


def _while_paused(ctx: RunContext) -> None:
    """A paused run starts no further batch, and no step whose moment comes meanwhile."""
    while ctx.state.phase is RunPhase.PAUSED and not ctx.halt.is_set():
        with ctx.signals.changed:
            ctx.signals.changed.wait(ANSWER_LOOK_EVERY)
    if ctx.halt.is_set():
        raise Stopping


def _failures(ctx: RunContext, step: PlannedStep) -> int:
    bad = {NodeState.FAILED, NodeState.ERRORED, NodeState.IN_DOUBT}
    return sum(ctx.status(n.id).state in bad for n in step.nodes)


def _outcome(ctx: RunContext, step: PlannedStep) -> StepOutcome:
    if any(ctx.status(n.id).state is NodeState.IN_DOUBT for n in step.nodes):
        return StepOutcome.IN_DOUBT
    return StepOutcome.FINISHED if finished(ctx.state, step) else StepOutcome.FAILED
