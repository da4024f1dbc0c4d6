"""What there is to do in a simulated run: the plan, with how long each part of it takes.

Plain values, no numpy. Steps that are left out are gone; who came after them comes after those
before them. Moments are seconds from the start of the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from runbook.engine.history import Found, History, Op, batch_sizes, in_kind, rounds
from runbook.engine.simulate.takes import (
    Basis,
    Differences,
    Takes,
    answered,
    differences_in,
    estimated,
    known,
    measured,
    pace_of,
)
from runbook.model.dns import Change
from runbook.model.kind import Kind
from runbook.model.plan import Plan, PlannedStep
from runbook.model.runbook import REAL_LEVELS, Retry
from runbook.planning.back_waits import back_waits
from runbook.planning.pauses import KnownPause, pauses

_HANDOVER = 0.01
"""Seconds the engine takes from one step to the next, mostly; no measurement of a step holds it."""
_OVERHEAD = 0.1
"""Seconds for what a wait does besides waiting: a look before it and one after."""


_Thing = tuple[str, str | None, Op]
"""Step, host, and whether it is done or undone."""
_Sort = Literal["looks", "acts", "goes back"]


@dataclass(frozen=True, slots=True)
class Lag:
    """So many seconds because of the step at place ``of``."""

    of: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """One step. ``takes`` has one entry a node; where ``alike``, one draw is meant for all of
    them, as an estimate is wrong for all of them in the same way."""

    id: str
    after: tuple[int, ...]
    """Places of the steps before it."""
    takes: tuple[Takes, ...]
    alike: bool
    batches: tuple[int, ...]
    """Sizes of the batches its nodes go in."""
    soak: float
    not_before: float
    """``-inf``: no anchor."""
    until: float
    """The step ends no earlier; ``-inf``: it does not wait for a moment."""
    lag: Lag | None
    """It ends no earlier than so long after the end of another step."""
    takes_slot: bool
    """Waits and questions take no slot of ``max_parallel``."""
    chance: float
    """That its condition holds; 1.0 where it has none."""
    failure: float
    """Chance that one attempt of one node fails."""
    retry: Retry
    tolerated: int
    turns_back: bool
    """A failure that counts turns the run back; else it is held."""
    undo: tuple[Takes, ...]
    """One entry a node, or one draw that is meant for all of them."""
    undo_batches: tuple[int, ...]
    back_waits: tuple[Lag, ...]
    """Its undo is a wait, and how long: the greatest of those of whose steps have begun."""
    no_return: bool
    """A point of no return: nothing goes back by itself after it has begun."""
    irreversible: bool
    """What it did stays."""

    @property
    def source(self) -> Takes:
        """What its time is taken from: of several nodes, what is least known."""
        return min(self.takes, key=lambda one: one.samples, default=known(0.0))


@dataclass(frozen=True, slots=True)
class Layout:
    """All of it, each after those it depends on. ``origin``: Unix seconds, or 0 when nothing is
    dated. ``assumptions``: what had to be assumed, in words."""

    steps: tuple[Work, ...]
    origin: float
    max_parallel: int
    assumptions: tuple[str, ...]
    handover: float = 0.0
    """Seconds between the end of a node, or of its undo, and what comes after it."""


def lay_out(
    plan: Plan, kinds: Mapping[str, type[Kind]], history: History, *, level: str, origin: float,
    failures: Mapping[str, float] | None = None,
    changes: Mapping[str, Sequence[Change]] | None = None,
) -> Layout:
    """The work of a plan.

    ``level``: the run that is meant, ``live`` or ``sandbox``; each is reckoned from runs of its
    own kind first. ``failures``: by step, the chance that an attempt fails. ``changes``: of each
    step that changes records, what it changes, where zone files tell: the TTLs to wait for.
    """
    return _Laying(plan, kinds, history, level, origin, failures or {}, changes or {}).lay_out()


class _Laying:
    def __init__(
        self, plan: Plan, kinds: Mapping[str, type[Kind]], history: History, level: str,
        origin: float, failures: Mapping[str, float], changes: Mapping[str, Sequence[Change]],
    ) -> None:
        self._plan = plan
        self._kinds = kinds
        self._history = history
        self._level = level
        self._real = level in REAL_LEVELS
        self._origin = origin
        self._failures = failures
        self._changes = changes
        self._pauses = pauses(plan, kinds, changes)
        self._differences, self._pace = self._learn()
        self._counts: dict[str, int] = {}
        self._conditions: list[tuple[str, float]] = []

    def lay_out(self) -> Layout:
        behind: dict[str, tuple[int, ...]] = {}
        """Of each step the places of the real steps that decide when those after it may start."""
        place: dict[str, int] = {}
        steps: list[Work] = []
        for step in self._plan.steps:
            after = tuple(sorted({one for name in step.after for one in behind[name]}))
            if step.skipped is not None or not step.nodes:
                behind[step.id] = after
                continue
            behind[step.id] = (len(steps),)
            place[step.id] = len(steps)
            steps.append(self._work(step, after, place))
        return Layout(
            self._with_waits_back(steps, place), self._origin, self._plan.policy.max_parallel,
            self._assumptions(), _HANDOVER,
        )

    def _learn(self) -> tuple[dict[_Sort, Differences], float]:
        """How unlike each other the measurements of one thing have been in this runbook's runs, by
        what sort of thing it is; and how unlike the nights. Of runs of the kind that is meant, or,
        where there were none, of the other."""
        own: dict[_Thing, dict[str, float]] = {}
        other: dict[_Thing, dict[str, float]] = {}
        for one in self._history.samples:
            if one.runbook == self._plan.runbook:
                into = own if (one.level in REAL_LEVELS) == self._real else other
                into.setdefault((one.step, one.host, one.op), {})[one.run_id] = one.seconds
        sorts: dict[_Sort, list[list[float]]] = {"looks": [], "acts": [], "goes back": []}
        for (step, _, op), nights in (own or other).items():
            sorts[self._sort(step, op)].append(list(nights.values()))
        every = differences_in(group for groups in sorts.values() for group in groups)
        return (
            {sort: differences_in(groups) or every for sort, groups in sorts.items()},
            pace_of((own or other).values()),
        )

    def _sort(self, step: str, op: Op) -> _Sort:
        """What only looks, waits or asks is hardly ever late; what acts is, and mostly does more
        than its undo."""
        if op == "undo":
            return "goes back"
        planned = self._plan.by_id.get(step)
        kind = None if planned is None else self._kinds[planned.kind]
        quiet = kind is not None and (kind.check or kind.asks or kind.pause is not Kind.pause)
        return "looks" if quiet else "acts"

    def _work(
        self, step: PlannedStep, after: tuple[int, ...], place: Mapping[str, int]
    ) -> Work:
        kind = self._kinds[step.kind]
        pause = self._pauses.get(step.id)
        lag = None
        if pause is not None and pause.of is not None:
            lag = Lag(place[pause.of], pause.seconds)
        takes, alike = self._takes(step, kind, pause)
        undo = self._undo(step, kind, takes)
        moments = [m - self._origin for m in (step.at, step.not_before) if m is not None]
        self._counts[takes[0].basis] = self._counts.get(takes[0].basis, 0) + 1
        return Work(
            id=step.id,
            after=after,
            takes=takes,
            alike=alike,
            batches=tuple(batch_sizes(step, "do")),
            soak=step.soak,
            not_before=max(moments, default=-float("inf")),
            until=-float("inf") if pause is None or pause.until is None
            else pause.until - self._origin,
            lag=lag,
            takes_slot=pause is None and not kind.asks,
            chance=self._chance(step),
            failure=self._failures.get(step.id, 0.0),
            retry=step.retry,
            tolerated=len(step.nodes) if step.on_failure == "continue" else step.max_failures,
            turns_back=step.on_failure == "rollback",
            undo=undo,
            undo_batches=(1,) if undo[0].basis == "known" else tuple(batch_sizes(step, "undo")),
            back_waits=(),
            no_return=step.point_of_no_return,
            irreversible=step.irreversible is not None,
        )

    def _chance(self, step: PlannedStep) -> float:
        if step.when is None:
            return 1.0
        chance = self._history.holds(self._plan.runbook, step.id, level=self._level)
        self._conditions.append((step.id, chance))
        return chance

    def _with_waits_back(
        self, steps: list[Work], place: Mapping[str, int]
    ) -> tuple[Work, ...]:
        """The undo of a step that only waits, for what steps behind it have left in caches."""
        for name, behind in back_waits(self._plan, self._kinds, self._changes).items():
            waits = tuple(Lag(place[later], seconds) for later, seconds in behind.items())
            steps[place[name]] = replace(steps[place[name]], back_waits=waits)
        return tuple(steps)

    def _takes(
        self, step: PlannedStep, kind: type[Kind], pause: KnownPause | None
    ) -> tuple[tuple[Takes, ...], bool]:
        """One entry a node, and whether all of them are one."""
        count = len(step.nodes)
        if pause is not None and (pause.of is not None or pause.until is not None):
            return (replace(estimated(_OVERHEAD), basis="known"),) * count, True
        fixed = pause.seconds if pause is not None else 0.0
        found = [
            self._found(self._history.find(self._plan.runbook, step, node.host, "do"), kind,
                        fixed, self._each(step, "do"), self._sort(step.id, "do"))
            for node in step.nodes
        ]
        if all(one is not None for one in found):
            return tuple(one for one in found if one is not None), False
        if pause is not None:
            return (replace(estimated(_OVERHEAD), basis="known", fixed=fixed),) * count, True
        each = self._each(step, "do")
        return ((answered if kind.asks else estimated)(each),) * count, True

    def _each(self, step: PlannedStep, op: Op) -> float:
        """Seconds of one node, by the estimate, which is for the whole step."""
        if op == "undo":
            return step.estimate_undo / rounds(self._plan, step, "undo")
        soaked = step.soak * (len(batch_sizes(step, "do")) - 1)
        return max(0.0, step.estimate - soaked) / rounds(self._plan, step, "do")

    def _found(
        self, found: Found, kind: type[Kind], fixed: float, estimate: float, sort: _Sort
    ) -> Takes | None:
        """Of the kind of run that is meant; else, of the other kind, where it tells anything."""
        own = tuple(s.seconds for s in in_kind(found.samples, self._level))
        if own:
            return self._measured(own, fixed, sort)
        other = tuple(s.seconds for s in found.samples)
        if not other or kind.asks:
            return None
        if fixed:
            return self._measured(other, fixed, sort, "rehearsed")
        shape = self._measured(other, 0.0, sort, "rehearsed")
        # A sandbox does not hold what production holds: it may raise an estimate, never lower it.
        return shape.at_least(estimate) if self._real else shape

    def _measured(
        self, seconds: tuple[float, ...], fixed: float, sort: _Sort, basis: Basis = "measured"
    ) -> Takes:
        return measured(seconds, fixed=fixed, basis=basis, differences=self._differences[sort],
                        pace=self._pace)

    def _undo(
        self, step: PlannedStep, kind: type[Kind], doing: tuple[Takes, ...]
    ) -> tuple[Takes, ...]:
        if kind.check or step.irreversible is not None or kind.back_after:
            return (known(0.0),)
        each = self._each(step, "undo")
        found = [
            takes for node in step.nodes
            if (takes := self._found(
                self._history.find(self._plan.runbook, step, node.host, "undo"), kind, 0.0, each,
                "goes back",
            )) is not None
        ]
        if found:
            # A node of which nothing is known takes as long as the slowest of the others.
            slowest = max(found, key=lambda one: one.middle)
            return (*found, *(slowest,) * (len(step.nodes) - len(found)))
        if each == 0:
            return (known(0.0),)
        if doing[0].samples and abs(each - self._each(step, "do")) < 1e-9:
            return tuple(replace(one, basis="as the doing") for one in doing)
        return (estimated(each),)

    def _assumptions(self) -> tuple[str, ...]:
        told = []
        if any(self._differences.values()):
            told.append(
                "what was measured n times takes, with a chance of three in n + 2, as much longer "
                "than at best as something about as long once did; two nights in three are within "
                f"{self._pace:.0%} of the middle one"
            )
        guessed = self._counts.get("estimate", 0)
        if guessed:
            told.append(
                f"{guessed} steps by their estimate: nine in ten between half and double, a third "
                "of the error common to all"
            )
        if self._counts.get("rehearsed") and self._real:
            told.append(
                f"{self._counts['rehearsed']} steps by rehearsals alone, never shorter than their "
                "estimate"
            )
        if self._counts.get("people"):
            told.append(
                f"{self._counts['people']} questions to people: nine answers in ten between a "
                "third and three times the estimate"
            )
        told += [
            f"how long `{name}` waits is a guess: what it waits for is not known offline"
            for name, pause in self._pauses.items() if pause is None
        ]
        told += [
            f"the condition of `{name}` holds" + (
                ": it was never met" if chance == 1 else
                f" in {chance:.0%} of the runs, by those that came to it"
            )
            for name, chance in self._conditions
        ]
        if not any(self._failures.values()):
            told.append("nothing fails: no failure was ever seen, and no --failure-rate is given")
        return tuple(told)
