"""A time axis for a drawing: seconds to points, with long stretches of waiting cut short.

A move lowers its TTLs two days before it works for two hours, and its shortest steps take
milliseconds. Drawn to scale, all of it would be a sliver. So the axis is to scale with two marked
exceptions: stretches of waiting are drawn at a small fixed width (``cuts``), and a stretch in
which something ran is never drawn narrower than can be seen (``widened_below``).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from itertools import accumulate, pairwise

from runbook.views.times import at

Span = tuple[float, float]
"""From, to; in Unix seconds."""

_IDLE_SHARE = 0.1
_FAR_LONGER = 3.0
_NEVER_CUT = 60.0
_CROWD = 4
_CUT_WIDTH, _CUT_SHARE = 34.0, 0.35
_LEAST_WIDTH, _LEAST_SHARE = 12.0, 0.5
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
    """Maps moments from the first to the last of ``moments`` onto ``left`` … ``left + width``.

    ``ran`` are the spans in which something ran, ``planned`` those in which something should have
    run; their ends belong to the moments.
    """

    def __init__(
        self, moments: Iterable[float], left: float, width: float, *,
        ran: Iterable[Span] = (), planned: Iterable[Span] = (),
    ) -> None:
        ran, planned = list(ran), list(planned)
        points = sorted({*moments, *(m for span in (*ran, *planned) for m in span)}) or [0.0]
        if len(points) == 1:
            points.append(points[0] + 1.0)
        gaps = [b - a for a, b in pairwise(points)]
        busy = _covered(points, ran)
        cut = _cut(gaps, [a or b for a, b in zip(busy, _covered(points, planned), strict=True)])
        drawn, self.scale, self.widened_below = _widths(gaps, busy, cut, width)
        self._points = points
        self._xs = [left, *(left + x for x in accumulate(drawn))]
        self._cut = cut
        self.cuts = [
            Cut(x, wide, gap)
            for x, wide, gap, gone in zip(self._xs, drawn, gaps, cut, strict=False) if gone
        ]

    scale: float
    """Points a second, outside the cuts."""
    widened_below: float
    """Stretches of work shorter than that many seconds are drawn wider than they are; 0: none."""

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
        """Moments of local time, about ``spacing`` points apart, none inside a cut.

        They are round ones, and where a cut ends, that moment. Of ticks too close to each other
        the one that begins a new day stays, then the one where a cut ends.
        """
        found: list[tuple[int, float]] = []
        day_before = None
        for start, end in self._kept():
            day = at(start, zone).date()
            found.append((0 if day != day_before else 1, start))
            found += [(2, moment) for moment in self._round(start, end, zone, spacing)]
            day_before = at(end, zone).date()
        placed: list[float] = []
        for _, moment in sorted(found):
            x = self.x(moment)
            if all(abs(x - self.x(other)) >= spacing * 0.8 for other in placed):
                placed.append(moment)
        ticks: list[Tick] = []
        last_day = ""
        for moment in sorted(placed):
            local = at(moment, zone)
            day_text = f"{local:%a %d %b}"
            text = f"{local:%H:%M}" if local.second == 0 else f"{local:%H:%M:%S}"
            ticks.append(Tick(self.x(moment), text, "" if day_text == last_day else day_text))
            last_day = day_text
        return ticks

    def _round(self, start: float, end: float, zone: tzinfo, spacing: float) -> Iterable[float]:
        step = next((s for s in _STEPS if s * self.scale >= spacing), _STEPS[-1])
        offset = at(start, zone).utcoffset()
        shift = offset.total_seconds() if offset else 0.0
        moment = -((-(start + shift)) // step) * step - shift
        while moment <= end:
            yield moment
            moment += step

    def _kept(self) -> list[Span]:
        spans: list[Span] = []
        for (start, end), gone in zip(pairwise(self._points), self._cut, strict=True):
            if gone:
                continue
            if spans and spans[-1][1] == start:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
        return spans


def _covered(points: Sequence[float], spans: Iterable[Span]) -> list[bool]:
    """Of each gap between two points: whether one of the spans covers it."""
    change = [0] * (len(points) + 1)
    for start, end in spans:
        change[bisect_left(points, start)] += 1
        change[bisect_left(points, end)] -= 1
    return [depth > 0 for depth in accumulate(change[: len(points) - 1])]


def _cut(gaps: Sequence[float], used: Sequence[bool]) -> list[bool]:
    """Which gaps are cut: idle ones soon, those inside a step only where it hides all others."""
    if not any(used):
        return [False] * len(gaps)
    cut = [False] * len(gaps)
    within = sorted((i for i, yes in enumerate(used) if yes), key=lambda i: -gaps[i])
    kept = sum(gaps[i] for i in within)
    for place, i in enumerate(within):
        others = len(within) - place - 1
        if others < _CROWD or gaps[i] <= max(_NEVER_CUT, _FAR_LONGER * (kept - gaps[i])):
            break
        cut[i] = True
        kept -= gaps[i]
    limit = max(_NEVER_CUT, _IDLE_SHARE * kept)
    return [gone or (not yes and gap > limit) for gone, yes, gap in
            zip(cut, used, gaps, strict=True)]


def _widths(
    gaps: Sequence[float], busy: Sequence[bool], cut: Sequence[bool], width: float
) -> tuple[list[float], float, float]:
    """The drawn width of each gap, points a second, and below how many seconds it is widened."""
    each_cut = min(_CUT_WIDTH, _CUT_SHARE * width / max(1, sum(cut)))
    room = width - each_cut * sum(cut)
    shown = [i for i, gone in enumerate(cut) if not gone]
    least = min(_LEAST_WIDTH, _LEAST_SHARE * room / max(1, sum(busy[i] for i in shown)))
    pinned: set[int] = set()
    while True:
        left = room - least * len(pinned)
        scale = left / sum(gaps[i] for i in shown if i not in pinned)
        narrow = {i for i in shown if busy[i] and gaps[i] * scale < least} - pinned
        if not narrow:
            break
        pinned |= narrow
    drawn = [
        each_cut if cut[i] else least if i in pinned else gap * scale
        for i, gap in enumerate(gaps)
    ]
    return drawn, scale, least / scale if pinned else 0.0
