"""``window:``: a local time in a time zone, honest about clocks that jump.

Source: PEP 495 (fold) and PEP 615 (zoneinfo).
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

from runbook.loading.fields import Context, Fields
from runbook.model.moment import FIRST_YEAR, LAST_YEAR, check_moment
from runbook.model.runbook import ValuePath, Window
from runbook.templating.values import did_you_mean

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[ Tt]\d\d:\d\d(:\d\d(\.\d+)?)?\s*([Zz]|[-+]\d\d:?\d\d)?")


class BadMoment(ValueError):
    """A local time that cannot be told; ``hint`` says how to write it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def read_window(ctx: Context, path: ValuePath, raw: object) -> Window | None:
    fields = Fields(ctx, path, raw, ("start", "duration", "timezone", "announce_in"), "`window`")
    fields.require("start", "like 2009-09-12 01:00")
    fields.require("duration", "like 2h")
    text, duration = fields.text("start"), fields.duration("duration")
    name = fields.text("timezone")
    zone = None if name is None else _zone(ctx, fields.where("timezone"), name)
    places = fields.texts("announce_in")
    for index, place in enumerate(places):
        in_list = isinstance(fields.raw["announce_in"], list)
        _zone(ctx, (*fields.where("announce_in"), *((index,) if in_list else ())), place)
    if duration == 0:
        ctx.fault(fields.where("duration"), "a window of no length")
    if text is None:
        return None
    try:
        start = moment(text, zone if name is None or zone else ZoneInfo("UTC"))
    except BadMoment as fault:
        ctx.fault(fields.where("start"), str(fault), fault.hint)
        return None
    if duration is None or (name is not None and zone is None):
        return None
    try:
        check_moment(start + duration)
    except ValueError as fault:
        ctx.fault(fields.where("duration"), f"the window ends too late: {fault}")
        return None
    return Window(start=start, duration=duration, timezone=name or "UTC", announce_in=places)


def moment(text: str, zone: ZoneInfo | None) -> float:
    """Unix seconds of a date and time, which is local to ``zone`` unless it has an offset.

    Raises BadMoment: not a moment, no zone given, or a local time that does not exist or happens
    twice because the clocks change.
    """
    if not _MOMENT.fullmatch(text.strip()):
        raise BadMoment(f"{text!r} is not a date and time", "write it like 2009-09-12 01:00")
    try:
        naive = datetime.fromisoformat(text.strip().upper().replace(" ", "T", 1).replace(" ", ""))
        if not FIRST_YEAR <= naive.year <= LAST_YEAR:
            raise BadMoment(f"{text!r}: moments are of the years {FIRST_YEAR} to {LAST_YEAR}")
        if naive.tzinfo is not None:
            return check_moment(naive.timestamp())
        if zone is None:
            raise BadMoment(
                f"{text!r} is a local time, and `timezone` is missing",
                "add `timezone: Europe/London`, or an offset: 2009-09-12T01:00+01:00",
            )
        return check_moment(_local(naive, zone))
    except (ValueError, OverflowError) as fault:
        if isinstance(fault, BadMoment):
            raise
        raise BadMoment(f"{text!r} is not a date and time: {fault}") from fault


def _local(naive: datetime, zone: ZoneInfo) -> float:
    early, late = naive.replace(tzinfo=zone), naive.replace(tzinfo=zone, fold=1)
    if early.utcoffset() == late.utcoffset():
        return early.timestamp()
    back = early.astimezone(UTC).astimezone(zone)
    if back.replace(tzinfo=None) != naive:
        after = back.replace(tzinfo=None)
        raise BadMoment(
            f"{naive:%Y-%m-%d %H:%M} does not exist in {zone.key}: the clocks go forward then",
            f"the clocks show {after:%Y-%m-%d %H:%M} at that moment",
        )
    first, second = (one.isoformat(timespec="minutes") for one in (early, late))
    raise BadMoment(
        f"{naive:%Y-%m-%d %H:%M} happens twice in {zone.key}: the clocks go back then",
        f"write {first} for the first, or {second} for the second",
    )


@functools.cache
def _zones() -> frozenset[str]:
    """Reads a folder tree, hence once."""
    return frozenset(available_timezones())


def _zone(ctx: Context, path: ValuePath, name: str) -> ZoneInfo | None:
    if name in _zones():
        return ZoneInfo(name)
    close = did_you_mean(name, _zones())
    ctx.fault(
        path, f"there is no time zone {name!r}",
        close if close.startswith("did") else "names are those of the tz database, like UTC",
    )
    return None
