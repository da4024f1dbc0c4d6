"""What it buys to make a step shorter: when each run would end, took the step half as long.

Exact where nodes do not wait for slots, and in one sweep for all steps. Steps stand in an order in
which each comes after those it depends on. The end of a run is the longest of all chains; those
that do not lead through the step at place ``s`` do one of three things: they jump over ``s`` by a
dependency from an earlier place to a later one, they begin behind it at an anchor, or they are over
before it. So the longest of them is a maximum over what spans ``s``. Needs numpy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from runbook.engine.simulate.draw import Draws, Floats, Nodes
from runbook.engine.simulate.schedule import Schedule
from runbook.engine.simulate.slots import in_slots
from runbook.engine.simulate.work import Layout

_Span = tuple[int, int, Floats]
"""From and to a place, without both; how long a chain is that spans all between them."""


def ends_if_halved(layout: Layout, found: Schedule) -> Floats:
    """Steps × runs: the end of the run, were this one step done in half its time, and its wait for
    what another step did half as long. ``found`` is a schedule without slots."""
    assert found.own is not None
    own, count = found.own, len(layout.steps)
    rest = _rest(layout, own)
    longest = _over_each(count, own.shape[1], _spans(layout, found, rest))
    for place, work in enumerate(layout.steps):
        begin = found.starts[place]
        if np.isfinite(work.until):
            begin = np.maximum(begin, work.until)
        if work.lag is not None:
            begin = np.maximum(begin, found.ends[work.lag.of] + work.lag.seconds / 2)
        through = begin + own[place] / 2 + rest[place]
        np.maximum(longest[place], through, out=longest[place])
    return longest


def _rest(layout: Layout, own: Floats) -> Floats:
    """Of each step the longest chain from its end to the end of the run."""
    rest = np.zeros(own.shape)
    for place in range(len(layout.steps) - 1, -1, -1):
        work, whole = layout.steps[place], own[place] + rest[place]
        for earlier in work.after:
            np.maximum(rest[earlier], whole, out=rest[earlier])
        if work.lag is not None:
            of = work.lag.of
            np.maximum(rest[of], whole + work.lag.seconds, out=rest[of])
    return rest


def _spans(layout: Layout, found: Schedule, rest: Floats) -> Iterator[_Span]:
    assert found.own is not None
    count = len(layout.steps)
    last = set(range(count)) - {one for work in layout.steps for one in work.after}
    for place, work in enumerate(layout.steps):
        whole = found.own[place] + rest[place]
        for earlier in work.after:
            yield earlier, place, found.ends[earlier] + whole
        if work.lag is not None:
            yield work.lag.of, place, found.ends[work.lag.of] + work.lag.seconds + whole
        anchor = max(work.not_before, work.until, 0.0 if not work.after else -np.inf)
        if np.isfinite(anchor):
            yield -1, place, anchor + whole
        if place in last:
            yield place, count, found.ends[place]


def _over_each(count: int, runs: int, spans: Iterator[_Span]) -> Floats:
    """Of each place the longest chain that spans it.

    A stretch is covered by two blocks of 2^k places, which may overlap; then every block hands what
    it has to its two halves."""
    levels = max(1, count.bit_length())
    blocks = np.full((levels, count, runs), -np.inf)
    for low, high, length in spans:
        size = high - low - 1
        if size > 0:
            level = size.bit_length() - 1
            for start in {low + 1, high - (1 << level)}:
                np.maximum(blocks[level, start], length, out=blocks[level, start])
    for level in range(levels - 1, 0, -1):
        half, many = 1 << (level - 1), count - (1 << level) + 1
        if many > 0:
            upper = blocks[level, :many]
            for start in (0, half):
                lower = blocks[level - 1, start : start + many]
                np.maximum(lower, upper, out=lower)
    whole: Floats = blocks[0]
    return whole


def ends_if_halved_in_slots(layout: Layout, draws: Draws, places: list[int]) -> Iterator[Floats]:
    """The same where nodes wait for slots: the ends as they are, then for each place. All has to be
    served anew each time."""
    nodes = [Nodes(draws.nodes(place).seconds, None) for place in range(len(layout.steps))]
    yield in_slots(layout, nodes).ends.max(axis=1)
    for place in places:
        trial, work, half = list(nodes), layout.steps[place], layout
        trial[place] = Nodes(nodes[place].seconds / 2, None)
        if work.lag is not None:
            shorter = replace(work, lag=replace(work.lag, seconds=work.lag.seconds / 2))
            half = replace(layout, steps=(
                *layout.steps[:place], shorter, *layout.steps[place + 1 :]
            ))
        yield in_slots(half, trial).ends.max(axis=1)
