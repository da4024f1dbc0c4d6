"""What a simulation found, as plain data. Moments are Unix seconds where the plan is dated, else
seconds from the start of the run; durations are seconds; odds lie between 0 and 1.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quantiles(_Frozen):
    """Nine values in ten lie between ``p05`` and ``p95``."""

    p05: float
    p50: float
    p90: float
    p95: float

    def outwards(self) -> Quantiles:
        """The bounds in whole tenths of a second, no narrower for it: nobody is told more."""
        return Quantiles(
            p05=math.floor(self.p05 * 10) / 10, p50=round(self.p50, 1),
            p90=math.ceil(self.p90 * 10) / 10, p95=math.ceil(self.p95 * 10) / 10,
        )


class StepOdds(_Frozen):
    """One step. ``critical``: how often it decided the end. ``gain``: by how much the p90 of the
    end came earlier, took the step half as long; None: not tried, it hardly ever decides.
    ``back_out``: seconds to take everything back from its end. ``back_in_time``: how often that
    fits the window; None without a window, or where there is no way back any more."""

    id: str
    start: Quantiles
    end: Quantiles
    takes: Quantiles
    critical: float
    gain: float | None
    back_out: Quantiles
    back_in_time: float | None
    no_way_back: bool
    basis: str
    samples: int


class BudgetOdds(_Frozen):
    name: str
    limit: float
    takes: Quantiles
    kept: float


class Outcomes(_Frozen):
    """How the simulated runs ended, failures and all; they add up to 1."""

    done_in_window: float
    """Without a window: done."""
    done_late: float
    back_in_window: float
    """Failed, and taken back in time; without a window: taken back."""
    back_late: float
    held: float
    """Failed, and it waits for a person."""


class Decision(_Frozen):
    """Until when going back still fits the window. ``by``: with the wanted certainty;
    ``middle``: as often as not. ``limit``: what ends it: the window, or a step after which
    there is no way back."""

    by: float
    middle: float
    limit: str


class Bin(_Frozen):
    """Runs that ended from ``start`` up to ``end``, as a share of all."""

    start: float
    end: float
    share: float


class Prediction(_Frozen):
    """``level``: of the run that is predicted, ``live`` or ``sandbox``. Ends, back-outs and odds
    of steps are those of runs in which nothing fails for good; see ``outcomes`` for the rest."""

    digest: str
    runbook: str
    level: Literal["live", "sandbox"]
    runs: int
    seed: int
    certainty: float
    dated: bool
    timezone: str
    origin: float
    window_start: float | None
    window_end: float | None
    end: Quantiles
    took: Quantiles
    back_out: Quantiles
    """The longest way back of each run, from whichever of its steps."""
    fits: float | None
    """How often the move ends inside its window."""
    fits_with_back_out: float | None
    """How often it could be taken back in time from every point that has a way back."""
    decide: Decision | None
    return_odds: tuple[tuple[float, float], ...]
    """Moments, and how often going back from each would still fit the window; falling."""
    outcomes: Outcomes
    steps: tuple[StepOdds, ...]
    budgets: tuple[BudgetOdds, ...]
    bins: tuple[Bin, ...]
    slots_bind: bool
    """Nodes may have had to wait for one of ``max_parallel`` slots."""
    assumptions: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """It fits the window as certainly as was wanted (and ends well at all)."""
        return self.outcomes.done_in_window >= self.certainty


class Foretold(_Frozen):
    """The part of a prediction that is kept, to be held against a run later."""

    level: Literal["live", "sandbox"]
    runs: int
    seed: int
    dated: bool
    origin: float
    end: Quantiles
    took: Quantiles
    fits: float | None
    fits_with_back_out: float | None
    decide_by: float | None
    done_in_window: float
    back_out: dict[str, Quantiles]
    """By step: seconds to go back from its end."""


def kept(prediction: Prediction) -> Foretold:
    """What is held against the runs that follow."""
    p = prediction
    return Foretold(
        level=p.level, runs=p.runs, seed=p.seed, dated=p.dated, origin=p.origin,
        end=p.end.outwards(), took=p.took.outwards(), fits=p.fits,
        fits_with_back_out=p.fits_with_back_out,
        decide_by=None if p.decide is None else p.decide.by,
        done_in_window=p.outcomes.done_in_window,
        back_out={step.id: step.back_out.outwards() for step in p.steps},
    )
