from __future__ import annotations

from runbook.engine.backout import backout_time, clock
from runbook.engine.history import Expected, Reckoning
from runbook.model.runstate import RunState
from tests.views import story
from tests.views.story import START, shop_plan, step


def test_nothing_done_needs_no_way_back() -> None:
    plan = shop_plan()
    state = RunState.empty("r", plan)
    assert backout_time(state) == 0.0
    assert clock(state, START).remaining_window == 7200.0
    assert clock(state, START).margin == 7200.0


def test_back_out_time_is_the_longest_chain_of_undos() -> None:
    # flip 20 → promote 45 → freeze/db 5 → freeze/app 15 → go 0 → lower-ttl 5; files run beside.
    state = story.to_the_flip().intent("flip").state
    assert backout_time(state) == 90.0


def test_parallel_branches_count_the_longer_one_only() -> None:
    plan = shop_plan(
        budgets=(),
        steps=(
            step("a", undo=10), step("short", "a", undo=7), step("long", "a", undo=60),
            step("end", "short", "long", undo=1),
        ),
    )
    told = story.Story(plan).do("a", 1).do("short", 1).do("long", 1)
    assert backout_time(told.state) == 70.0
    assert backout_time(told.do("end", 1).state) == 71.0


def test_measured_durations_replace_estimates() -> None:
    state = story.to_the_flip().state
    assert backout_time(state) == 70.0
    known = Reckoning(undo={"promote": Expected(10.0, "same step", 1),
                            "flip": Expected(500.0, "same step", 1)})
    assert backout_time(state, known) == 35.0


def test_a_chain_goes_through_steps_that_were_skipped() -> None:
    plan = shop_plan(budgets=(), steps=(step("a", undo=10), step("b", "a"), step("c", "b", undo=5)))
    told = story.Story(plan).do("a", 1).add("skipped", "b", 0, "do", why="no need").do("c", 1)
    assert backout_time(told.state) == 15.0


def test_steps_already_put_back_weigh_nothing() -> None:
    assert backout_time(story.rolled_back().state) == 0.0
    told = story.not_restored()
    # freeze/db could not be put back (5), freeze/app (15) and lower-ttl (5) wait behind it.
    assert backout_time(told.state) == 25.0


def test_a_step_that_was_done_already_has_nothing_to_undo() -> None:
    told = story.Story(shop_plan())
    told.add("verified", "lower-ttl", 1, "do", reason="already done", seen="", outputs={})
    assert backout_time(told.state) == 0.0


def test_clock_margin_and_one_way() -> None:
    told = story.to_the_flip()
    before = clock(story.gate_open().state, START + 100)
    assert before.one_way == ()
    back = clock(told.state, START + 7150)
    assert (back.remaining_window, back.backout, back.margin) == (50.0, 70.0, -20.0)
    assert back.one_way == ("promote",)


def test_no_window_no_margin() -> None:
    told = story.Story(shop_plan(window=None)).do("lower-ttl", 1)
    back = clock(told.state, START)
    assert (back.remaining_window, back.backout, back.margin) == (None, 5.0, None)
