"""Which orders of people mean something, as a run and its steps stand. Pure."""

from __future__ import annotations

from runbook.engine.actions_json import actions_from_json
from runbook.engine.perform import has_effect
from runbook.model.actions import AskOperator
from runbook.model.runstate import NodeStatus, RunState
from runbook.model.state import NodeState, RunPhase

FORWARD = frozenset({"pause", "continue", "retry", "skip"})
"""Orders that mean nothing once the run goes back."""

_AT_REST = frozenset({
    NodeState.PENDING, NodeState.FAILED, NodeState.ERRORED, NodeState.IN_DOUBT,
    NodeState.ROLLED_BACK,
})


def why_not_heard(state: RunState, verb: str) -> str:
    """Why an order about a run would never be carried out; empty: it may be."""
    if state.phase in {RunPhase.DONE, RunPhase.ROLLED_BACK, RunPhase.ABORTED}:
        return f"run {state.run_id} has ended: {state.phase}"
    if state.rolling_back and verb in FORWARD:
        if state.phase is RunPhase.NOT_RESTORED:
            return f"run {state.run_id} has gone back, and not everything was restored"
        return f"run {state.run_id} is going back"
    return ""


def why_not_skipped(status: NodeStatus) -> str:
    """Why a node cannot be left out as it stands; empty: it can.

    A node at work can be where all that it does is to wait or to tell. Who is asked for a decision
    has to give it: an order must not take the place of an answer that the plan demands.
    """
    if status.state in _AT_REST:
        return ""
    if status.state is NodeState.STARTED:
        actions = actions_from_json(status.actions)
        if not has_effect(actions):
            if not any(isinstance(one, AskOperator) and not one.errand for one in actions):
                return ""
            return "it asks people: say `runbook approve` or `runbook reject`"
    if status.state in {NodeState.STARTED, NodeState.APPLIED}:
        return "it is at work; it can be skipped when it has ended, if it has failed"
    return f"it is {status.state.value.replace('_', ' ')}"
