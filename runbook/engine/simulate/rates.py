"""How often steps failed, as earlier runs tell. Pure, but for reading the journals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runbook.engine.faults import MADE_UP
from runbook.errors import JournalFault
from runbook.journal import Store
from runbook.model.events import Event
from runbook.model.plan import Plan
from runbook.model.runbook import REAL_LEVELS

_LATEST = 40
_OUTCOMES = frozenset({"verified", "failed", "errored"})
_NOT_ITS_OWN = (MADE_UP, "cut short by the rollback")
"""Failures that tell nothing of the step: they were wanted."""


def tries_of(plan: Plan, events: Sequence[Event]) -> list[tuple[str, bool]]:
    """(step, whether it failed) of every try of every node that had an outcome of its own."""
    return [
        (plan.nodes[e.node].step, e.kind != "verified")
        for e in events
        if e.op == "do" and e.kind in _OUTCOMES and e.node in plan.nodes
        and str(e.data.get("error", "")) not in _NOT_ITS_OWN
    ]


def rates(tries: Iterable[tuple[str, bool]]) -> dict[str, float]:
    """Of each step the share of tries that failed."""
    counts: dict[str, list[int]] = {}
    for step, failed in tries:
        count = counts.setdefault(step, [0, 0])
        count[0] += failed
        count[1] += 1
    return {step: failed / count for step, (failed, count) in counts.items()}


def observed_rates(store: Store, *, runbook: str, level: str) -> dict[str, float]:
    """Rates of a runbook's steps in its latest runs of the same kind (real, or in a sandbox)."""
    tries: list[tuple[str, bool]] = []
    chosen = [run for run in store.runs() if run.runbook == runbook
              and run.events and (run.level in REAL_LEVELS) == (level in REAL_LEVELS)]
    for run in chosen[:_LATEST]:
        try:
            tries += tries_of(*store.load(run.run_id))
        except (JournalFault, ValueError):
            continue  # It says so where it is asked for itself.
    return rates(tries)
