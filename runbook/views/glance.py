"""What a screen shows of one moment: a copy of the run's state that nobody changes any more."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass

from runbook.engine.history import Reckoning
from runbook.model.plan import PlannedStep
from runbook.model.runstate import NodeStatus, RunState
from runbook.model.state import FINISHED, NodeState

ACTIVE = frozenset(
    {NodeState.STARTED, NodeState.APPLIED, NodeState.UNDOING, NodeState.FAILED,
     NodeState.ERRORED, NodeState.IN_DOUBT, NodeState.ROLLBACK_FAILED}
)
"""Steps that a person wants to see now."""


@dataclass(frozen=True, slots=True)
class Glance:
    """``now`` is the run's time, ``real_now`` that of the machine; equal in a live run."""

    state: RunState
    now: float
    real_now: float
    output: tuple[tuple[str, str], ...] = ()
    """(node, line), oldest first."""
    reckoning: Reckoning | None = None
    """What steps and their undos are thought to take, for the back-out clock."""
    held: bool = True
    """Whether a controller holds the run."""


def snapshot(state: RunState) -> RunState:
    """A copy that later events do not reach. Nodes are copied one level deep: the fold replaces
    what hangs below them and never changes it in place."""
    return dataclasses.replace(
        state,
        nodes={name: copy.copy(node) for name, node in state.nodes.items()},
        decisions=list(state.decisions),
        amendments=list(state.amendments),
        breaches=list(state.breaches),
        lateness=list(state.lateness),
        probes=dict(state.probes),
        notes=list(state.notes),
        spool_markers=dict(state.spool_markers),
    )


def asks(state: RunState, step: PlannedStep) -> bool:
    return any(state.nodes[node.id].question for node in step.nodes)


def is_active(state: RunState, step: PlannedStep) -> bool:
    return state.step_state(step.id) in ACTIVE or asks(state, step)


def next_steps(state: RunState) -> list[PlannedStep]:
    """Steps that have not begun and wait for nothing that runs before them."""
    finished = {
        step.id
        for step in state.plan.steps
        if step.skipped or state.step_state(step.id) in FINISHED
    }
    return [
        step
        for step in state.plan.steps
        if not step.skipped
        and state.step_state(step.id) is NodeState.PENDING
        and all(earlier in finished for earlier in step.after)
    ]


def waiting_until(nodes: list[NodeStatus]) -> tuple[float, str] | None:
    """(moment, why) when a running node does nothing but wait for a moment."""
    for node in nodes:
        if node.state is not NodeState.STARTED or len(node.acted) >= len(node.actions):
            continue
        action = node.actions[len(node.acted)]
        if action.get("action") == "wait_for":
            held = (node.acted_at or 0.0) + float(action.get("after_last", 0.0))
            return max(float(action["until"]), held), str(action.get("why", ""))
    return None


def rows_to_show(active: list[bool], focus: int, rows: int) -> list[int | tuple[int, int]]:
    """Which of many steps to show in ``rows`` lines, in order.

    An ``int`` is a step's index; a pair is a gap ``[start, end)`` that takes one line. Active
    steps come first, then those nearest to them (to ``focus`` where none is active).
    """
    count = len(active)
    if count <= rows:
        return list(range(count))
    hot = [i for i, is_hot in enumerate(active) if is_hot] or [min(focus, count - 1)]
    distance = [min(abs(i - h) for h in hot) for i in range(count)]
    ranked = sorted(range(count), key=lambda i: (not active[i], distance[i], i))
    for wanted in range(min(rows, count), -1, -1):
        lines = _with_gaps(sorted(ranked[:wanted]), count)
        if len(lines) <= rows:
            return lines
    return []


def _with_gaps(chosen: list[int], count: int) -> list[int | tuple[int, int]]:
    lines: list[int | tuple[int, int]] = []
    reached = 0
    for index in chosen:
        if index > reached:
            lines.append((reached, index))
        lines.append(index)
        reached = index + 1
    if reached < count:
        lines.append((reached, count))
    return lines
