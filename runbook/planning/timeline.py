"""When each step would run, were every estimate right, and whether it all fits the window.

Pure. Moments are Unix seconds where the plan has a window or dated steps, else seconds from the
start of the run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from runbook.model.plan import Plan, PlannedStep
from runbook.planning.back_waits import Waits, waited
from runbook.planning.pauses import Pauses


@dataclass(frozen=True, slots=True)
class Slot:
    """One step. ``level``: the longest chain of steps before it; steps of one level that do not
    wait for each other run side by side. ``takes``: its wait included. ``back_out``: seconds to
    take everything back from the moment the step ends; None where something before cannot be taken
    back."""

    step: str
    start: float
    takes: float
    end: float
    level: int
    critical: bool
    back_out: float | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """``origin`` is the start of the first step, and zero without window or dates."""

    origin: float
    dated: bool
    """Moments are Unix seconds."""
    slots: dict[str, Slot]
    """By step, in plan order; steps that are skipped take no time."""
    critical_path: tuple[str, ...]
    """The chain that decides the end, first step first."""
    levels: tuple[tuple[str, ...], ...]
    end: float
    window_start: float | None
    window_end: float | None
    no_way_back: tuple[str, ...]
    """Steps after which not everything can be taken back, in order of time: the first that
    is a point of no return or irreversible, and all that end later."""
    too_late_back: tuple[str, ...]
    """Steps after which going back would end outside the window."""
    early: tuple[str, ...]
    """Steps that would start before the window opens, and nothing shows that it is meant."""
    guessed: tuple[str, ...]
    """Steps that wait, and for how long cannot be told before the run: what is said of their
    length, and of all that comes after them, is a guess."""
    guessed_back: tuple[str, ...]
    """The same of the way back."""

    @property
    def total(self) -> float:
        """Seconds from the first start to the last end."""
        return self.end - self.origin

    @property
    def inside(self) -> float:
        """Seconds between the first start inside the window (or at all) and the last end."""
        return self.end - max(self.origin, self.window_start or self.origin)

    @property
    def margin(self) -> float | None:
        """Seconds of the window that are left at the end; negative when it does not fit."""
        return None if self.window_end is None else self.window_end - self.end

    @property
    def fits_window(self) -> bool | None:
        return None if self.margin is None else self.margin >= 0

    @property
    def fits_with_back_out(self) -> bool | None:
        """Whether from every step that can be taken back, going back still fits."""
        return None if self.window_end is None else not self.too_late_back

    @property
    def longest_back_out(self) -> float:
        return max((slot.back_out or 0.0 for slot in self.slots.values()), default=0.0)

    def back_out_at(self, step: str) -> float | None:
        """Seconds to take everything back from the end of a step."""
        return self.slots[step].back_out


def build_timeline(
    plan: Plan, waits: Waits | None = None, pauses: Pauses | None = None,
    guessed_back: Collection[str] = (), *, begun: float | None = None,
) -> Timeline:
    """The earliest schedule of a plan. ``waits``: undos that are waits, and how long they are;
    ``pauses``: steps that are waits; both are else as long as estimated. ``guessed_back``: undos
    of ``waits`` whose length nobody can tell.

    The run starts when it is ``begun``; where that is not said, with its first dated step, or when
    the window opens, whichever is earlier. A step starts when all before it have ended, and not
    before its ``at`` or ``not_before``.
    """
    pauses = pauses or {}
    dates = [m for step in plan.steps for m in (step.at,) if m is not None]
    opening = [plan.window.start] if plan.window else []
    origin = min((*dates, *opening), default=0.0) if begun is None else begun
    starts: dict[str, float] = {}
    takes: dict[str, float] = {}
    ends: dict[str, float] = {}
    decided: dict[str, str | None] = {}
    levels: dict[str, int] = {}
    for step in plan.steps:
        last = max(step.after, key=lambda name: ends[name], default=None)
        ready = origin if last is None else ends[last]
        begin = max(ready, step.at or ready, step.not_before or ready)
        starts[step.id] = ready if step.skipped is not None else begin
        takes[step.id], waited_for = _takes(step, starts[step.id], pauses, ends)
        ends[step.id] = starts[step.id] + takes[step.id]
        decided[step.id] = waited_for or last
        levels[step.id] = max((levels[name] + 1 for name in step.after), default=0)
    path = _critical(ends, decided)
    backs = _back_outs(plan, starts, ends, waits or {})
    one_way = sorted(
        ends[s.id] for s in plan.steps
        if s.skipped is None and (s.point_of_no_return or s.irreversible is not None)
    )
    no_return = one_way[0] if one_way else None
    slots = {
        step.id: Slot(
            step.id, starts[step.id], takes[step.id], ends[step.id], levels[step.id],
            step.skipped is None and step.id in path,
            None if no_return is not None and ends[step.id] >= no_return else backs[step.id],
        )
        for step in plan.steps
    }
    in_time = sorted(
        (s for s in slots.values() if plan.by_id[s.step].skipped is None), key=lambda s: s.end
    )
    window_end = plan.window.end if plan.window else None
    return Timeline(
        origin=origin,
        dated=plan.dated or begun is not None,
        slots=slots,
        critical_path=tuple(
            name for name in path if plan.by_id[name].skipped is None
        ),
        levels=_levels(plan, levels),
        end=max(ends.values(), default=origin),
        window_start=plan.window.start if plan.window else None,
        window_end=window_end,
        no_way_back=tuple(s.step for s in in_time if s.back_out is None),
        too_late_back=tuple(
            s.step for s in in_time
            if window_end is not None and s.back_out is not None
            and s.end + s.back_out > window_end
        ),
        early=_early(plan, starts),
        guessed=tuple(
            step.id for step in plan.steps if step.id in pauses and pauses[step.id] is None
        ),
        guessed_back=tuple(step.id for step in plan.steps if step.id in guessed_back),
    )


def _takes(
    step: PlannedStep, start: float, pauses: Pauses, ends: Mapping[str, float]
) -> tuple[float, str | None]:
    """Seconds a step takes that starts then, and the step whose end its wait goes by."""
    if step.skipped is not None:
        return 0.0, None
    pause = pauses.get(step.id)
    if pause is None:
        return step.estimate, None
    if pause.until is not None:
        return max(0.0, pause.until - start), None
    if pause.of is None:
        return pause.seconds, None
    gone = start - ends[pause.of]
    return max(0.0, pause.seconds - gone), pause.of if gone < pause.seconds else None


def budget_estimates(plan: Plan, timeline: Timeline) -> dict[str, float | None]:
    """Seconds each budget's interval would take; None where it would not be measured.

    A budget may name the call of a playbook: it is then measured from the start of its first
    step to the end of its last.
    """
    return {
        budget.name: _between(
            _edge(plan, timeline, budget.from_step, budget.from_edge),
            _edge(plan, timeline, budget.to_step, budget.to_edge),
        )
        if budget.from_step and budget.to_step else None
        for budget in plan.budgets
    }


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else max(0.0, end - start)


def _edge(plan: Plan, timeline: Timeline, name: str, edge: str) -> float | None:
    slots = [
        timeline.slots[step.id] for step in plan.steps
        if step.skipped is None and (step.id == name or step.id.startswith(f"{name}/"))
    ]
    if edge == "start":
        return min((slot.start for slot in slots), default=None)
    return max((slot.end for slot in slots), default=None)


def _critical(ends: dict[str, float], decided: dict[str, str | None]) -> dict[str, None]:
    chain: list[str] = []
    name: str | None = max(ends, key=lambda one: ends[one], default=None)
    while name is not None:
        chain.append(name)
        name = decided[name]
    return dict.fromkeys(reversed(chain))


def _back_outs(
    plan: Plan, starts: dict[str, float], ends: dict[str, float], waits: Waits
) -> dict[str, float]:
    """For each step, at the moment it ends: the longest chain of undos of all that has begun.

    What runs beside it counts in full: it has to be taken back too.
    """
    by_start = sorted(plan.steps, key=lambda step: starts[step.id])
    found: dict[str, float] = {}
    begun: set[str] = set()
    chain = _chain(plan, waited(waits, begun))
    worst, place = 0.0, 0
    for step in sorted(plan.steps, key=lambda step: ends[step.id]):
        fresh = {step.id}
        while place < len(by_start) and starts[by_start[place].id] < ends[step.id]:
            fresh.add(by_start[place].id)
            place += 1
        fresh -= begun
        begun |= fresh
        if any(not fresh.isdisjoint(behind) for behind in waits.values()):
            chain = _chain(plan, waited(waits, begun))
            fresh = begun
        worst = max([worst, *(chain[name] for name in fresh)])
        found[step.id] = max(worst, chain[step.id])
    return found


def _chain(plan: Plan, waits: Mapping[str, float]) -> dict[str, float]:
    """Of each step the longest chain of undos from it down to the first."""
    chain: dict[str, float] = {}
    for step in plan.steps:
        own = 0.0 if step.skipped is not None else waits.get(step.id, step.estimate_undo)
        chain[step.id] = own + max((chain[name] for name in step.after), default=0.0)
    return chain


def _levels(plan: Plan, levels: dict[str, int]) -> tuple[tuple[str, ...], ...]:
    made: list[list[str]] = [[] for _ in range(max(levels.values(), default=-1) + 1)]
    for step in plan.steps:
        if step.skipped is None:
            made[levels[step.id]].append(step.id)
    return tuple(tuple(level) for level in made if level)


def _early(plan: Plan, starts: dict[str, float]) -> tuple[str, ...]:
    """A step is meant to be early when it is dated, or when one that comes after it waits for
    the window to open."""
    if plan.window is None:
        return ()
    opening = plan.window.start
    meant: set[str] = set()
    for step in reversed(plan.steps):
        if step.id in meant or max(step.at or 0.0, step.not_before or 0.0) >= opening:
            meant.update(step.after)
    return tuple(
        step.id for step in plan.steps
        if step.skipped is None and step.at is None and starts[step.id] < opening
        and step.id not in meant
    )
