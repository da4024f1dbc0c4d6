"""Moments as ``at:`` and ``not_before:`` give them: ``window.start - 48h``, or a date."""

from __future__ import annotations

import re
from datetime import datetime
from zoneinfo import ZoneInfo

from runbook.model.duration import parse_duration
from runbook.model.moment import FIRST_YEAR, LAST_YEAR, check_moment
from runbook.model.runbook import Window

_RELATIVE = re.compile(r"window\.(start|end)\s*(?:([+-])\s*(\S.*))?")


def parse_moment(text: str, window: Window | None, *, moved_by: float = 0.0) -> float:
    """Unix seconds. A date without an offset is in the window's time zone. ``moved_by``: seconds
    that a date is later than written; the window is as it is.

    Raises ValueError with a readable message.
    """
    text = text.strip()
    found = _RELATIVE.fullmatch(text)
    if found:
        if window is None:
            raise ValueError(f"{text!r} needs a window, and the runbook has no `window:`")
        edge = window.start if found[1] == "start" else window.end
        if found[2] is None:
            return edge
        shift = parse_duration(found[3])
        return check_moment(edge + shift if found[2] == "+" else edge - shift)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as fault:
        raise ValueError(
            f"{text!r} is not a moment; write `window.start - 48h`, `window.end - 10m` "
            "or a date like 2009-09-12T01:00-04:00"
        ) from fault
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"{text!r}: moments are of the years {FIRST_YEAR} to {LAST_YEAR}")
    if moment.tzinfo is None:
        if window is None:
            raise ValueError(f"{text!r} has no UTC offset, and the runbook has no `window:`")
        zone = ZoneInfo(window.timezone)
        local = moment.replace(tzinfo=zone)
        back = datetime.fromtimestamp(local.timestamp(), zone).replace(tzinfo=None)
        if back != moment:
            raise ValueError(f"{text!r} does not exist in {window.timezone}: clocks go forward")
        if local.utcoffset() != local.replace(fold=1).utcoffset():
            raise ValueError(
                f"{text!r} happens twice in {window.timezone}: write it with its UTC offset"
            )
        moment = local
    return check_moment(moment.timestamp() + moved_by)
