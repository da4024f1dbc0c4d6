"""Schedules where nodes have to wait for one of ``policy.max_parallel`` slots. Needs numpy.

All runs go forward in step: at each turn every run serves the oldest of its requests. A step asks
for the slot of its next node when the one before it has got its own; so requests come in the order
of time, and are served first come, first served, as the engine's semaphore does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runbook.engine.simulate.draw import Floats, Nodes, Places
from runbook.engine.simulate.work import Layout


@dataclass(frozen=True, slots=True)
class Served:
    """Runs × steps; see ``schedule.Schedule``."""

    starts: Floats
    ends: Floats
    decider: Places
    failed_at: Floats | None


def in_slots(layout: Layout, nodes: list[Nodes]) -> Served:
    """Serve every node of every run."""
    server = _Server(layout, nodes)
    while server.turn():
        pass
    return server.served


class _Server:
    def __init__(self, layout: Layout, nodes: list[Nodes]) -> None:
        works = layout.steps
        count, runs = len(works), nodes[0].seconds.shape[1]
        self._tables(layout)
        self._seconds = np.concatenate([one.seconds for one in nodes])
        self._failed = None
        if any(one.failed is not None for one in nodes):
            self._failed = np.concatenate([
                np.zeros(one.seconds.shape, dtype=bool) if one.failed is None else one.failed
                for one in nodes
            ])
        shape = (runs, count)
        self.served = Served(
            np.full(shape, np.inf), np.full(shape, np.inf), np.full(shape, -1, dtype=np.int32),
            None if self._failed is None else np.full(shape, np.inf),
        )
        self._asked = np.full(shape, np.inf)
        """When each step asked for the slot of its next node; infinite: it does not."""
        self._missing = np.tile(
            np.array([len(work.after) for work in works], dtype=np.int32), (runs, 1)
        )
        self._ready = np.zeros(shape)
        self._done = np.zeros(shape, dtype=np.int32)
        self._so_far = np.full(shape, -np.inf)
        self._failures = np.zeros(shape, dtype=np.int32)
        self._free = np.full((runs, layout.max_parallel), -np.inf)
        self._user = np.full((runs, layout.max_parallel), -1, dtype=np.int32)
        first = np.flatnonzero(self._missing[0] == 0)
        starts = np.maximum(0.0, self._not_before[first])
        self._asked[:, first] = starts
        self.served.starts[:, first] = starts

    def _tables(self, layout: Layout) -> None:
        """What is the same in all runs, by step and by node."""
        works = layout.steps
        sizes = np.array([len(work.takes) for work in works])
        self._base = np.cumsum(sizes) - sizes
        self._last_of_step = np.zeros(sizes.sum(), dtype=bool)
        self._last_of_step[np.cumsum(sizes) - 1] = True
        self._last_of_batch = np.zeros(sizes.sum(), dtype=bool)
        for base, work in zip(self._base, works, strict=True):
            self._last_of_batch[base + np.cumsum(work.batches) - 1] = True
        self._soak = np.array([work.soak for work in works])
        self._not_before = np.array([work.not_before for work in works])
        self._until = np.array([work.until for work in works])
        self._lag_of = np.array([-1 if w.lag is None else w.lag.of for w in works])
        self._lag = np.array([0.0 if w.lag is None else w.lag.seconds for w in works])
        self._takes_slot = np.array([work.takes_slot for work in works])
        self._tolerated = np.array([work.tolerated for work in works])
        later: list[list[int]] = [[] for _ in works]
        for place, work in enumerate(works):
            for earlier in work.after:
                later[earlier].append(place)
        self._later = np.array([one for several in later for one in several], dtype=np.intp)
        self._later_count = np.array([len(several) for several in later])
        self._later_base = np.cumsum(self._later_count) - self._later_count

    def turn(self) -> bool:
        """Serve one request in every run that has one; False when none has."""
        runs: Places = np.arange(len(self._asked))
        step: Places = self._asked.argmin(axis=1)
        asked = self._asked[runs, step]
        left = np.isfinite(asked)
        if not left.all():
            runs, step, asked = runs[left], step[left], asked[left]
            if not len(runs):
                return False
        slot = self._free.argmin(axis=1)[runs]
        got = self._granted(runs, step, asked, slot)
        node = self._base[step] + self._done[runs, step]
        end = self._waited(runs, step, got) + self._seconds[node, runs]
        wants = self._takes_slot[step]
        self._free[runs[wants], slot[wants]] = end[wants]
        self._user[runs[wants], slot[wants]] = step[wants]
        self._done[runs, step] += 1
        so_far = np.maximum(self._so_far[runs, step], end)
        self._so_far[runs, step] = so_far
        self._count_failures(runs, step, node, so_far)
        over = self._last_of_step[node]
        self._asked[runs, step] = np.where(
            over, np.inf, np.where(self._last_of_batch[node], so_far + self._soak[step], got)
        )
        runs, step, so_far = runs[over], step[over], so_far[over]
        self.served.ends[runs, step] = so_far
        self._open(runs, step, so_far)
        return True

    def _granted(self, runs: Places, step: Places, asked: Floats, slot: Places) -> Floats:
        """When each gets the slot that is free first; whoever held it until then decided that."""
        free = self._free[runs, slot]
        waits = self._takes_slot[step] & (free > asked)
        if waits.any():
            held, kept = runs[waits], step[waits]
            user = self._user[held, slot[waits]]
            other = user != kept
            self.served.decider[held[other], kept[other]] = user[other]
        return np.where(waits, free, asked)

    def _waited(self, runs: Places, step: Places, got: Floats) -> Floats:
        begin = got
        until = self._until[step]
        early = begin < until
        if early.any():
            self.served.decider[runs[early], step[early]] = -1
            begin = np.maximum(begin, until)
        lagging = self._lag_of[step] >= 0
        if lagging.any():
            of = self._lag_of[step]
            over = np.where(lagging, self.served.ends[runs, of] + self._lag[step], -np.inf)
            decides = over > begin
            self.served.decider[runs[decides], step[decides]] = of[decides]
            begin = np.maximum(begin, over)
        return begin

    def _count_failures(
        self, runs: Places, step: Places, node: Places, so_far: Floats
    ) -> None:
        failed_at = self.served.failed_at
        if self._failed is None or failed_at is None:
            return
        self._failures[runs, step] += self._failed[node, runs]
        over = self._last_of_batch[node]
        over &= self._failures[runs, step] > self._tolerated[step]
        over &= np.isinf(failed_at[runs, step])
        failed_at[runs[over], step[over]] = so_far[over]

    def _open(self, runs: Places, step: Places, ended: Floats) -> None:
        """Steps all of whose forerunners have ended ask for their first slot."""
        counts = self._later_count[step]
        total = int(counts.sum())
        if not total:
            return
        runs, source, ended = (
            np.repeat(runs, counts), np.repeat(step, counts), np.repeat(ended, counts)
        )
        first = np.repeat(self._later_base[step] - (np.cumsum(counts) - counts), counts)
        later = self._later[first + np.arange(total)]
        decides = ended >= self._ready[runs, later]
        at = (runs[decides], later[decides])
        self._ready[at] = ended[decides]
        self.served.decider[at] = source[decides]
        self._missing[runs, later] -= 1
        free = self._missing[runs, later] == 0
        runs, later = runs[free], later[free]
        ready, anchor = self._ready[runs, later], self._not_before[later]
        anchored = anchor > ready
        self.served.decider[runs[anchored], later[anchored]] = -1
        starts = np.maximum(ready, anchor)
        self.served.starts[runs, later] = starts
        self._asked[runs, later] = starts
