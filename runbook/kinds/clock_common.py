"""Clocks of two hosts, held against each other."""

from __future__ import annotations

import re

from runbook.errors import Errored
from runbook.model.ports import HostReads


def apart(one: HostReads, other: HostReads) -> tuple[float, float]:
    """(seconds by which the clock of ``one`` is ahead of the other's, below zero: behind; how long
    it took to look). It lies between two looks at the other: what the way there and back takes
    counts for it. Raises Errored."""
    first, there, last = _date(other), _date(one), _date(other)
    ahead = there - last if there > last else min(0.0, there - first)
    return ahead, last - first


def _date(here: HostReads) -> float:
    told = here.query("date +%s.%N").stdout.strip()
    found = re.fullmatch(r"(\d+)(?:\.(\d+))?.*", told)
    if found is None:
        raise Errored(f"date says {told!r}")
    return float(f"{found[1]}.{found[2] or '0'}")
