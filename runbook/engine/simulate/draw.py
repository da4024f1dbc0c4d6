"""Draws how long everything takes, for many runs at once. Needs numpy.

Every step has its own stream of random numbers, by seed, step and part: a step that is made
shorter, or another number of runs at a time, leaves the draws of all others as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from runbook.engine.simulate.takes import Takes
from runbook.engine.simulate.work import Layout, Work

Floats: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Places: TypeAlias = npt.NDArray[np.integer[Any]]

_DO, _UNDO, _COMMON = 0, 1, 2


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

    def nodes(self, place: int) -> Nodes:
        """How long the nodes of a step take, tries and the waits between them included."""
        work = self.layout.steps[place]
        stream = self._stream(place, _DO)
        if work.alike and not work.failure:
            one = self._draw(work.takes[0], stream) + self.layout.handover
            return Nodes(np.broadcast_to(one, (len(work.takes), self.runs)), None)
        seconds = np.empty((len(work.takes), self.runs))
        failed = np.zeros(seconds.shape, dtype=bool) if work.failure else None
        whole = self._draw(work.takes[0], stream) if work.alike else None
        for row, takes in enumerate(work.takes):
            seconds[row] = self._draw(takes, stream) if whole is None else whole
            if failed is not None:
                failed[row] = self._tries(work, takes, seconds[row], stream)
        return Nodes(seconds + self.layout.handover, failed)

    def undo(self, place: int) -> Floats:
        """How long the undo of a step takes."""
        work = self.layout.steps[place]
        each = self._draw(work.undo, self._stream(place, _UNDO)) + self.layout.handover
        return each * work.undo_rounds

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
            strange = np.flatnonzero(stream.random(self.runs) < 2 / (len(takes.seconds) + 1))
            which = stream.integers(0, len(takes.surprises), len(strange), dtype=np.int32)
            was = seconds[strange]
            seconds[strange] = np.maximum(was / 2, was + np.asarray(takes.surprises)[which])
        if takes.spread or takes.shared:
            factor = stream.standard_normal(self.runs, dtype=np.float32) * np.float32(takes.spread)
            seconds = seconds * np.exp(factor + takes.shared * self._common)
        return seconds + takes.fixed

    def _stream(self, place: int, what: int) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([self._seed, self._part, place, what]))
