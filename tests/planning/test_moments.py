"""Moments: relative to the window, or dates, with daylight saving."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from runbook.model.runbook import Window
from runbook.planning.moments import parse_moment
from tests.planning.builders import WINDOW


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("window.start", 0), ("window.end", 7200), ("window.start - 48h", -172800),
        ("window.end + 1h30m", 12600), ("2009-09-12 01:00", 0), ("2009-09-12T01:00-04:00", 0),
        ("2009-09-12T05:00Z", 0),
    ],
)
def test_moments(text: str, seconds: int) -> None:
    assert parse_moment(text, WINDOW) == WINDOW.start + seconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tomorrow", "is not a moment"), ("window.middle", "is not a moment"),
        ("window.start - soon", "not a duration"), ("2026-03-08T02:30", "does not exist"),
        ("2026-11-01T01:30", "happens twice"), ("0001-01-01T00:00", "years 1970 to 9998"),
        ("9999-12-31T23:59", "years 1970 to 9998"), ("1970-01-01T00:00+14:00", "years 1970"),
        ("window.start - 40y", "not a duration"), ("window.start - 5000w", "years 1970 to 9998"),
        ("window.start + 999999w", "100 years at the most"),
    ],
)
def test_faults(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_moment(text, WINDOW)


def test_without_a_window_only_dates_with_an_offset_will_do() -> None:
    none: Window | None = None
    moment = parse_moment("2026-01-01T00:00+01:00", none)
    assert datetime.fromtimestamp(moment, UTC) == datetime(2025, 12, 31, 23, tzinfo=UTC)
    for text in ("window.start", "2026-01-01T00:00"):
        with pytest.raises(ValueError, match="no `window:`"):
            parse_moment(text, none)
