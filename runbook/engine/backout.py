"""The back-out clock: how long the way back would take from here, and whether it still fits.

Pure: everything is derived from the run's state and the plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runbook.model.runstate import NodeStatus, RunState
from runbook.model.state import TOUCHED


@dataclass(frozen=True, slots=True)
class BackoutClock:
    """Seconds. ``remaining_window`` and ``margin`` are None where the plan has no window.

    ``one_way`` names the steps with effects that are points of no return or cannot be put back
    at all: going back past them needs the loss to be accepted.
    """

    remaining_window: float | None
    backout: float
    margin: float | None
    one_way: tuple[str, ...] = ()


def backout_time(state: RunState, durations: Mapping[str, float] | None = None) -> float:
    """Seconds a rollback would take from here: the longest chain of undos.

    The undo of a step starts when the undos of all steps after it have ended, so this is the
    longest path in the reversed dependency graph. A step weighs nothing when it has had no effect
    or was put back already, else its measured undo duration (``durations``, by step id), else
    its ``estimate_undo``. An undo under way counts in full: the clock errs on the safe side.
    """
    known = durations or {}
    ready: dict[str, float] = {}
    for step in reversed(state.plan.steps):
        before = max((ready[later] for later in state.plan.dependents[step.id]), default=0.0)
        weight = 0.0
        if step.irreversible is None and needs_undo(state, step.id):
            weight = known.get(step.id, step.estimate_undo)
        ready[step.id] = before + weight
    return max(ready.values(), default=0.0)


def clock(
    state: RunState, now: float, durations: Mapping[str, float] | None = None
) -> BackoutClock:
    """The back-out clock at the run's time ``now`` (Unix seconds)."""
    backout = backout_time(state, durations)
    window = state.plan.window
    remaining = None if window is None else window.end - now
    one_way = tuple(
        step.id
        for step in state.plan.steps
        if (step.point_of_no_return or step.irreversible is not None)
        and needs_undo(state, step.id)
    )
    return BackoutClock(
        remaining, backout, None if remaining is None else remaining - backout, one_way
    )


def needs_undo(state: RunState, step: str) -> bool:
    """Whether a rollback would have to look at any node of the step."""
    return any(_touched(state.nodes[node.id]) for node in state.plan.by_id[step].nodes)


def _touched(status: NodeStatus) -> bool:
    return status.intended and status.state in TOUCHED
