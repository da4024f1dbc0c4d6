"""Plays a plan many times and counts. Needs numpy.

The runs are played a part at a time: what is at work then fits the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from runbook.engine.simulate.back import Back, way_back
from runbook.engine.simulate.draw import Draws, Flags, Floats
from runbook.engine.simulate.gains import ends_if_halved, ends_if_halved_in_slots
from runbook.engine.simulate.prediction import (
    Bin,
    BudgetOdds,
    Decision,
    Outcomes,
    Prediction,
    Quantiles,
    StepOdds,
)
from runbook.engine.simulate.schedule import (
    Schedule,
    decided_the_end,
    schedule,
)
from runbook.engine.simulate.work import Layout
from runbook.errors import Refused
from runbook.model.plan import Plan
from runbook.model.runbook import Budget

_PART = 1000
_TRIED_RUNS = 2000
"""Runs in which steps are made shorter, to see what it buys."""
_TRIED_RARELY = 0.01
"""A step that decides the end less often than that cannot move it."""
_TRIED_IN_SLOTS = (8, 300)
"""Steps, and runs, where every trial means serving all slots anew."""
_MOST_CELLS = 40_000_000
"""Steps × runs kept at the same time: about half a gigabyte."""
_BINS = 60
_CURVE = tuple(i / 50 for i in range(51))
_LEVELS = (0.05, 0.5, 0.9, 0.95)


def predict(
    plan: Plan, layout: Layout, *, runs: int, seed: int, certainty: float,
    level: Literal["live", "sandbox"], dated: bool,
) -> Prediction:
    """Play ``layout`` (the work of ``plan``). The same seed gives the same prediction.

    Raises Refused for a plan with nothing to do, or one too big for so many runs.
    """
    steps = layout.steps
    if not steps:
        raise Refused("there is nothing to simulate: no step of this plan would be run")
    if len(steps) * runs > _MOST_CELLS:
        raise Refused(
            f"{len(steps)} steps in {runs} runs would take more memory than is meant",
            hint=f"--runs {_MOST_CELLS // len(steps)} is the most for this plan",
        )
    window = None if plan.window is None else plan.window.end - layout.origin
    counted = _Counted.of(layout, runs)
    parts = [(first, min(_PART, runs - first)) for first in range(0, runs, _PART)]
    tried: list[Schedule] = []
    for number, (first, size) in enumerate(parts):
        draws = Draws(layout, seed, number, size)
        found = schedule(draws)
        if first < _TRIED_RUNS:
            tried.append(found)
        back = way_back(draws, found.starts)
        counted.add(slice(first, first + size), found, back, layout, window)
    decide = _decision(layout, counted, certainty, window)
    return Prediction(
        digest=plan.digest,
        runbook=plan.runbook,
        level=level,
        runs=runs,
        seed=seed,
        certainty=certainty,
        dated=dated,
        timezone=plan.window.timezone if plan.window else "UTC",
        origin=layout.origin,
        window_start=plan.window.start if plan.window else None,
        window_end=plan.window.end if plan.window else None,
        end=_quantiles(counted.end, layout.origin),
        took=_quantiles(counted.end),
        back_out=_quantiles(_worst_way_back(layout, counted)),
        fits=None if window is None else float((counted.end <= window).mean()),
        fits_with_back_out=None if window is None else float(
            (counted.decide >= np.minimum(counted.end, counted.one_way)).mean()
        ),
        decide=decide,
        return_odds=() if window is None else tuple(
            (float(moment) + layout.origin, 1 - level) for level, moment in zip(
                _CURVE, np.quantile(counted.decide, _CURVE), strict=True)
        ),
        outcomes=counted.outcomes(window),
        steps=_steps(layout, counted, window, _gains(layout, tried, counted, seed)),
        budgets=tuple(_budgets(plan, layout, counted)),
        bins=_bins(counted.end, layout.origin),
        slots_bind=tried[0].own is None,
        assumptions=layout.assumptions,
    )


@dataclass(slots=True)
class _Counted:
    """Of all runs. Steps × runs: starts, ends, way back from each end; runs: the rest."""

    starts: Floats
    ends: Floats
    back: Floats
    end: Floats
    decide: Floats
    """Until when going back fits the window, or has a way; infinite without a window."""
    one_way: Floats
    """When the first step begins after which there is no way back."""
    failed: Floats
    """When a run failed for good; infinite: it did not."""
    back_again: Floats
    """When a run that failed was back; infinite: it was held."""
    critical: Floats

    @classmethod
    def of(cls, layout: Layout, runs: int) -> _Counted:
        wide, long = (len(layout.steps), runs), (runs,)
        return cls(
            np.empty(wide), np.empty(wide), np.empty(wide), np.full(long, np.inf),
            np.full(long, np.inf), np.full(long, np.inf), np.full(long, np.inf),
            np.full(long, np.inf), np.zeros(len(layout.steps)),
        )

    def add(
        self, part: slice, found: Schedule, back: Back, layout: Layout, window: float | None
    ) -> None:
        self.starts[:, part], self.ends[:, part] = found.starts, found.ends
        self.end[part] = found.ends.max(axis=0)
        self.back[:, part] = back.at(found.ends)
        one_way = [p for p, w in enumerate(layout.steps) if w.no_return or w.irreversible]
        if one_way:
            self.one_way[part] = found.starts[one_way].min(axis=0)
        if window is not None:
            self.decide[part] = np.minimum(back.last_decision(window), self.one_way[part])
        if found.failed_at is not None:
            self._fail(part, found.failed_at, back, found, layout)
        self.critical += decided_the_end(found).sum(axis=1)

    def _fail(
        self, part: slice, failed_at: Floats, back: Back, found: Schedule, layout: Layout
    ) -> None:
        """The first failure of a run decides what becomes of it."""
        which, at = failed_at.argmin(axis=0), failed_at.min(axis=0)
        self.failed[part] = at
        turns = np.array([work.turns_back for work in layout.steps])[which] & np.isfinite(at)
        for place in (p for p, work in enumerate(layout.steps) if work.no_return):
            turns &= found.starts[place] >= at
        takes = back.at(np.where(np.isfinite(at), at, 0.0)[np.newaxis])[0]
        self.back_again[part] = np.where(turns, at + takes, np.inf)

    def outcomes(self, window: float | None) -> Outcomes:
        limit = np.inf if window is None else window
        done, back = np.isinf(self.failed), np.isfinite(self.back_again)
        return Outcomes(
            done_in_window=_share(done & (self.end <= limit)),
            done_late=_share(done & (self.end > limit)),
            back_in_window=_share(back & (self.back_again <= limit)),
            back_late=_share(back & (self.back_again > limit)),
            held=_share(~done & ~back),
        )


def _decision(
    layout: Layout, counted: _Counted, certainty: float, window: float | None
) -> Decision | None:
    if window is None:
        return None
    by, middle = np.quantile(counted.decide, (1 - certainty, 0.5))
    limit = "window"
    if (counted.decide == counted.one_way).mean() > 0.5:
        one_way = [p for p, work in enumerate(layout.steps) if work.no_return or work.irreversible]
        limit = layout.steps[min(one_way, key=lambda p: np.median(counted.starts[p]))].id
    return Decision(by=float(by) + layout.origin, middle=float(middle) + layout.origin, limit=limit)


def _worst_way_back(layout: Layout, counted: _Counted) -> Floats:
    """Of each run the longest way back from a step whose end still has one."""
    worst: Floats = np.where(counted.ends <= counted.one_way, counted.back, 0.0).max(axis=0)
    return worst


def _steps(
    layout: Layout, counted: _Counted, window: float | None, gains: dict[int, float]
) -> tuple[StepOdds, ...]:
    runs = len(counted.end)
    starts, ends, back, takes = (
        np.quantile(values, _LEVELS, axis=1).T
        for values in (counted.starts, counted.ends, counted.back, counted.ends - counted.starts)
    )
    in_time = None if window is None else (counted.ends + counted.back <= window).mean(axis=1)
    gone = (counted.one_way < counted.ends).mean(axis=1) > 0.5
    return tuple(
        StepOdds(
            id=work.id,
            start=_named(starts[place] + layout.origin),
            end=_named(ends[place] + layout.origin),
            takes=_named(takes[place]),
            critical=float(counted.critical[place] / runs),
            gain=gains.get(place),
            back_out=_named(back[place]),
            back_in_time=None if in_time is None or gone[place] else float(in_time[place]),
            no_way_back=bool(gone[place]),
            basis=work.source.basis,
            samples=work.source.samples,
        )
        for place, work in enumerate(layout.steps)
    )


def _gains(
    layout: Layout, tried: list[Schedule], counted: _Counted, seed: int
) -> dict[int, float]:
    """Of the steps that decide the end: how much earlier its p90 is, took they half as long."""
    often = counted.critical / len(counted.end)
    places = [int(p) for p in np.argsort(-often, kind="stable") if often[p] >= _TRIED_RARELY]
    if tried[0].own is None:
        most, runs = _TRIED_IN_SLOTS
        places = places[:most]
        ends = ends_if_halved_in_slots(
            layout, Draws(layout, seed, 0, min(runs, len(counted.end))), places
        )
        before = np.quantile(next(ends), 0.9)
        after = [np.quantile(one, 0.9) for one in ends]
    else:
        before = np.quantile(np.concatenate([one.ends.max(axis=0) for one in tried]), 0.9)
        halved = np.concatenate([ends_if_halved(layout, one) for one in tried], axis=1)
        after = list(np.quantile(halved[places], 0.9, axis=1))
    return {
        place: max(0.0, float(before - then)) for place, then in zip(places, after, strict=True)
    }


def _budgets(plan: Plan, layout: Layout, counted: _Counted) -> list[BudgetOdds]:
    found = []
    for budget in plan.budgets:
        edges = _edges(layout, counted, budget)
        if edges is None:
            continue
        took = np.maximum(0.0, edges[1] - edges[0])
        found.append(BudgetOdds(
            name=budget.name, limit=budget.limit, takes=_quantiles(took),
            kept=_share(took <= budget.limit),
        ))
    return found


def _edges(
    layout: Layout, counted: _Counted, budget: Budget
) -> tuple[Floats, Floats] | None:
    """Start and end of a budget's interval; None where one of them is left out of the plan."""
    found = []
    for name, edge in (
        (budget.from_step, budget.from_edge), (budget.to_step, budget.to_edge)
    ):
        places = [
            place for place, work in enumerate(layout.steps)
            if work.id == name or work.id.startswith(f"{name}/")
        ]
        if not places:
            return None
        found.append(
            counted.starts[places].min(axis=0) if edge == "start"
            else counted.ends[places].max(axis=0)
        )
    return found[0], found[1]


def _bins(ends: Floats, origin: float) -> tuple[Bin, ...]:
    low, high = np.quantile(ends, (0.001, 0.999))
    inside = ends[(ends >= low) & (ends <= high)]
    counts, edges = np.histogram(inside, bins=_BINS)
    return tuple(
        Bin(start=float(edges[i]) + origin, end=float(edges[i + 1]) + origin,
            share=float(count) / len(ends))
        for i, count in enumerate(counts)
    )


def _quantiles(values: Floats, origin: float = 0.0) -> Quantiles:
    return _named(np.quantile(values, _LEVELS) + origin)


def _named(levels: Floats) -> Quantiles:
    p05, p50, p90, p95 = map(float, levels)
    return Quantiles(p05=p05, p50=p50, p90=p90, p95=p95)


def _share(flags: Flags) -> float:
    return float(flags.mean())
