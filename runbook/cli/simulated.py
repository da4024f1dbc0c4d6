"""The rehearsal *simulate*: the plan on a virtual clock, thousands of times."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import typer

from runbook.cli import wiring
from runbook.cli.plan import looked_ahead
from runbook.cli.recorded import record
from runbook.errors import ExitCode, Refused
from runbook.journal import Store
from runbook.model.plan import Plan

if TYPE_CHECKING:
    from runbook.engine.simulate.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Odds:
    """``failure_rates`` as given: ``0.01`` for every step, ``STEP=0.05`` for one."""

    runs: int
    seed: int
    certainty: float
    world: Literal["live", "sandbox"]
    failure_rates: tuple[str, ...]


def simulated(
    plan: Plan, store: Store, wanted: Odds, *, out: Path | None, as_json: bool
) -> NoReturn:
    """Level *simulate*: whether it fits the window, and until when going back does."""
    prediction = foretell(plan, store, wanted)
    page = None
    if out is not None:
        from runbook.views.simulation_html import render_simulation

        page = render_simulation(plan, prediction)
    from runbook.engine.simulate.prediction import kept
    from runbook.views.simulation import show_simulated

    record(store, plan, "simulate", "", prediction.ok, {
        "for": prediction.level, "foretold": kept(prediction).model_dump(mode="json"),
    })
    if out is not None and page is not None:
        _write(out, page)
    show_simulated(plan, prediction, page=out, as_json=as_json)
    raise typer.Exit(int(ExitCode.OK if prediction.ok else ExitCode.REHEARSAL_FAILED))


def foretell(plan: Plan, store: Store, wanted: Odds) -> Prediction:
    """Simulate a plan with what the state folder's earlier runs have measured.

    Raises Refused without numpy, and for rates that cannot be meant."""
    if importlib.util.find_spec("numpy") is None:
        raise Refused(
            "a simulation needs numpy, which is not installed; nothing was simulated",
            hint='pip install "runbook[simulate]"',
        )
    from runbook.engine.history import read_history
    from runbook.engine.simulate.predict import predict
    from runbook.engine.simulate.rates import observed_rates
    from runbook.engine.simulate.work import lay_out
    from runbook.planning.preview import known_changes

    kinds = wiring.kinds()
    timeline, previews = looked_ahead(plan)
    observed = observed_rates(store, runbook=plan.runbook, level=wanted.world)
    layout = lay_out(
        plan, kinds, read_history(store, runbook=plan.runbook, kinds=kinds), level=wanted.world,
        origin=timeline.origin, failures=_rates(plan, observed, wanted.failure_rates),
        changes=known_changes(previews),
    )
    return predict(
        plan, layout, runs=wanted.runs, seed=wanted.seed, certainty=wanted.certainty,
        level=wanted.world, dated=timeline.dated,
    )


def _rates(
    plan: Plan, observed: Mapping[str, float], given: tuple[str, ...]
) -> dict[str, float]:
    """What was observed, and over it what is given for all steps, and over that for single ones.
    Raises BadParameter, NotFound."""
    every: dict[str, float] = {}
    single: dict[str, float] = {}
    for text in given:
        step, sep, number = text.rpartition("=")
        if sep:
            wiring.check_steps(plan, (step,))
        try:
            rate = float(number)
        except ValueError:
            rate = -1.0
        if not 0 <= rate <= 1:
            raise typer.BadParameter(
                f"{text!r}: a rate lies between 0 and 1, like 0.01 for every step, or STEP=0.05 "
                "for one", param_hint="--failure-rate",
            )
        if sep:
            single[step] = rate
        else:
            every = dict.fromkeys(plan.by_id, rate)
    return {**observed, **every, **single}


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise Refused(f"{path} cannot be written: {fault.strerror}") from fault
