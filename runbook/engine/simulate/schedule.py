"""When everything starts and ends, in many runs at once. Needs numpy.

Arrays are steps × runs, seconds from the start of the run. Nothing stops these schedules: what
would have failed is told beside them (``failed_at``), as up to the first failure both are one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from runbook.engine.simulate.draw import Draws, Flags, Floats, Nodes, Places, side_by_side
from runbook.engine.simulate.slots import in_slots
from runbook.engine.simulate.work import Layout, Work


@dataclass(frozen=True, slots=True)
class Schedule:
    """``decider``: of each step the one whose end decided its start (or the end of its wait); -1
    where an anchor did, or nothing."""

    starts: Floats
    ends: Floats
    decider: Places
    failed_at: Floats | None
    """When the step failed for good; infinite: it did not. None: nothing can fail."""
    own: Floats | None
    """Seconds of each step by itself; None where steps share slots."""


def schedule(draws: Draws) -> Schedule:
    """The schedules of one part of the runs."""
    layout = draws.layout
    if steps_share_slots(layout):
        return _with_slots(draws)
    count, runs = len(layout.steps), draws.runs
    found = Schedule(
        starts=np.empty((count, runs)), ends=np.empty((count, runs)),
        decider=np.empty((count, runs), dtype=np.int32),
        failed_at=np.full((count, runs), np.inf) if _can_fail(layout) else None,
        own=np.empty((count, runs)),
    )
    assert found.own is not None
    for place, work in enumerate(layout.steps):
        found.own[place], failed_after = _alone(
            work, draws.nodes(place), layout.max_parallel
        )
        _place(found, place, work, found.own[place])
        if failed_after is not None and found.failed_at is not None:
            found.failed_at[place] = found.ends[place] - found.own[place] + failed_after
    return found


def _place(found: Schedule, place: int, work: Work, own: Floats) -> None:
    """Put a step behind those it comes after, and behind its anchors."""
    start, who = found.starts[place], found.decider[place]
    who[:] = -1
    if work.after:
        start[:] = found.ends[work.after[0]]
        who[:] = work.after[0]
        for earlier in work.after[1:]:
            later = found.ends[earlier] > start
            np.maximum(start, found.ends[earlier], out=start)
            who[later] = earlier
    else:
        start[:] = 0.0
    if np.isfinite(work.not_before):
        who[start < work.not_before] = -1
        np.maximum(start, work.not_before, out=start)
    begin: Floats = start
    if np.isfinite(work.until):
        who[start < work.until] = -1
        begin = np.maximum(start, work.until)
    if work.lag is not None:
        over = found.ends[work.lag.of] + work.lag.seconds
        who[over > begin] = work.lag.of
        begin = np.maximum(begin, over)
    np.add(begin, own, out=found.ends[place])


def _alone(work: Work, nodes: Nodes, slots: int) -> tuple[Floats, Floats | None]:
    """Seconds of a whole step that has all slots for itself, and after how many it fails."""
    if not work.takes_slot:
        slots = len(work.takes)
    soaked = work.soak * (len(work.batches) - 1)
    if work.alike and nodes.failed is None:
        rounds = sum(math.ceil(size / slots) for size in work.batches)
        return nodes.seconds[0] * rounds + soaked, None
    total = np.zeros(nodes.seconds.shape[1])
    failed_after = np.full(total.shape, np.inf) if nodes.failed is not None else None
    failures = np.zeros(total.shape, dtype=np.int32)
    at = 0
    for number, size in enumerate(work.batches):
        total += side_by_side(nodes.seconds[at : at + size], slots)
        total += work.soak if number else 0.0
        if nodes.failed is not None and failed_after is not None:
            failures += nodes.failed[at : at + size].sum(axis=0, dtype=np.int32)
            now = (failures > work.tolerated) & np.isinf(failed_after)
            failed_after[now] = total[now]
        at += size
    return total, failed_after


def _with_slots(draws: Draws) -> Schedule:
    layout = draws.layout
    found = in_slots(layout, [draws.nodes(place) for place in range(len(layout.steps))])
    return Schedule(
        found.starts.T.copy(), found.ends.T.copy(), found.decider.T.copy(),
        found.failed_at.T.copy() if found.failed_at is not None else None, None,
    )


def _can_fail(layout: Layout) -> bool:
    return any(work.failure for work in layout.steps)


def steps_share_slots(layout: Layout) -> bool:
    """Whether nodes of different steps may ever have to wait for each other's slots.

    The steps are covered by chains in which each comes after the one before, so that of a chain
    one step at most goes on at a time. Never is an answer that can be relied on."""
    before: list[int] = []
    chains: list[list[int]] = []
    """Of each chain the last step and the most slots one of its steps wants."""
    for place, work in enumerate(layout.steps):
        bits = 0
        for earlier in work.after:
            bits |= before[earlier] | 1 << earlier
        before.append(bits)
        wants = max(work.batches, default=0) if work.takes_slot else 0
        fit = max((chain for chain in chains if bits >> chain[0] & 1), default=None)
        if fit is None:
            chains.append([place, wants])
        else:
            fit[:] = [place, max(fit[1], wants)]
    wanted = [wants for _, wants in chains if wants]
    return len(wanted) > 1 and sum(wanted) > layout.max_parallel


def decided_the_end(found: Schedule) -> Flags:
    """Steps × runs: whether the step is on the chain that decided when the run ended.

    The chain goes back from the step that ended last, to the one whose end it had waited for,
    until it comes to an anchor or to the start."""
    marked = np.zeros(found.ends.shape, dtype=bool)
    runs: Places = np.arange(found.ends.shape[1])
    at: Places = found.ends.argmax(axis=0)
    while len(runs):
        fresh = ~marked[at, runs]
        runs, at = runs[fresh], at[fresh]
        marked[at, runs] = True
        at = found.decider[at, runs]
        going = at >= 0
        runs, at = runs[going], at[going]
    return marked
