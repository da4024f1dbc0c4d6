from __future__ import annotations

from runbook.engine.timing import critical_path, planned_schedule, read_budget
from tests.views import story
from tests.views.story import START, shop_plan, step


def test_planned_schedule_follows_the_graph_and_the_anchors() -> None:
    steps = (
        step("a", estimate=10), step("b", "a", estimate=5), step("c", "a", estimate=30),
        step("d", "b", "c", estimate=1), step("e", "d", estimate=2, at=START + 1000),
        step("out", "e", estimate=99, skipped="not in this variant"), step("f", "out", estimate=3),
    )
    got = planned_schedule(shop_plan(steps=steps, budgets=()), START)
    assert got == {
        "a": (START, START + 10), "b": (START + 10, START + 15), "c": (START + 10, START + 40),
        "d": (START + 40, START + 41), "e": (START + 1000, START + 1002),
        "f": (START + 1002, START + 1005),
    }


def test_critical_path_goes_through_the_branch_that_ended_last() -> None:
    path = critical_path(story.done().state)
    assert [link.step for link in path] == [
        "lower-ttl", "go", "freeze/app", "files", "flip", "thaw", "check",
    ]
    assert all(link.op == "do" and link.waited == 0.0 for link in path)


def test_critical_path_tells_the_waits() -> None:
    path = critical_path(story.two_days().state)
    assert [(link.step, link.waited) for link in path] == [
        ("lower-ttl", 0.0), ("go", 172796.0), ("freeze/app", 0.0), ("files", 200.0),
    ]


def test_critical_path_of_a_rollback_holds_the_time_to_decide() -> None:
    path = critical_path(story.rolled_back().state)
    undo = [link for link in path if link.op == "undo"]
    assert [link.step for link in undo] == [
        "flip", "promote", "freeze/db", "freeze/app", "lower-ttl",
    ]
    assert undo[0].waited == 40.0
    assert path[4].step == "flip" and path[4].op == "do"


def test_critical_path_of_a_run_under_way_ends_with_what_runs() -> None:
    last = critical_path(story.over_budget().state)[-1]
    assert (last.step, last.end) == ("flip", None)


def test_skipped_steps_are_passed_through() -> None:
    plan = shop_plan(budgets=(), steps=(step("a"), step("b", "a"), step("c", "b")))
    told = story.Story(plan).do("a", 5).wait(2).add("skipped", "b", 0, "do", why="no")
    told.wait(3).do("c", 5)
    assert [(link.step, link.waited) for link in critical_path(told.state)] == [
        ("a", 0.0), ("c", 5.0),
    ]


def test_budget_waits_runs_and_closes() -> None:
    budget = shop_plan().budgets[0]
    waiting = read_budget(story.gate_open().state, budget, START + 500)
    assert (waiting.state, waiting.seconds, waiting.breached) == ("waiting", None, False)

    told = story.to_the_flip()
    running = read_budget(told.state, budget, told.now + 10)
    assert (running.state, running.seconds, running.until) == ("running", 108.5, None)

    closed = read_budget(story.done().state, budget, START + 99999)
    assert (closed.state, closed.seconds, closed.breached) == ("closed", 117.5, False)


def test_budget_is_breached_only_beyond_its_limit() -> None:
    told = story.to_the_flip()
    budget = shop_plan().budgets[0]
    since = read_budget(told.state, budget, told.now).since
    assert since is not None
    assert not read_budget(told.state, budget, since + 600.0).breached
    assert read_budget(told.state, budget, since + 600.1).breached


def test_a_far_edge_that_failed_ends_nothing() -> None:
    told = story.to_the_flip().do("flip", 5).intent("thaw@web1.west").intent("thaw@web2.west")
    told.finish("thaw@web1.west").add("failed", "thaw@web2.west", 1, "do", error="no")
    read = read_budget(told.state, told.plan.budgets[0], told.now + 100)
    assert (read.state, read.until) == ("running", None)


def test_the_undo_of_the_first_step_ends_the_interval() -> None:
    told = story.rolled_back()
    read = read_budget(told.state, told.plan.budgets[0], told.now)
    assert (read.state, read.seconds, read.by_rollback) == ("closed", 208.5, True)


def test_a_freeze_that_was_not_undone_still_runs() -> None:
    told = story.not_restored()
    read = read_budget(told.state, told.plan.budgets[0], told.now + 1e6)
    assert (read.state, read.by_rollback) == ("running", False)
    assert read.seconds == 149.5  # to the end of the run, not to whenever somebody asks
