"""Which moments a runbook can speak of."""

from __future__ import annotations

FIRST_YEAR, LAST_YEAR = 1970, 9998
"""With room to every side for time zones and for what is reckoned from a moment."""

_EARLIEST, _LATEST = 0.0, 253_370_764_800.0


def check_moment(moment: float) -> float:
    """The Unix seconds given. Raises ValueError for what is no moment of the years in question."""
    if not _EARLIEST <= moment < _LATEST:
        raise ValueError(f"moments are of the years {FIRST_YEAR} to {LAST_YEAR}")
    return moment
