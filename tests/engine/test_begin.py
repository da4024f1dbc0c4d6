"""Whether a live run may start now: both ends of its window."""

from __future__ import annotations

from typing import Literal

import pytest

from runbook.engine.begin import check_window
from runbook.errors import Refused
from runbook.model.plan import Plan
from runbook.model.runbook import Policy
from runbook.planning.timeline import build_timeline
from runbook.views.asking import question
from tests.planning.builders import WINDOW, Book

HOUR = 3600.0
YEAR = 365 * 24 * HOUR


def book(outside: Literal["refuse", "warn"] = "refuse") -> Book:
    return Book(window=WINDOW, policy=Policy(outside_window=outside))


def undated(outside: Literal["refuse", "warn"]) -> Plan:
    """The last is dated: that makes nobody before it early."""
    return book(outside).step("flip").step("thanks", at="window.end").plan()


def dated() -> Plan:
    """Begun with the first date or before it, as its author means it."""
    return (
        book().step("records").step("ttl", at="window.start - 48h")
        .step("told").step("flip", not_before="window.start").step("verify").plan()
    )


@pytest.mark.parametrize("before", [8 * YEAR, HOUR, 1.0])
def test_steps_without_a_date_start_before_the_window_only_where_the_policy_warns(
    before: float,
) -> None:
    now = WINDOW.start - before
    with pytest.raises(Refused, match="flip would start before it") as refused:
        check_window(undated("refuse"), now=now)
    assert "not_before: window.start" in refused.value.hint
    (warning,) = check_window(undated("warn"), now=now)
    assert warning.startswith("the window opens in ")


def test_a_window_that_is_over_is_treated_alike() -> None:
    now = WINDOW.end + 1
    with pytest.raises(Refused, match="the window is over"):
        check_window(undated("refuse"), now=now)
    assert check_window(undated("warn"), now=now) == ["the window is over"]


@pytest.mark.parametrize("before", [8 * YEAR, 49 * HOUR, 3 * HOUR, -1.0])
def test_a_run_that_begins_early_by_its_dates_is_no_noise(before: float) -> None:
    assert check_window(dated(), now=WINDOW.start - before) == []


def test_in_its_window_nothing_is_said_and_without_one_neither() -> None:
    assert check_window(undated("refuse"), now=WINDOW.start) == []
    assert check_window(Book().step("flip").plan(), now=1.0) == []


def asked(plan: Plan, now: float) -> str:
    return question(plan, build_timeline(plan, begun=now), now=now)


def test_the_question_names_the_window() -> None:
    early = asked(dated(), WINDOW.start - 3 * 24 * HOUR)
    assert "The window opens in 3d (" in early
    assert "3 steps start before it, the first, records, now." in early
    assert "1 step starts before it: flip, now." in asked(undated("warn"), WINDOW.start - 60)
    late = asked(undated("warn"), WINDOW.start + 600)
    assert "The window is open, for another 1h 50m." in late
    assert "The window is over since " in asked(undated("warn"), WINDOW.end + 60)
    assert "window" not in asked(Book().step("flip").plan(), 1.0)


def test_the_question_says_after_which_step_going_back_would_not_fit() -> None:
    plan = book().step("flip", estimate=10.0).plan()
    assert "outside the window" not in asked(plan, WINDOW.start)
    assert "after flip it would end outside the window" in asked(plan, WINDOW.end - 15)
    assert "does NOT fit the window" in asked(plan, WINDOW.end - 5)
