"""One step, forward: its condition, its moment, its batches of nodes, its threshold."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from runbook.engine.attempt import given_up, run_node
from runbook.engine.context import ANSWER_LOOK_EVERY, LeftOut, RunContext, Stopping
from runbook.engine.in_time import may_start, note_clock
from runbook.engine.late import condition_holds
from runbook.engine.side_by_side import batches, side_by_side
from runbook.engine.waits import wait_for
from runbook.errors import TemplateFault
from runbook.journal import Draft
from runbook.model.plan import Node, PlannedStep
from runbook.model.runstate import RunState
from runbook.model.state import FINISHED, NodeState, RunPhase


class StepOutcome(StrEnum):
    FINISHED = "finished"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    STOPPED = "stopped"
    REFUSED = "refused"
    """It was not started, as people did not want what it would lead to."""


def finished(state: RunState, step: PlannedStep) -> bool:
    """Whether steps after it may start, as the journal stands."""
    states = [state.nodes[node.id].state for node in step.nodes]
    failed = sum(s in {NodeState.FAILED, NodeState.ERRORED} for s in states)
    others = sum(s not in FINISHED for s in states) - failed
    return others == 0 and failed <= tolerated(step)


def tolerated(step: PlannedStep) -> int:
    """How many nodes may fail."""
    return len(step.nodes) if step.on_failure == "continue" else step.max_failures


def run_step(ctx: RunContext, step: PlannedStep) -> StepOutcome:
    """Run what is left of a step. Raises JournalFault or Fenced."""
    todo = _left_to_do(ctx, step)
    if not todo:
        return _outcome(ctx, step)
    try:
        if step.when is not None and not any(ctx.status(n.id).begun for n in step.nodes):
            try:
                wanted = condition_holds(ctx, step)
            except TemplateFault as fault:
                ctx.append(*(Draft("failed", n.id, "do", ctx.status(n.id).attempt + 1,
                                   {"error": f"when: {fault.message}"}) for n in todo))
                return StepOutcome.FAILED
            if not wanted:
                why = f"its condition does not hold: {step.when}"
                ctx.append(*(
                    Draft("skipped", n.id, "do", 0, {"why": why, "when": step.when}) for n in todo
                ))
                return StepOutcome.FINISHED
        for moment in (step.at, step.not_before):
            if moment is not None:
                wait_for(ctx, step.id, moment, lambda: not _left_to_do(ctx, step))
        if not any(ctx.status(n.id).begun for n in step.nodes):
            _while_paused(ctx)
            why = _refusal(ctx, step)
            if why:
                ctx.refused[step.id] = why
                return StepOutcome.REFUSED
            note_clock(ctx, step)
        # A person may have left out some of them, or all, while it waited.
        todo = _left_to_do(ctx, step)
        left = {n.id for n in todo}
        for nodes in batches(step, todo):
            if _failures(ctx, step, left) > tolerated(step):
                break
            _soak(ctx, step, nodes, left)
            _while_paused(ctx)
            side_by_side(ctx, nodes, lambda node: run_node(ctx, step, node), ctx.halt)
            left -= {n.id for n in nodes}
    except Stopping:
        return StepOutcome.STOPPED
    return _outcome(ctx, step)


def _left_to_do(ctx: RunContext, step: PlannedStep) -> list[Node]:
    return [n for n in step.nodes
            if ctx.status(n.id).state not in FINISHED and not given_up(ctx, step, n)]


def _refusal(ctx: RunContext, step: PlannedStep) -> str:
    """Why it is not to be started; empty: it may be. Where the node that asked is left out, those
    that are left ask anew. Raises Stopping."""
    while _left_to_do(ctx, step):
        try:
            return may_start(ctx, step)
        except LeftOut:
            continue
    return ""


def _soak(ctx: RunContext, step: PlannedStep, nodes: Sequence[Node], left: set[str]) -> None:
    """Before a batch: what the one before it did shall have had time to show, whichever
    controller did it. Nodes that never acted have nothing to show, and nothing waits for them."""
    acted = [ctx.status(n.id) for n in step.nodes if n.id not in left]
    ends = [status.ended_at for status in acted if status.ended_at is not None
            and (status.begun or status.state is not NodeState.SKIPPED)]
    begun = any(ctx.status(name).begun for name in left)
    if step.soak and ends and not begun:
        wait_for(ctx, step.id, max(ends) + step.soak,
                 lambda: all(ctx.status(n.id).state in FINISHED for n in nodes))


def _while_paused(ctx: RunContext) -> None:
    """A paused run starts no further batch, and no step whose moment comes meanwhile."""
    while ctx.state.phase is RunPhase.PAUSED and not ctx.halt.is_set():
        with ctx.signals.changed:
            ctx.signals.changed.wait(ANSWER_LOOK_EVERY)
    if ctx.halt.is_set():
        raise Stopping


def _failures(ctx: RunContext, step: PlannedStep, left: set[str]) -> int:
    """How many nodes went wrong; those that are still ``left`` to do may yet come right."""
    bad = {NodeState.FAILED, NodeState.ERRORED, NodeState.IN_DOUBT}
    return sum(ctx.status(n.id).state in bad and n.id not in left for n in step.nodes)


def _outcome(ctx: RunContext, step: PlannedStep) -> StepOutcome:
    if any(ctx.status(n.id).state is NodeState.IN_DOUBT for n in step.nodes):
        return StepOutcome.IN_DOUBT
    return StepOutcome.FINISHED if finished(ctx.state, step) else StepOutcome.FAILED
