"""Predictions beside runs: kept as a run begins, held against what came in its report."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runbook.errors import JournalFault
from runbook.journal import Store
from runbook.model.folding import fold
from runbook.model.plan import Plan
from runbook.model.runstate import RunState

if TYPE_CHECKING:
    from runbook.engine.report_model import Forecast
    from runbook.engine.simulate.foretold import Came
    from runbook.engine.simulate.prediction import Foretold

_FILE = "foretold.json"
_MOST_RUNS = 40


def keep_foretold(store: Store, run_id: str, plan: Plan, *, level: str) -> None:
    """Keep with a run what the latest simulation of its plan has foretold, if there is one: what
    is foretold later cannot be held against it."""
    meant = "sandbox" if level == "sandbox" else "live"
    for one in store.rehearsals(plan.digest):
        if one.level == "simulate" and one.data.get("for") == meant:
            kept = {"ts": one.ts, "who": one.who, "foretold": one.data["foretold"]}
            path = store.run_directory(run_id) / _FILE
            path.write_text(json.dumps(kept), encoding="utf-8")
            return


def forecast_of(store: Store, state: RunState) -> Forecast | None:
    """What was foretold for a run, what came, and how good predictions of its runbook were."""
    kept = _kept(store, state.run_id)
    if kept is None:
        return None
    from runbook.engine.report_model import Forecast
    from runbook.engine.simulate.foretold import calibration, what_came

    said = _said(kept)
    return Forecast(
        made_at=kept["ts"], who=kept["who"], runs=said.runs, fits=said.fits,
        decide_by=said.decide_by, came=what_came(said, state),
        earlier=calibration(_earlier(store, state)),
    )


def _earlier(store: Store, state: RunState) -> list[Came]:
    """Of the runs of the same runbook before this one, what predictions came to."""
    from runbook.engine.simulate.foretold import what_came

    runs = [run.run_id for run in store.runs() if run.runbook == state.plan.runbook]
    earlier = runs[runs.index(state.run_id) + 1 :][:_MOST_RUNS]
    found: list[Came] = []
    for run_id in earlier:
        kept = _kept(store, run_id)
        if kept is None:
            continue
        try:
            other = fold(run_id, *store.load(run_id))
        except (JournalFault, ValueError):
            continue  # It says so where it is asked for itself.
        found += what_came(_said(kept), other)
    return found


def _kept(store: Store, run_id: str) -> dict[str, Any] | None:
    path = store.run_directory(run_id) / _FILE
    if not path.exists():
        return None
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def _said(kept: dict[str, Any]) -> Foretold:
    from runbook.engine.simulate.prediction import Foretold

    return Foretold.model_validate(kept["foretold"])
