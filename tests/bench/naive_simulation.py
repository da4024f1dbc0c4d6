"""One simulated run at a time, in plain Python: an event loop over a heap.

The alternative that ``bench_simulate`` compares with, and the reference that tests hold the
vectorised schedules against.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence

from runbook.engine.simulate.takes import Takes
from runbook.engine.simulate.work import Layout

INF = float("inf")


def draw(takes: Takes, chance: random.Random, common: float) -> float:
    """One duration, by the same rules as ``simulate.draw``."""
    import math

    seconds = takes.seconds[chance.randrange(len(takes.seconds))]
    if takes.surprises and chance.random() < 1 / (len(takes.seconds) + 1):
        seconds = max(seconds / 2, seconds + chance.choice(takes.surprises))
    if takes.spread or takes.shared:
        seconds *= math.exp(takes.spread * chance.gauss(0, 1) + takes.shared * common)
    return seconds + takes.fixed


def one_run(
    layout: Layout, seconds: Sequence[Sequence[float]],
    failed: Sequence[Sequence[bool]] | None = None,
) -> tuple[list[float], list[float], list[float]]:
    """(starts, ends, when each failed for good) of the steps. ``seconds``: of each step's nodes."""
    works = layout.steps
    starts, ends, failed_at = ([INF] * len(works) for _ in range(3))
    missing = [len(work.after) for work in works]
    later: list[list[int]] = [[] for _ in works]
    for place, work in enumerate(works):
        for earlier in work.after:
            later[earlier].append(place)
    slots = [-INF] * layout.max_parallel
    heapq.heapify(slots)
    done, failures, so_far = [0] * len(works), [0] * len(works), [-INF] * len(works)
    edges = [set(_sums(work.batches)) for work in works]
    asked: list[tuple[float, int]] = []

    def open_step(place: int) -> None:
        ready = max((ends[one] for one in works[place].after), default=0.0)
        starts[place] = max(ready, works[place].not_before)
        heapq.heappush(asked, (starts[place], place))

    for place, count in enumerate(missing):
        if not count:
            open_step(place)
    while asked:
        at, place = heapq.heappop(asked)
        work = works[place]
        got = max(at, heapq.heappop(slots)) if work.takes_slot else at
        begin = max(got, work.until)
        if work.lag is not None:
            begin = max(begin, ends[work.lag.of] + work.lag.seconds)
        node = done[place]
        end = begin + seconds[place][node]
        if work.takes_slot:
            heapq.heappush(slots, end)
        done[place] += 1
        so_far[place] = max(so_far[place], end)
        failures[place] += bool(failed and failed[place][node])
        if done[place] in edges[place]:
            if failures[place] > work.tolerated and failed_at[place] == INF:
                failed_at[place] = so_far[place]
            got = so_far[place] + work.soak
        if done[place] < len(work.takes):
            heapq.heappush(asked, (got, place))
            continue
        ends[place] = so_far[place]
        for follower in later[place]:
            missing[follower] -= 1
            if not missing[follower]:
                open_step(follower)
    return starts, ends, failed_at


def _sums(sizes: Sequence[int]) -> list[int]:
    found, total = [], 0
    for size in sizes:
        total += size
        found.append(total)
    return found


def simulated_ends(layout: Layout, runs: int, seed: int) -> list[float]:
    """When each of so many runs ends."""
    chance = random.Random(seed)
    found = []
    for _ in range(runs):
        common = chance.gauss(0, 1)
        seconds = []
        for work in layout.steps:
            if work.alike:
                seconds.append([draw(work.takes[0], chance, common)] * len(work.takes))
            else:
                seconds.append([draw(takes, chance, common) for takes in work.takes])
        found.append(max(one_run(layout, seconds)[1]))
    return found
