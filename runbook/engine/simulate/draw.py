"""Draws how long everything takes, for many runs at once. Needs numpy.

Every step has its own stream of random numbers, by seed, step and part: a step that is made
shorter, or another number of runs at a time, leaves the draws of all others as they were.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from runbook.engine.simulate.takes import Takes
from runbook.engine.simulate.work import Layout, Work

Floats: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Places: TypeAlias = npt.NDArray[np.integer[Any]]

_DO, _UNDO, _COMMON, _WHETHER, _BETWEEN, _LUCK = 0, 1, 2, 3, 4, 5
_LUCK_SPREAD = 0.9
"""Standard deviation of the logarithm of a run's luck: all that surprises in it is so many times as
much. Its middle is 0.8 and its mean 1.2: what is rare is mostly not among the few measurements that
there are."""
_HANDOVER_SPREAD = 0.8
"""Standard deviation of the logarithm of a run's handovers: how busy the controller is."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Of one step: seconds of each node and run; which of them used up their tries (None: no node
    can fail)."""

    seconds: Floats
    failed: Flags | None


class Draws:
    """One part of the runs. ``part`` numbers it; ``runs`` are in it."""

    def __init__(self, layout: Layout, seed: int, part: int, runs: int) -> None:
        self.layout = layout
        self.runs = runs
        self._seed = seed
        self._part = part
        self._common = self._stream(0, _COMMON).standard_normal(runs)
        luck = self._stream(0, _LUCK).standard_normal(runs) * _LUCK_SPREAD
        self._luck = np.exp(luck - _LUCK_SPREAD**2 / 4)
        busy = self._stream(0, _BETWEEN).standard_normal(runs) * _HANDOVER_SPREAD
        self._handover = layout.handover * np.exp(busy)

    def nodes(self, place: int) -> Nodes:
        """How long the nodes of a step take, tries and the waits between them included; nothing
        where its condition does not hold."""
        found, done = self._nodes(place), self._done(place)
        if done is None:
            return found
        failed = None if found.failed is None else found.failed & done
        return Nodes(found.seconds * done, failed)

    def _nodes(self, place: int) -> Nodes:
        work = self.layout.steps[place]
        stream = self._stream(place, _DO)
        if work.alike and not work.failure:
            one = self._draw(work.takes[0], stream) + self._handover
            return Nodes(np.broadcast_to(one, (len(work.takes), self.runs)), None)
        seconds = np.empty((len(work.takes), self.runs))
        failed = np.zeros(seconds.shape, dtype=bool) if work.failure else None
        whole = self._draw(work.takes[0], stream) if work.alike else None
        for row, takes in enumerate(work.takes):
            seconds[row] = self._draw(takes, stream) if whole is None else whole
            if failed is not None:
                failed[row] = self._tries(work, takes, seconds[row], stream)
        return Nodes(seconds + self._handover, failed)

    def undo(self, place: int) -> Floats:
        """How long the undo of a step takes; nothing where it was not done."""
        work = self.layout.steps[place]
        stream, slots = self._stream(place, _UNDO), self.layout.max_parallel
        if len(work.undo) == 1:
            rounds = sum(math.ceil(size / slots) for size in work.undo_batches)
            # Where there is nothing to undo, nothing is handed over.
            between = 0.0 if work.undo[0].basis == "known" else self._handover
            total = (self._draw(work.undo[0], stream) + between) * rounds
        else:
            nodes = np.array([self._draw(takes, stream) for takes in work.undo]) + self._handover
            total, at = np.zeros(self.runs), 0
            for size in work.undo_batches:
                total += side_by_side(nodes[at : at + size], slots)
                at += size
        done = self._done(place)
        return total if done is None else total * done

    def _done(self, place: int) -> Flags | None:
        """In which runs the condition of a step holds. None: in all."""
        chance = self.layout.steps[place].chance
        if chance >= 1:
            return None
        holds: Flags = self._stream(place, _WHETHER).random(self.runs) < chance
        return holds

    def _tries(
        self, work: Work, takes: Takes, seconds: Floats, stream: np.random.Generator
    ) -> Flags:
        """Adds further tries to ``seconds``; which runs failed at the last."""
        failed: Flags = stream.random(self.runs) < work.failure
        wait = work.retry.wait
        for _ in range(work.retry.times):
            again = np.flatnonzero(failed)
            if not len(again):
                break
            seconds[again] += wait + self._draw(takes, stream)[again]
            failed[again] = stream.random(len(again)) < work.failure
            wait *= work.retry.backoff
        return failed

    def _draw(self, takes: Takes, stream: np.random.Generator) -> Floats:
        seconds: Floats
        if len(takes.seconds) > 1:
            seconds = np.asarray(takes.seconds)[
                stream.integers(0, len(takes.seconds), self.runs, dtype=np.int32)
            ]
        else:
            seconds = np.full(self.runs, takes.seconds[0])
        if takes.surprises:
            self._surprise(takes, seconds, stream)
        if takes.spread or takes.shared:
            factor = stream.standard_normal(self.runs, dtype=np.float32) * np.float32(takes.spread)
            seconds = seconds * np.exp(factor + takes.shared * self._common)
        return seconds + takes.fixed

    def _surprise(self, takes: Takes, seconds: Floats, stream: np.random.Generator) -> None:
        """Put what is new in the place of what was measured, as :class:`Takes` says."""
        ordered = sorted(takes.seconds)
        new = np.flatnonzero(stream.random(self.runs) < 3 / (len(ordered) + 2))
        least = np.full(len(new), ordered[0])
        if len(ordered) > 1:
            least -= stream.random(len(new)) * (ordered[1] - ordered[0])
        which = stream.integers(0, len(takes.surprises), len(new), dtype=np.int32)
        more = np.asarray(takes.surprises)[which] * self._luck[new]
        seconds[new] = np.maximum(ordered[0] / 2, least + more)

    def _stream(self, place: int, what: int) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([self._seed, self._part, place, what]))


def side_by_side(seconds: Floats, slots: int) -> Floats:
    """When all nodes are done, each in its turn on the slot that is free first."""
    if len(seconds) > slots:
        free = seconds[:slots].T.copy()
        runs = np.arange(len(free))
        for one in seconds[slots:]:
            free[runs, free.argmin(axis=1)] += one
        seconds = free.T
    done: Floats = seconds.max(axis=0)
    return done
