"""Whether a runbook is in the middle of a live run, so that a new one would do everything twice.

That nothing is done twice is promised within one run: a second one takes the world as the first
has left it, half moved, for the world before.
"""

from __future__ import annotations

from runbook.engine.actions_json import actions_from_json
from runbook.engine.perform import has_effect
from runbook.errors import JournalFault, Refused
from runbook.journal import Store
from runbook.model.folding import fold
from runbook.model.plan import Plan
from runbook.model.runstate import RunState
from runbook.model.state import RunPhase

_UNFINISHED = frozenset(
    {RunPhase.RUNNING, RunPhase.PAUSED, RunPhase.HELD, RunPhase.ROLLING_BACK}
)


def check_no_other(store: Store, plan: Plan) -> None:
    """Raises Refused for a live run of the same runbook that a controller has in hand, or that has
    begun to change something and is not finished."""
    for run in store.runs():
        if run.runbook != plan.runbook or run.level != "live":
            continue
        if run.held_by is not None:
            raise _refusal(plan, run.run_id, f"is at work: {run.held_by} has it")
        try:
            state = fold(run.run_id, *store.load(run.run_id))
        except (JournalFault, ValueError):
            # Of another version, or broken: it cannot be gone on with here either.
            continue
        if state.phase in _UNFINISHED and changed(state):
            raise _refusal(
                plan, run.run_id, f"is {state.phase.value.replace('_', ' ')}, and what it has "
                "changed so far stands",
            )


def changed(state: RunState) -> bool:
    """Whether something stands, or may stand, that the run did: waiting, asking and telling change
    nothing."""
    return any(
        node.begun and has_effect(actions_from_json(node.actions))
        for node in state.nodes.values()
    )


def _refusal(plan: Plan, run_id: str, how: str) -> Refused:
    return Refused(
        f"run {run_id} of {plan.runbook} {how}; a new run would do it all a second time. Nothing "
        "was started",
        hint=f"`runbook resume {run_id}` goes on with it, `runbook rollback {run_id}` takes it "
        "back; where a second run is what you want, say --another",
    )
