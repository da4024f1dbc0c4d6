"""How long the way back is, from every moment of many runs. Needs numpy.

The undo of a step begins when those of all after it have ended, so the way back is the longest
chain of undos of what has begun. A wait on the way back has its length from what has begun behind
it: there are caches to wait for only once the records were changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runbook.engine.simulate.draw import Draws, Floats, Places
from runbook.engine.simulate.work import Layout, Work


@dataclass(frozen=True, slots=True)
class Wait:
    """One wait on the way back. ``to_it``: of each step after it the longest chain of undos down to
    it, else ``-inf``. ``seconds``: of each step how long is waited once that has begun. ``rest``:
    the longest chain from the wait down to the first step."""

    to_it: Floats
    seconds: Floats
    rest: Floats


@dataclass(frozen=True, slots=True)
class Back:
    """In the order in which the steps of each run begin: ``begun``, when; ``longest``, how long
    going back takes from then on. Both steps × runs, and neither ever falls."""

    begun: Floats
    longest: Floats

    def at(self, moments: Floats) -> Floats:
        """Seconds to go back from each moment (rows × runs): of all that has begun before it."""
        count, runs = self.begun.shape
        # One search for all runs: each gets a stretch of numbers of its own.
        apart = np.arange(runs) * (max(self.begun.max(), moments.max()) + 1.0)
        before = np.searchsorted((self.begun + apart).T.ravel(), (moments + apart).T.ravel())
        before = before.reshape(runs, -1) - np.arange(runs)[:, np.newaxis] * count
        padded = np.concatenate([np.zeros((1, runs)), self.longest])
        found: Floats = np.take_along_axis(padded, before.T, axis=0)
        return found

    def last_decision(self, window: float) -> Floats:
        """The latest moment of each run from which going back still ends inside the window. The
        way back only grows, so there is one such moment."""
        runs = np.arange(self.begun.shape[1])
        fits = (self.begun + self.longest <= window).sum(axis=0)
        padded = np.concatenate([self.begun, np.full((1, len(runs)), np.inf)])
        last = np.concatenate([np.zeros((1, len(runs))), self.longest])[fits, runs]
        found: Floats = np.minimum(padded[fits, runs], window - last)
        return found


def way_back(draws: Draws, starts: Floats) -> Back:
    """The way back in runs whose steps start so."""
    layout = draws.layout
    undos = np.array([draws.undo(place) for place in range(len(layout.steps))])
    chain = np.empty(undos.shape)
    for place, work in enumerate(layout.steps):
        np.add(undos[place], _longest(chain, work), out=chain[place])
    order = np.argsort(starts, axis=0, kind="stable")
    longest = _so_far(chain, order)
    for place, work in enumerate(layout.steps):
        if work.back_waits:
            wait = _wait(layout, place, undos, chain)
            waited = _so_far(wait.to_it, order) + _so_far(
                np.broadcast_to(wait.seconds[:, np.newaxis], order.shape), order
            )
            np.maximum(longest, waited + wait.rest, out=longest)
    return Back(np.take_along_axis(starts, order, axis=0), longest)


def _so_far(values: Floats, order: Places) -> Floats:
    found: Floats = np.maximum.accumulate(np.take_along_axis(values, order, axis=0), axis=0)
    return found


def _wait(layout: Layout, at: int, undos: Floats, chain: Floats) -> Wait:
    to_it = np.full(undos.shape, -np.inf)
    to_it[at] = 0.0
    for place in range(at + 1, len(layout.steps)):
        after = layout.steps[place].after
        if after:
            np.add(undos[place], to_it[list(after)].max(axis=0), out=to_it[place])
    to_it[at] = -np.inf
    seconds = np.full(len(layout.steps), -np.inf)
    for lag in layout.steps[at].back_waits:
        seconds[lag.of] = lag.seconds
    return Wait(to_it, seconds, _longest(chain, layout.steps[at]))


def _longest(chain: Floats, work: Work) -> Floats:
    if not work.after:
        return np.zeros(chain.shape[1])
    longest: Floats = chain[list(work.after)].max(axis=0)
    return longest
