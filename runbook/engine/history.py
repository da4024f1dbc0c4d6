"""How long things really took: measured durations, from the journals of earlier runs.

    history = read_history(store, runbook="shop-2009", kinds=registry())
    history.find("shop-2009", step, "west-web", "undo")    # every sample that tells something
    history.of_step(plan, step, "undo", level="live")      # seconds to reckon with; else estimate
    history.table()    # {(kind, step id, host, "do" | "undo"): [seconds, …]}, oldest first

:func:`samples_of` is pure: a pinned plan and its events in, samples out. One sample is one node, or
its undo, that went well while one controller was there from its begin to its end. Seconds are those
of the run's clock: in a sandbox work takes real time, and only waits are played faster.

What is looked for is found, in this order, as *the same step* of the same runbook (on the same host
where there is a sample of it), as *the same kind on the same host*, and as *the same kind*. (The
hosts of staging have other names mostly, so its samples are found by the step.) A kind
whose time is up to its keys (``Kind.by_keys``: a command, a wait) is only ever compared with the
same step. Nothing found: the step's estimate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from runbook.errors import JournalFault
from runbook.journal import Store
from runbook.model.events import Event
from runbook.model.kind import Kind
from runbook.model.plan import Plan, PlannedStep
from runbook.model.runbook import REAL_LEVELS
from runbook.model.runstate import RunState
from runbook.planning.back_waits import Waits

Op = Literal["do", "undo"]
Basis = Literal["same step", "same kind and host", "same kind", "estimate"]
Key = tuple[str, str, str | None, Op]
"""(kind, step id, host, op)"""

_LATEST = 5
"""Of so many of the latest samples the longest counts: what a host was like a year ago is over."""
_MOST_RUNS = 40
"""Runs that are read: of this runbook, and again of others."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One node was done, or undone, in so many seconds."""

    runbook: str
    run_id: str
    level: str
    """``live``, ``staging`` or ``sandbox``."""
    kind: str
    step: str
    host: str | None
    op: Op
    seconds: float


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether the condition (``when:``) of a step has held in one run."""

    runbook: str
    run_id: str
    level: str
    step: str
    held: bool


@dataclass(frozen=True, slots=True)
class Found:
    """Samples, oldest first, and why they are thought to tell something."""

    basis: Basis
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """Seconds to reckon with for a whole step. ``basis`` *estimate*: nothing better is known;
    ``samples`` are how many were measured, also where the estimate outweighs them."""

    seconds: float
    basis: Basis
    samples: int = 0


class History:
    """Samples of earlier runs, oldest first. ``by_keys``: kinds whose time is up to their keys."""

    def __init__(
        self, samples: Iterable[Sample] = (), *, by_keys: Collection[str] = (),
        choices: Iterable[Choice] = (),
    ) -> None:
        self.samples = tuple(samples)
        self.choices = tuple(choices)
        self._by_keys = frozenset(by_keys)
        self._of_step: dict[tuple[str, str, str, Op], list[Sample]] = {}
        self._of_kind: dict[tuple[str, Op], list[Sample]] = {}
        for one in self.samples:
            self._of_step.setdefault((one.runbook, one.step, one.kind, one.op), []).append(one)
            self._of_kind.setdefault((one.kind, one.op), []).append(one)

    def table(self) -> dict[Key, list[float]]:
        """All of it: seconds by (kind, step id, host, op), oldest first."""
        found: dict[Key, list[float]] = {}
        for one in self.samples:
            found.setdefault((one.kind, one.step, one.host, one.op), []).append(one.seconds)
        return found

    def find(self, runbook: str, step: PlannedStep, host: str | None, op: Op) -> Found:
        """The samples that tell most about a node; *estimate* and none where nothing does."""
        same = self._of_step.get((runbook, step.id, step.kind, op), [])
        if same:
            here = [one for one in same if one.host == host]
            return Found("same step", tuple(here or same))
        if step.kind not in self._by_keys:
            alike = self._of_kind.get((step.kind, op), [])
            here = [one for one in alike if one.host == host and host is not None]
            if here:
                return Found("same kind and host", tuple(here))
            if alike:
                return Found("same kind", tuple(alike))
        return Found("estimate", ())

    def holds(self, runbook: str, step: str, *, level: str) -> float:
        """The chance that the condition of a step holds, by Laplace's rule of succession: of n runs
        that came to it, h in which it held, and one more of each. 1.0 where none came to it."""
        same = [one for one in self.choices if (one.runbook, one.step) == (runbook, step)]
        met = in_kind(same, level)
        return (sum(one.held for one in met) + 1) / (len(met) + 2) if met else 1.0

    def of_step(self, plan: Plan, step: PlannedStep, op: Op, *, level: str = "live") -> Expected:
        """Seconds to reckon with for all nodes of a step, on the safe side: the longest of the
        latest samples of its slowest node, as many rounds as its nodes need.

        Samples from another world than ``level``'s can only raise the estimate: a sandbox does
        not hold what production holds. Staging is a world of real machines, as production is, and
        counts where nothing was measured there; see :func:`in_kind`.
        """
        whole = step.estimate if op == "do" else step.estimate_undo
        many = rounds(plan, step, op)
        soaked = step.soak * (len(batch_sizes(step, op)) - 1) if op == "do" else 0.0
        estimated = max(0.0, whole - soaked) / many
        slowest, count = -1.0, 0
        basis: Basis = "estimate"
        for node in step.nodes:
            found = self.find(plan.runbook, step, node.host, op)
            if not found.samples:
                return Expected(whole, "estimate")
            count += len(found.samples)
            own = in_kind(found.samples, level)
            seconds = max(one.seconds for one in (own or found.samples)[-_LATEST:])
            why = found.basis
            if not own and seconds < estimated:
                seconds, why = estimated, "estimate"
            if seconds > slowest:
                slowest, basis = seconds, why
        if basis == "estimate":
            return Expected(whole, "estimate", count)
        return Expected(slowest * many + soaked, basis, count)


_Told = TypeVar("_Told", Sample, Choice)


def in_kind(samples: Sequence[_Told], level: str) -> list[_Told]:
    """Those from runs that were like the one that is meant: at its very level, or, where there are
    none, on real machines as it is, or in a sandbox as it is."""
    exact = [one for one in samples if one.level == level]
    real = level in REAL_LEVELS
    return exact or [one for one in samples if (one.level in REAL_LEVELS) == real]


@dataclass(frozen=True, slots=True)
class Reckoning:
    """Seconds to reckon with for every step of one plan; its estimates where nothing is said."""

    do: Mapping[str, Expected] = field(default_factory=dict)
    undo: Mapping[str, Expected] = field(default_factory=dict)
    waits: Callable[[RunState], Waits] = field(default=lambda state: {}, compare=False)
    """Undos that are nothing but waits, and how long they are as a run stands now: no earlier run
    tells that."""
    ceilings: dict[tuple[object, ...], tuple[float, float]] = field(
        default_factory=dict, compare=False
    )
    """Of a plan and its waits; see :func:`runbook.engine.backout.ceiling`."""

    def doing(self, step: PlannedStep) -> Expected:
        return self.do.get(step.id) or Expected(step.estimate, "estimate")

    def undoing(self, step: PlannedStep) -> Expected:
        return self.undo.get(step.id) or Expected(step.estimate_undo, "estimate")


def reckon(
    plan: Plan, history: History, *, level: str = "live",
    waits: Callable[[RunState], Waits] = lambda state: {},
) -> Reckoning:
    """What the history says about every step of a plan that is to run at ``level``."""
    def measured(op: Op) -> dict[str, Expected]:
        found = {step.id: history.of_step(plan, step, op, level=level) for step in plan.steps}
        # An estimate is left to the plan, which may be amended.
        return {name: one for name, one in found.items() if one.basis != "estimate"}

    return Reckoning(do=measured("do"), undo=measured("undo"), waits=waits)


def rounds(plan: Plan, step: PlannedStep, op: Op) -> int:
    """How often one node after the other has to be waited for: batches, and free slots."""
    most = max(1, plan.policy.max_parallel)
    return max(1, sum(math.ceil(size / most) for size in batch_sizes(step, op)))


def batch_sizes(step: PlannedStep, op: Op) -> list[int]:
    """Sizes of the batches the nodes of a step go in. The way back has no ramp."""
    left, found = len(step.nodes), []
    ramp = list(step.ramp) if op == "do" else []
    while left > 0:
        size = min(left, ramp.pop(0) if ramp else step.batch or left)
        found.append(size)
        left -= size
    return found


def samples_of(plan: Plan, events: Sequence[Event]) -> list[Sample]:
    """What one run measured, in the order in which things ended.

    Left out is what was done already, what did not go well, and what another controller began:
    then nobody knows how much of the time was work. A run that was slowed down on purpose says
    nothing at all."""
    found: list[Sample] = []
    level = "live"
    began: dict[tuple[str, str], float | None] = {}
    """Of what is under way; None where another controller began it."""
    for event in events:
        place = (event.node, event.op)
        if event.kind == "run_started":
            level = str(event.data.get("level", "live"))
            if float(event.data.get("slowed", 1.0)) > 1:
                return []
        elif event.kind == "resumed":
            began = dict.fromkeys(began)
        elif event.kind == "intent":
            began.setdefault(place, event.ts)
        elif event.kind in _ENDS and event.node in plan.nodes:
            intended = place in began
            start = began.pop(place, None)
            if event.kind == "verified" and (start is not None or not intended):
                start = _first_look(event, start)
            if event.kind == "restored" and start is not None:
                start = float(event.data.get("started_at", start))
            if event.kind in {"verified", "restored"} and start is not None:
                found.append(_sample(plan, event, level, event.ts - start))
    return found


def choices_of(plan: Plan, events: Sequence[Event]) -> list[Choice]:
    """Of one run, whether the conditions of its steps have held, as far as it came to them."""
    level = "live"
    found: dict[str, Choice] = {}
    for event in events:
        if event.kind == "run_started":
            level = str(event.data.get("level", "live"))
        if event.node not in plan.nodes or event.op != "do":
            continue
        step = plan.by_id[plan.nodes[event.node].step]
        held = event.kind in {"intent", "verified"}
        if step.when is not None and (held or "when" in event.data):
            found[step.id] = Choice(plan.runbook, event.run_id, level, step.id, held)
    return list(found.values())


_ENDS = frozenset({
    "verified", "failed", "errored", "in_doubt", "skipped", "restored", "rollback_failed",
    "irreversible",
})


def _first_look(event: Event, intent: float | None) -> float | None:
    """When the doing of a node began, before its intent. None: it was done already. (A check has
    no intent either, and no such reason.)"""
    if intent is None and event.data.get("reason"):
        return None
    looked = event.data.get("started_at")
    return intent if looked is None else float(looked)


def _sample(plan: Plan, event: Event, level: str, seconds: float) -> Sample:
    node = plan.nodes[event.node]
    return Sample(
        runbook=plan.runbook, run_id=event.run_id, level=level, kind=plan.by_id[node.step].kind,
        step=node.step, host=node.host, op="undo" if event.op == "undo" else "do",
        seconds=max(0.0, seconds),
    )


def read_history(
    store: Store, *, runbook: str, kinds: Mapping[str, type[Kind]], leave_out: str = ""
) -> History:
    """The history a state folder holds: its latest runs, those of this runbook before others.

    ``leave_out``: the run that is going on. A run whose journal cannot be read tells nothing here;
    it says so where it is asked for itself.
    """
    earlier = [run for run in store.runs() if run.run_id != leave_out and run.events]
    chosen = [run for run in earlier if run.runbook == runbook][:_MOST_RUNS]
    chosen += [run for run in earlier if run.runbook != runbook][:_MOST_RUNS]
    samples: list[Sample] = []
    choices: list[Choice] = []
    for run in sorted(chosen, key=earlier.index, reverse=True):
        try:
            told = store.load(run.run_id)
        except (JournalFault, ValueError):
            continue
        samples += samples_of(*told)
        choices += choices_of(*told)
    by_keys = [name for name, kind in kinds.items() if kind.by_keys]
    return History(samples, by_keys=by_keys, choices=choices)
