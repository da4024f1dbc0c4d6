"""What all commands have in common that work in staging: production is known, and kept apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runbook.cli import wiring
from runbook.cli.recorded import record
from runbook.engine.apart import Apart, compare, refuse_touching
from runbook.errors import Refused
from runbook.journal import Store
from runbook.model.plan import Plan
from runbook.model.state import RunPhase

if TYPE_CHECKING:
    from runbook.model.runstate import RunState

_PRODUCTION = "production.json"
"""In the folder of a run: the plan of the live run that it rehearses."""
_BY_HAND = frozenset({"skip", "resolve"})


def compared(production: Plan, staging: Plan, state: Path) -> Apart:
    """Finds out about all machines of both plans. Nothing is changed anywhere."""
    live = wiring.whereabouts(production, state, log_in=False)
    try:
        stage = wiring.whereabouts(staging, state, log_in=True)
        try:
            return compare(production, staging, live=live, stage=stage)
        finally:
            stage.close()
    finally:
        live.close()


def keep_production(store: Store, run_id: str, production: Plan) -> None:
    """Beside the run, for everybody who takes it up."""
    directory = store.run_directory(run_id)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _PRODUCTION).write_text(production.model_dump_json(), encoding="utf-8")


def production_of(store: Store, run_id: str) -> Plan:
    """Raises Refused."""
    path = store.run_directory(run_id) / _PRODUCTION
    try:
        return Plan.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as fault:
        raise Refused(
            f"what production is, which run {run_id} must not touch, is not known any more: "
            f"{path} cannot be read",
            hint="restore it from a copy of the state folder; nothing was touched",
        ) from fault


def check_still_apart(store: Store, run_id: str, staging: Plan) -> None:
    """Names may lead elsewhere by now. A host that is down is no reason not to put the others
    back. Raises Refused."""
    refuse_touching(
        compared(production_of(store, run_id), staging, store.directory), unknown=False
    )


def by_hand(state: RunState) -> tuple[str, ...]:
    """Steps that a person has skipped or decided about: they were not rehearsed."""
    return tuple(dict.fromkeys(
        state.plan.nodes[one.node].step for one in state.decisions
        if one.verb in _BY_HAND and one.node in state.plan.nodes
    ))


def record_resumed(store: Store, run_id: str) -> None:
    """A rehearsal whose controller had gone, or that was held, has now come to its end."""
    from runbook.cli.answer import load_state

    state = load_state(store, run_id)
    if state.level != "staging" or state.phase is not RunPhase.DONE or state.faults:
        return
    decided = by_hand(state)
    record(store, production_of(store, run_id), "staging", run_id, not decided, {
        "phase": str(state.phase), "by_hand": list(decided), "resumed": True,
    })
