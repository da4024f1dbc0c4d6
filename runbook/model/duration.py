"""Durations as people write them: ``90s``, ``10m``, ``1h30m``, ``2d``, ``500ms``."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")

LONGEST = 100 * 365.25 * 86400.0
"""Seconds: a hundred years. What is longer cannot be added to a moment, or was not meant."""


def parse_duration(text: object) -> float:
    """Seconds. A bare number counts as seconds.

    Raises ValueError with a readable message for anything else, and for what is longer than
    ``LONGEST``.
    """
    seconds = _seconds(text)
    if not seconds <= LONGEST:
        raise ValueError("a duration can be of 100 years at the most")
    return seconds


def _seconds(text: object) -> float:
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError("a duration is wanted, like 90s, 10m or 1h30m")
    if isinstance(text, int | float):
        if text < 0:
            raise ValueError("a duration cannot be negative")
        return float(min(text, 2 * LONGEST))
    compact = text.strip().replace(" ", "")
    if re.fullmatch(r"\d+(\.\d+)?", compact):
        return float(compact)
    parts = _PART.findall(compact)
    if not parts or "".join(n + u for n, u in parts) != compact:
        raise ValueError(f"{text!r} is not a duration; write it like 90s, 10m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """``1h 02m``, ``3m 20s``, ``4.2s``, ``35ms``: two units at the most."""
    sign = "-" if seconds < 0 else ""
    seconds = abs(seconds)
    if seconds < 1:
        return f"{sign}{round(seconds * 1000)}ms" if seconds else "0s"
    if seconds < 10:
        text = f"{seconds:.1f}".rstrip("0").rstrip(".")
        return f"{sign}{text}s"
    whole = round(seconds)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    if days:
        return f"{sign}{days}d {hours:02d}h" if hours else f"{sign}{days}d"
    if hours:
        return f"{sign}{hours}h {minutes:02d}m" if minutes else f"{sign}{hours}h"
    if minutes:
        return f"{sign}{minutes}m {secs:02d}s" if secs else f"{sign}{minutes}m"
    return f"{sign}{secs}s"
