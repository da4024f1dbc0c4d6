"""The waits of the way back as a run knows them: by what it has really changed.

A zone need not have a file to plan with. Once records were changed, the journal tells with which
TTLs the caches were given what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runbook.engine.actions_json import actions_from_json
from runbook.model.actions import ChangeRecordSet
from runbook.model.dns import Change
from runbook.model.kind import Kind
from runbook.model.plan import Plan
from runbook.model.runstate import RunState
from runbook.model.state import NodeState
from runbook.planning.back_waits import Waits, back_waits


class JournaledWaits:
    """Tells the waits of a run. It is asked all the time, so it keeps what it has reckoned until
    the run changes records again."""

    def __init__(self, kinds: Mapping[str, type[Kind]]) -> None:
        self._kinds = kinds
        self._changing: dict[str, tuple[str, ...]] = {}
        """By digest of a plan: its nodes that change records; none where nothing waits."""
        self._last: tuple[tuple[object, ...], Waits] = ((), {})

    def __call__(self, state: RunState) -> Waits:
        nodes = self._changing.get(state.plan.digest)
        if nodes is None:
            nodes = self._changing[state.plan.digest] = tuple(self._nodes(state.plan))
        if not nodes:
            return {}
        stand = (state.run_id, state.plan.digest, *(
            (state.nodes[n].attempt, state.nodes[n].state, state.nodes[n].intended) for n in nodes
        ))
        known, waits = self._last
        if known != stand:
            waits = back_waits(state.plan, self._kinds, _changes(state, nodes))
            self._last = (stand, waits)
        return waits

    def _nodes(self, plan: Plan) -> Iterator[str]:
        waiting = {kind for step in plan.steps for kind in self._kinds[step.kind].back_after}
        for step in plan.steps if waiting else ():
            kind = self._kinds[step.kind]
            if step.kind in waiting or kind.differences is not Kind.differences:
                yield from (node.id for node in step.nodes)


def _changes(state: RunState, nodes: tuple[str, ...]) -> dict[str, list[Change]]:
    """By step what it has begun to change; nothing where it found that nothing was to do."""
    found: dict[str, list[Change]] = {}
    for name in nodes:
        status = state.nodes[name]
        if status.intended or status.state is NodeState.VERIFIED:
            changes = found.setdefault(state.plan.nodes[name].step, [])
            for action in actions_from_json(status.actions):
                changes += action.changes if isinstance(action, ChangeRecordSet) else ()
    return found
