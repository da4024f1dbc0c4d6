"""The schedule by estimate, the critical path, the way back, the window."""

from __future__ import annotations

import pytest

from runbook.model.runbook import Budget, Window
from runbook.planning.pauses import KnownPause
from runbook.planning.timeline import budget_estimates, build_timeline
from tests.planning.builders import WINDOW, Book

SHORT = Window(start=1_000_000.0, duration=100.0, timezone="UTC")


def _diamond(**fields: object) -> Book:
    return (
        Book(**fields)
        .step("a", estimate=10.0)
        .step("slow", after=("a",), estimate=30.0)
        .step("fast", after=("a",), estimate=5.0)
        .step("z", after=("slow", "fast"), estimate=10.0)
    )


def test_steps_run_side_by_side_and_the_longest_chain_decides() -> None:
    line = build_timeline(_diamond().plan())
    assert {name: (s.start, s.end) for name, s in line.slots.items()} == {
        "a": (0, 10), "slow": (10, 40), "fast": (10, 15), "z": (40, 50)}
    assert line.critical_path == ("a", "slow", "z")
    assert line.levels == (("a",), ("slow", "fast"), ("z",))
    assert (line.total, line.dated, line.fits_window, line.margin) == (50, False, None, None)


def test_back_out_is_the_longest_chain_of_undos_of_all_that_has_begun() -> None:
    line = build_timeline(_diamond().plan())
    # When `fast` ends, `slow` has begun and has to be taken back as well.
    assert [line.back_out_at(name) for name in ("a", "fast", "slow", "z")] == [10, 40, 40, 50]


def test_anchors_move_steps_and_the_origin() -> None:
    plan = (
        Book(window=WINDOW)
        .step("early", at="window.start - 48h", estimate=60.0)
        .step("gap", estimate=10.0)
        .step("in", not_before="window.start", estimate=60.0)
        .step("aside", after=("gap",), estimate=10.0)
        .plan()
    )
    line = build_timeline(plan)
    assert line.origin == WINDOW.start - 48 * 3600
    assert line.slots["in"].start == WINDOW.start
    assert line.early == ("aside",), "`gap` leads to a step that waits for the window"
    assert line.margin == WINDOW.duration - 60
    assert line.inside == 60


@pytest.mark.parametrize(("seconds", "fits", "both"), [(40.0, True, True), (60.0, True, False),
                                                       (101.0, False, False)])
def test_the_window_has_to_hold_the_move_and_the_way_back(
    seconds: float, fits: bool, both: bool
) -> None:
    line = build_timeline(Book(window=SHORT).step("a", estimate=seconds).plan())
    assert (line.fits_window, line.fits_with_back_out) == (fits, both)
    assert line.too_late_back == (() if both else ("a",))


def test_after_a_point_of_no_return_there_is_no_way_back() -> None:
    book = Book(window=SHORT).step("a").step("b", point_of_no_return=True).step("c")
    line = build_timeline(book.plan())
    assert line.no_way_back == ("b", "c")
    assert line.back_out_at("a") == 10 and line.back_out_at("c") is None


def test_skipped_steps_take_no_time() -> None:
    line = build_timeline(Book().step("a").step("b", when=False).step("c").plan())
    assert line.total == 20
    assert line.critical_path == ("a", "c")
    assert ("b",) not in line.levels


def test_budgets_are_estimated_over_steps_and_calls() -> None:
    book = Book(budgets=(
        Budget(name="one", from_step="c", from_edge="start", to_step="z", to_edge="end", limit=1),
        Budget(name="gone", from_step="s", from_edge="start", to_step="z", to_edge="end", limit=1),
    )).playbook("p", [("x", "run", {}), ("y", "run", {})])
    plan = book.step("a").step("s", when=False).step("c", playbook="p").step("z").plan()
    assert budget_estimates(plan, build_timeline(plan)) == {"one": 30, "gone": None}


def test_an_empty_plan_has_an_empty_timeline() -> None:
    line = build_timeline(Book().plan())
    assert (line.total, line.critical_path, line.levels, line.longest_back_out) == (0, (), (), 0)


def test_what_is_waited_for_caches_counts_from_the_step_that_changed_the_records() -> None:
    plan = Book(window=WINDOW).step("flip").step("work", estimate=100.0).step("drained").plan()
    line = build_timeline(plan, pauses={"drained": KnownPause(905.0, of="flip")})
    assert line.slots["drained"].takes == 905 - 100, "the work went by meanwhile"
    assert line.total == 10 + 905
    assert line.critical_path == ("flip", "drained")
    gone = build_timeline(plan, pauses={"drained": KnownPause(65.0, of="flip")})
    assert (gone.slots["drained"].takes, gone.total) == (0, 110)


def test_a_wait_that_nobody_can_tell_is_as_long_as_guessed() -> None:
    plan = Book(window=WINDOW).step("a").step("b", estimate=60.0).plan()
    line = build_timeline(plan, pauses={"b": None}, guessed_back=("a",))
    assert (line.total, line.guessed, line.guessed_back) == (70, ("b",), ("a",))
    assert build_timeline(plan, pauses={"b": KnownPause(until=WINDOW.start + 30)}).total == 30
