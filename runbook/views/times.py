"""Moments as people read them: always with a zone, the window's own first."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from runbook.model.plan import Plan


def zone_of(name: str) -> tzinfo:
    """The zone of that IANA name; UTC where this machine does not know it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def plan_zone(plan: Plan) -> tzinfo:
    """The zone of the announced window, else UTC."""
    return zone_of(plan.window.timezone) if plan.window else UTC


def at(ts: float, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(ts, zone)


def time_of_day(ts: float, zone: tzinfo, *, zone_name: bool = True) -> str:
    """``01:23:45 EDT``."""
    moment = at(ts, zone)
    return f"{moment:%H:%M:%S %Z}".rstrip() if zone_name else f"{moment:%H:%M:%S}"


def day_and_time(ts: float, zone: tzinfo) -> str:
    """``Sat 12 Sep 2009 01:23:45 EDT``."""
    return f"{at(ts, zone):%a %d %b %Y %H:%M:%S %Z}".rstrip()


def iso(ts: float, zone: tzinfo = UTC) -> str:
    """``2009-09-12T01:23:45-04:00``."""
    return at(ts, zone).isoformat(timespec="seconds")
