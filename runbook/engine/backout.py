"""The back-out clock: how long the way back would take from here, and whether it still fits.

Pure: everything is derived from the run's state, the plan, and what steps are reckoned to take.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from runbook.engine.history import Reckoning
from runbook.model.plan import Plan
from runbook.model.runstate import NodeStatus, RunState
from runbook.model.state import TOUCHED, NodeState
from runbook.planning.back_waits import waited

_SAFETY = 30.0
_WAITING = frozenset({"wait_for", "ask_operator", "notify"})
"""Actions that end as soon as the run turns back."""


@dataclass(frozen=True, slots=True)
class BackoutClock:
    """Seconds. ``remaining_window`` and ``margin`` are None where the plan has no window.

    ``settle`` passes before the way back can begin: what is at work and may not be interrupted
    comes to its end first. ``one_way`` names the steps with effects that are points of no return
    or cannot be put back at all: going back past them needs the loss to be accepted.
    ``measured`` of the ``weighing`` steps that would be undone have been undone before; for the
    others it is their estimate that counts. Waits for caches are neither: they are reckoned.
    """

    remaining_window: float | None
    backout: float
    margin: float | None
    one_way: tuple[str, ...] = ()
    settle: float = 0.0
    measured: int = 0
    weighing: int = 0

    @property
    def basis(self) -> str:
        """``measured``, ``estimated``, ``3 of 5 measured``; empty when there is nothing to undo."""
        if not self.weighing:
            return ""
        if self.measured in (0, self.weighing):
            return "measured" if self.measured else "estimated"
        return f"{self.measured} of {self.weighing} measured"


def backout_time(
    state: RunState, reckoning: Reckoning | None = None, *, also: Collection[str] = ()
) -> float:
    """Seconds a rollback would take from here: the longest chain of undos.

    The undo of a step starts when the undos of all steps after it have ended, so this is the
    longest path in the reversed dependency graph. A step weighs nothing when it has had no effect
    or was put back already, else what its undo is reckoned to take. An undo under way counts in
    full: the clock errs on the safe side. An undo that waits for caches weighs as much as what
    has acted behind it makes it wait. ``also``: steps that are taken to have acted.
    """
    known = reckoning or Reckoning()
    acted = touched_steps(state).union(also)
    return _longest_chain(state.plan, acted, known, _waits(state, known, also))


def reckoned_undos(state: RunState, reckoning: Reckoning | None = None) -> dict[str, float]:
    """By step what its undo is reckoned to take from here."""
    known = reckoning or Reckoning()
    found = {step.id: known.undoing(step).seconds for step in state.plan.steps}
    return found | _waits(state, known)


def _waits(state: RunState, known: Reckoning, also: Collection[str] = ()) -> dict[str, float]:
    """By step whose undo waits for caches, how long. What was taken back already counts: caches
    do not forget it by that."""
    begun = {state.plan.nodes[one.node].step for one in state.nodes.values() if one.intended}
    return waited(known.waits(state), begun.union(also))


def _longest_chain(
    plan: Plan, acted: Collection[str], known: Reckoning, waits: Mapping[str, float]
) -> float:
    ready: dict[str, float] = {}
    dependents = plan.dependents
    longest = 0.0
    for step in reversed(plan.steps):
        before = 0.0
        for later in dependents[step.id]:
            before = max(before, ready[later])
        if step.id in acted and step.irreversible is None and step.skipped is None:
            wait = waits.get(step.id)
            before += known.undoing(step).seconds if wait is None else wait
        ready[step.id] = before
        longest = max(longest, before)
    return longest


def clock(state: RunState, now: float, reckoning: Reckoning | None = None) -> BackoutClock:
    """The back-out clock at the run's time ``now`` (Unix seconds)."""
    known = reckoning or Reckoning()
    acted = touched_steps(state)
    steps = [step for step in state.plan.steps if step.id in acted]
    waits = _waits(state, known)
    backout = _longest_chain(state.plan, acted, known, waits)
    settle = settling(state, now, known)
    window = state.plan.window
    remaining = None if window is None else window.end - now
    undone = [known.undoing(step) for step in steps
              if step.irreversible is None and step.id not in waits]
    heavy = [one for one in undone if one.seconds > 0]
    return BackoutClock(
        remaining_window=remaining,
        backout=backout,
        margin=None if remaining is None else remaining - settle - backout,
        one_way=tuple(
            step.id for step in steps if step.point_of_no_return or step.irreversible is not None
        ),
        settle=settle,
        measured=sum(one.basis != "estimate" for one in heavy),
        weighing=len(heavy),
    )


def ceiling(state: RunState, reckoning: Reckoning) -> tuple[float, float]:
    """The longest that going back can take wherever the run is, and any of its steps. By this most
    looks at the clock of a large plan are over before they begin."""
    plan = state.plan
    waits = waited(reckoning.waits(state), plan.by_id)
    key = (plan.digest, *waits.values())
    known = reckoning.ceilings.get(key)
    if known is None:
        known = (
            _longest_chain(plan, plan.by_id, reckoning, waits),
            max((reckoning.doing(step).seconds for step in plan.steps), default=0.0),
        )
        reckoning.ceilings[key] = known
    return known


def settling(state: RunState, now: float, reckoning: Reckoning | None = None) -> float:
    """Seconds until what is at work has come to where the run can turn: the longest rest of a step
    that acts now and may not be interrupted. One that is overdue may end at any moment."""
    if state.rolling_back:
        return 0.0
    known = reckoning or Reckoning()
    plan = state.plan
    began: dict[str, float] = {}
    for status in state.nodes.values():
        if status.started_at is not None and _acts(status):
            name = plan.nodes[status.node].step
            began[name] = min(status.started_at, began.get(name, status.started_at))
    ends = [
        start + known.doing(plan.by_id[name]).seconds
        for name, start in began.items() if not plan.by_id[name].interrupt
    ]
    return max(0.0, max(ends, default=now) - now)


def safety(plan: Plan, backout: float) -> float:
    """Seconds before the window's end at which the run is to be back."""
    wanted = plan.policy.window.safety
    return _SAFETY + backout / 10 if wanted is None else wanted


def needs_undo(state: RunState, step: str) -> bool:
    """Whether a rollback would have to look at any node of the step."""
    return any(_touched(state.nodes[node.id]) for node in state.plan.by_id[step].nodes)


def touched_steps(state: RunState) -> set[str]:
    """All steps for which that is so."""
    nodes = state.plan.nodes
    return {nodes[status.node].step for status in state.nodes.values() if _touched(status)}


def _touched(status: NodeStatus) -> bool:
    return status.intended and status.state in TOUCHED


def _acts(status: NodeStatus) -> bool:
    if status.state not in {NodeState.STARTED, NodeState.APPLIED} or status.question:
        return False
    return any(action.get("action") not in _WAITING for action in status.actions)
