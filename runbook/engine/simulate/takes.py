"""How long one thing takes, as something to draw from. Plain values, no numpy."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

Basis = Literal["measured", "rehearsed", "estimate", "people", "known", "as the doing"]

@dataclass(frozen=True, slots=True)
class Difference:
    """By how many ``seconds`` one more measurement of a thing differed from the least of the
    others, which are about ``length`` seconds long (:data:`SHORT` at least)."""

    length: float
    seconds: float


Differences = tuple[Difference, ...]
"""Ordered by length."""

_Z95 = 1.645
"""Of a normal distribution 95 % lie below so many standard deviations."""

ESTIMATE_FACTOR = 2.0
"""An estimate is the middle; nine times in ten it takes between half of it and the double."""
PEOPLE_FACTOR = 3.0
"""The same for answers of people: nine in ten between a third and three times the estimate."""
SHARED = 0.35
"""Share (of the variance) of an estimate's error that all estimates of a night have in common:
who is too hopeful once is so everywhere."""
FEW = 0.4
"""Standard deviation of the logarithm by which a measurement is spread that nothing else is known
beside; n of them by ``FEW / sqrt(n)``."""
_ALIKE, _ALIKE_SECONDS = 0.01, 0.01
"""The same where surprises are known: what is measured twice is never quite the same, but by a
hundredth, and by a hundredth of a second."""
_ENOUGH_SURPRISES, _MOST_SURPRISES = 64, 256
SHORT = 0.25
"""Seconds below which all things are of one length: what keeps them waiting is the machine."""
PACE = 0.35
"""Standard deviation of the logarithm of a night's pace, as long as no nights were measured: all
that is work goes faster or slower together, by how busy the machines and the network are. (Between
campaigns of the example on a shared machine it was 0.25 to 0.4.)"""
_PACE_COUNTS_AS = 3
"""That guess counts as much as so many nights."""
_LATEST = 8
"""Measurements of a thing that are compared with each other."""


@dataclass(frozen=True, slots=True)
class Takes:
    """Seconds: ``fixed`` + one of ``seconds``, each as likely, times a random factor around 1.

    Where there are ``surprises``, something new comes with a chance of three in n + 2, where n is
    the number of ``seconds``: so what was measured three times can still surprise, and what was
    measured thirty times hardly any more. Then it is the least of ``seconds``, or even less (by up
    to what the next one is above it: the least that there is may not have been seen), and one of
    ``surprises``; half of the least at least.

    ``spread`` is the standard deviation of the factor's logarithm, ``shared`` that part of it
    which is the same for everything of one simulated run that has such a part.
    """

    basis: Basis
    seconds: tuple[float, ...] = (0.0,)
    spread: float = 0.0
    shared: float = 0.0
    fixed: float = 0.0
    surprises: tuple[float, ...] = ()
    samples: int = 0
    """How many of ``seconds`` were measured."""

    @property
    def middle(self) -> float:
        """Seconds that are as often exceeded as not, about."""
        several = sorted(self.seconds)
        return self.fixed + several[len(several) // 2]

    def at_least(self, middle: float) -> Takes:
        """The same shape, made longer so that its middle is no less than that."""
        own = self.middle - self.fixed
        if own >= middle or own <= 0:
            return self if own >= middle else replace(self, seconds=(middle,))
        return replace(self, seconds=tuple(s * middle / own for s in self.seconds))


def known(seconds: float) -> Takes:
    """A wait whose length is decided: it does not vary."""
    return Takes("known", fixed=seconds)


def estimated(seconds: float) -> Takes:
    """Nothing is known but an estimate."""
    whole = math.log(ESTIMATE_FACTOR) / _Z95
    return Takes(
        "estimate", (seconds,), spread=whole * math.sqrt(1 - SHARED),
        shared=whole * math.sqrt(SHARED),
    )


def answered(seconds: float) -> Takes:
    """People have to answer, and how long they take was never measured."""
    return Takes("people", (seconds,), spread=math.log(PEOPLE_FACTOR) / _Z95)


def measured(
    seconds: tuple[float, ...], *, fixed: float = 0.0, basis: Basis = "measured",
    differences: Differences = (), pace: float = 0.0,
) -> Takes:
    """It was measured so often, the part that is ``fixed`` apart. ``differences``: how unlike
    measurements of one and the same thing have been, here and elsewhere. ``pace``: by how much
    nights differ; what always took the same keeps to its own time."""
    own = tuple(max(0.0, s - fixed) for s in seconds)
    middle = sorted(own)[len(own) // 2]
    surprises = _surprises(middle, differences)
    return Takes(
        basis, own, fixed=fixed,
        spread=_alike(middle) if surprises else FEW / math.sqrt(len(own)),
        shared=min(pace, _range(own)) if len(own) > 1 else pace, surprises=surprises,
        samples=len(own),
    )


def _alike(seconds: float) -> float:
    return min(FEW, _ALIKE + _ALIKE_SECONDS / max(seconds, _ALIKE_SECONDS))


def _range(seconds: Sequence[float]) -> float:
    """How far apart the shortest and the longest are, as a logarithm."""
    shortest, longest = min(seconds), max(seconds)
    return math.log(longest / shortest) if shortest > 0 else math.inf


def pace_of(things: Iterable[Mapping[str, float]]) -> float:
    """By how much the pace of nights differs, from what each thing took in each of them (by night).
    A night's pace is the middle of all its ratios to the middle of the thing."""
    ratios: dict[str, list[float]] = {}
    for nights in things:
        middle = median(nights.values()) if nights else 0.0
        for night, seconds in nights.items():
            if middle > 0 and seconds > 0:
                ratios.setdefault(night, []).append(math.log(seconds / middle))
    paces = [median(one) for one in ratios.values()]
    scatter = sum(pace**2 for pace in paces)
    free = max(0, len(paces) - 1)
    return math.sqrt((_PACE_COUNTS_AS * PACE**2 + scatter) / (_PACE_COUNTS_AS + free))


def _surprises(middle: float, known: Differences) -> tuple[float, ...]:
    """What was seen of things that are about as long. Where they are longer it counts in
    proportion: an hour that took ten minutes more says nothing of ten minutes for a second."""
    length = max(SHORT, middle)
    first = bisect_left(known, length, key=_length)
    behind = bisect_right(known, length, key=_length)
    while behind - first < min(_ENOUGH_SURPRISES, len(known)):
        shorter = length / known[first - 1].length if first else math.inf
        longer = known[behind].length / length if behind < len(known) else math.inf
        if shorter <= longer:
            first = bisect_left(known, known[first - 1].length, key=_length)
        else:
            behind = bisect_right(known, known[behind].length, key=_length)
    near = known[first:behind]
    return tuple(
        one.seconds * min(1.0, length / one.length)
        for one in near[:: max(1, math.ceil(len(near) / _MOST_SURPRISES))]
    )


def _length(one: Difference) -> float:
    return one.length


def differences_in(groups: Iterable[Sequence[float]]) -> Differences:
    """Of measurements of the same thing, each against the least of the others."""
    found = []
    for group in groups:
        latest = group[-_LATEST:]
        for place, one in enumerate(latest):
            others = [*latest[:place], *latest[place + 1 :]]
            if others:
                found.append(Difference(max(SHORT, median(others)), one - min(others)))
    return tuple(sorted(found, key=_length))
