"""One step, forward: its condition, its moment, its batches of nodes, its threshold."""

from __future__ import annotations

import threading
from enum import StrEnum

from runbook.engine.attempt import run_node
from runbook.engine.context import ANSWER_LOOK_EVERY, RunContext, Stopping
from runbook.engine.late import condition_holds
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
        size = step.batch or len(todo)
        for start in range(0, len(todo), size):
            _while_paused(ctx)
            _batch(ctx, step, todo[start : start + size])
            if _failures(ctx, step) > step.max_failures:
                break
    except Stopping:
        return StepOutcome.STOPPED
    return _outcome(ctx, step)


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


def _batch(ctx: RunContext, step: PlannedStep, nodes: list[Node]) -> None:
    """Run nodes at the same time, as many as there are slots. Raises what a node raised."""
    if len(nodes) == 1:
        with ctx.slots:
            run_node(ctx, step, nodes[0])
        return
    faults: list[BaseException] = []

    def body(node: Node) -> None:
        try:
            run_node(ctx, step, node)
        except BaseException as fault:  # noqa: BLE001 - raised again below, in the step's thread
            faults.append(fault)
        finally:
            ctx.slots.release()

    threads = []
    for node in nodes:
        ctx.slots.acquire()
        if faults or ctx.halt.is_set():
            ctx.slots.release()
            break
        thread = threading.Thread(target=body, args=(node,), name=f"node {node.id}")
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    hard = [f for f in faults if not isinstance(f, Stopping)]
    if hard:
        raise hard[0]
    if faults or len(threads) < len(nodes):
        raise Stopping
