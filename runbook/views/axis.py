"""A time axis for a drawing: seconds to points, with long idle stretches cut short.

A move lowers its TTLs two days before it works for two hours. Drawn to scale the two hours would
be a sliver, so stretches in which nothing begins or ends, and that are far longer than all the
busy ones together, are drawn at a fixed small width and marked as cut.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import tzinfo
from itertools import pairwise

from runbook.views.times import at

_FAR_LONGER = 3.0
_CUT_SHARE = 0.2
_STEPS = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
    172800, 604800,
)


@dataclass(frozen=True, slots=True)
class Tick:
    x: float
    text: str
    day: str
    """The date, where it is another than that of the tick before; else empty."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A stretch that is drawn shorter than it is."""

    x: float
    width: float
    seconds: float


class Axis:
    """Maps moments from the first to the last of ``moments`` onto ``left`` … ``left + width``."""

    def __init__(self, moments: Iterable[float], left: float, width: float) -> None:
        points = sorted(set(moments)) or [0.0]
        if len(points) == 1:
            points.append(points[0] + 1.0)
        gaps = [b - a for a, b in pairwise(points)]
        longest = _busy_limit(gaps)
        busy = sum(gap for gap in gaps if gap <= longest)
        shown = [gap if gap <= longest else busy * _CUT_SHARE for gap in gaps]
        self.scale = width / sum(shown)
        """Points a second, outside the cuts."""
        self._points = points
        self._xs = [left]
        self.cuts: list[Cut] = []
        for gap, drawn in zip(gaps, shown, strict=True):
            if drawn != gap:
                self.cuts.append(Cut(self._xs[-1], drawn * self.scale, gap))
            self._xs.append(self._xs[-1] + drawn * self.scale)

    def x(self, moment: float) -> float:
        """Position of a moment; clipped to the ends."""
        points, xs = self._points, self._xs
        if moment <= points[0]:
            return xs[0]
        if moment >= points[-1]:
            return xs[-1]
        i = bisect_right(points, moment) - 1
        share = (moment - points[i]) / (points[i + 1] - points[i])
        return xs[i] + share * (xs[i + 1] - xs[i])

    def ticks(self, zone: tzinfo, spacing: float = 84.0) -> list[Tick]:
        """Round moments of local time, at least ``spacing`` points apart, none inside a cut."""
        step = next((s for s in _STEPS if s * self.scale >= spacing), _STEPS[-1])
        ticks: list[Tick] = []
        last_day = ""
        last_x = float("-inf")
        for start, end in self._busy():
            offset = at(start, zone).utcoffset()
            shift = offset.total_seconds() if offset else 0.0
            moment = -((-(start + shift)) // step) * step - shift
            while moment <= end:
                x = self.x(moment)
                if x - last_x >= spacing * 0.8:
                    local = at(moment, zone)
                    day = f"{local:%a %d %b}"
                    text = f"{local:%H:%M:%S}" if step < 60 else f"{local:%H:%M}"
                    ticks.append(Tick(x, text, "" if day == last_day else day))
                    last_day, last_x = day, x
                moment += step
        return ticks

    def _busy(self) -> list[tuple[float, float]]:
        cut = {round(c.x, 6) for c in self.cuts}
        spans: list[tuple[float, float]] = []
        for i, x in enumerate(self._xs[:-1]):
            if round(x, 6) in cut:
                continue
            start, end = self._points[i], self._points[i + 1]
            if spans and spans[-1][1] == start:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
        return spans


def _busy_limit(gaps: list[float]) -> float:
    """The longest gap that is still drawn to scale."""
    ordered = sorted(gaps)
    limit = ordered[-1]
    before = 0.0
    for i, gap in enumerate(ordered):
        # Half of all gaps at least have to be short, or "far longer" would mean nothing.
        if i and i * 2 >= len(ordered) and gap > _FAR_LONGER * before:
            limit = ordered[i - 1]
        before += gap
    return limit
