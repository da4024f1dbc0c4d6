"""Measured durations, taken from journals: told ones, and those of the engine itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runbook.engine.faults import FailSteps
from runbook.engine.history import History, Sample, read_history, rounds, samples_of
from runbook.model.plan import Plan, PlannedStep
from runbook.model.runbook import Policy
from tests.engine.miniworld import KINDS, Lab
from tests.engine.miniworld import step as mini
from tests.views import story
from tests.views.story import HOSTS, Story, shop_plan, step


def _seconds(told: Story, op: str) -> dict[str, float]:
    return {
        one.step + (f"@{one.host}" if one.host else ""): one.seconds
        for one in samples_of(told.plan, told.events) if one.op == op
    }


def test_what_went_well_is_measured_retries_included() -> None:
    found = _seconds(story.done(), "do")
    assert found["lower-ttl"] == 4.0
    assert found["flip"] == 14.0
    # The first try came 14 s before the end of the second.
    assert found[f"freeze/app@{HOSTS[2]}"] == 8.0
    assert found["thaw@web1.west"] == 5.0


def test_undos_are_measured_where_they_acted() -> None:
    assert _seconds(story.rolled_back(), "undo") == {
        "flip": 12.0, "promote": 40.0, "freeze/db": 3.0, "lower-ttl": 4.0,
        **{f"freeze/app@{host}": 2.0 for host in HOSTS},
    }


def test_what_was_done_already_says_nothing_and_a_check_does() -> None:
    told = Story(shop_plan())
    told.add("verified", "lower-ttl", 1, "do", reason="already", seen="", outputs={},
             started_at=told.now)
    assert _seconds(told, "do") == {}
    began = told.now
    told.wait(7).add("verified", "check", 1, "do", reason="", seen="200", outputs={},
                     started_at=began)
    assert _seconds(told, "do") == {"check": 7.0}


@pytest.mark.parametrize("op", ["do", "undo"])
def test_what_another_controller_began_is_left_out(op: str) -> None:
    told = Story(shop_plan())
    if op == "undo":
        told.do("lower-ttl", 4)
    told.intent("lower-ttl", op=op).wait(3600).add("resumed", who="boris")
    began = told.now
    if op == "do":
        told.wait(1).add("verified", "lower-ttl", 1, "do", reason="", seen="", outputs={},
                         started_at=began)
    else:
        told.wait(1).add("restored", "lower-ttl", 1, "undo", how="as before")
    assert op not in {one.op for one in samples_of(told.plan, told.events)}
    # What it does itself afterwards counts again.
    told.do("go", 9)
    assert _seconds(told, "do")["go"] == 9.0


def _sample(seconds: float, *, step: str = "flip", kind: str = "dns.flip", host: str | None = None,
            runbook: str = "shop-2009", level: str = "live") -> Sample:
    return Sample(runbook, "r", level, kind, step, host, "undo", seconds)


PLAN = shop_plan()
FLIP = PLAN.by_id["flip"]


def test_the_same_step_comes_before_the_same_kind() -> None:
    other = _sample(99.0, step="other-flip", runbook="blog")
    assert History([other]).of_step(PLAN, FLIP, "undo").basis == "same kind"
    assert History([other]).of_step(PLAN, FLIP, "undo").seconds == 99.0
    found = History([other, _sample(3.0)]).of_step(PLAN, FLIP, "undo")
    assert (found.seconds, found.basis, found.samples) == (3.0, "same step", 1)


def test_the_same_kind_on_the_same_host_comes_before_the_kind_elsewhere() -> None:
    here = step("restart", kind="service", hosts=("west",))
    samples = [_sample(5.0, kind="service", step="x", host="west"),
               _sample(50.0, kind="service", step="y", host="east")]
    found = History(samples).of_step(shop_plan(steps=(here,), budgets=()), here, "undo")
    assert (found.seconds, found.basis) == (5.0, "same kind and host")


def test_other_commands_say_nothing_about_this_one() -> None:
    thaw = PLAN.by_id["thaw"]
    history = History([_sample(900.0, kind="shell", step="x", host="web1.west")],
                      by_keys={"shell"})
    found = history.of_step(PLAN, thaw, "undo")
    assert (found.seconds, found.basis) == (10.0, "estimate")


def test_the_longest_of_the_latest_counts() -> None:
    samples = [_sample(600.0), *(_sample(float(n)) for n in (4, 9, 5, 6, 7))]
    assert History(samples).of_step(PLAN, FLIP, "undo").seconds == 9.0


def test_a_sandbox_can_only_raise_what_is_reckoned_for_production() -> None:
    fast, slow = _sample(0.1, level="sandbox"), _sample(44.0, level="sandbox")
    assert History([fast]).of_step(PLAN, FLIP, "undo", level="live").seconds == 20.0
    assert History([fast, slow]).of_step(PLAN, FLIP, "undo", level="live").seconds == 44.0
    assert History([fast]).of_step(PLAN, FLIP, "undo", level="sandbox").seconds == 0.1
    real = _sample(8.0)
    assert History([slow, real]).of_step(PLAN, FLIP, "undo", level="live").seconds == 8.0


def test_staging_tells_where_production_has_not_told_yet() -> None:
    there = _sample(8.0, level="staging")
    found = History([there]).of_step(PLAN, FLIP, "undo", level="live")
    assert (found.seconds, found.basis) == (8.0, "same step")  # Its 20 s of estimate are outdone.
    live = _sample(3.0)
    for samples in ([live, there], [there, live]):
        assert History(samples).of_step(PLAN, FLIP, "undo", level="live").seconds == 3.0
        assert History(samples).of_step(PLAN, FLIP, "undo", level="staging").seconds == 8.0
    played = _sample(44.0, level="sandbox")
    assert History([played, there]).of_step(PLAN, FLIP, "undo", level="live").seconds == 8.0


def test_the_slowest_node_says_what_the_step_goes_by() -> None:
    thaw = PLAN.by_id["thaw"]  # On two hosts; 10 s to undo, by estimate.
    hosts = [node.host for node in thaw.nodes]
    fast, slow = (_sample(seconds, kind="shell", step="thaw", host=host, level="sandbox")
                  for seconds, host in zip((0.1, 44.0), hosts, strict=True))
    for samples in ([fast, slow], [slow, fast]):
        found = History(samples).of_step(PLAN, thaw, "undo")
        assert (found.seconds, found.basis, found.samples) == (44.0, "same step", 2)
    swapped = [_sample(one.seconds, kind="shell", step="thaw", host=host, level="sandbox")
               for one, host in zip((slow, fast), hosts, strict=True)]
    assert History(swapped).of_step(PLAN, thaw, "undo").seconds == 44.0
    found = History([fast, _sample(0.2, kind="shell", step="thaw", host=hosts[1],
                                   level="sandbox")]).of_step(PLAN, thaw, "undo")
    assert (found.seconds, found.basis) == (10.0, "estimate")


def test_a_whole_step_takes_as_many_rounds_as_its_nodes_need() -> None:
    hosts = tuple(f"h{n}" for n in range(10))
    wide = step("wide", hosts=hosts, batch=4, ramp=(1,), soak=60.0)
    plan = Plan(runbook="shop-2009", steps=(wide,), policy=Policy(max_parallel=3))
    assert rounds(plan, wide, "do") == 1 + 2 + 2 + 1
    assert rounds(plan, wide, "undo") == 2 + 2 + 1
    samples = [_sample(2.0 + n, kind="shell", step="wide", host=f"h{n}") for n in range(10)]
    found = History(samples).of_step(plan, wide, "undo")
    assert (found.seconds, found.samples) == (5 * 11.0, 10)
    done = [Sample("shop-2009", "r", "live", "shell", "wide", h, "do", 2.0) for h in hosts]
    assert History(done).of_step(plan, wide, "do").seconds == 6 * 2.0 + 3 * 60.0


def test_the_history_of_a_state_folder(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        mini("a", "put", hosts=2, args={"key": "{n}", "value": "1"}),
        mini("b", "log", after=["a"], args={"line": "b"})))
    lab = Lab(tmp_path, plan)
    lab.drive(faults=FailSteps(["b"]))
    first = lab.run_id
    lab.run_id = ""
    lab.drive()

    history = read_history(lab.store, runbook="r", kinds=KINDS)
    assert {(one.run_id, one.op) for one in history.samples} == {
        (first, "do"), (first, "undo"), (lab.run_id, "do")}
    assert set(history.table()) == {
        ("put", "a", "h0", "do"), ("put", "a", "h1", "do"), ("log", "b", None, "do"),
        ("put", "a", "h0", "undo"), ("put", "a", "h1", "undo"), ("log", "b", None, "undo")}
    assert len(history.table()["put", "a", "h0", "do"]) == 2
    assert history.samples[0].run_id == first, "oldest first"
    alone = read_history(lab.store, runbook="r", kinds=KINDS, leave_out=first)
    assert {one.run_id for one in alone.samples} == {lab.run_id}


def test_a_journal_that_cannot_be_read_does_not_stand_in_the_way(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(mini("a", "put", args={"key": "a", "value": "1"}),))
    lab = Lab(tmp_path, plan)
    lab.drive()
    broken = lab.run_id
    lab.run_id = ""
    lab.outside.values.clear()
    lab.drive()
    with lab.store._write() as db:
        db.execute("UPDATE event SET ts = ts + 1 WHERE run_id = ? AND kind = 'intent'", (broken,))
    history = read_history(lab.store, runbook="r", kinds=KINDS)
    assert {one.run_id for one in history.samples} == {lab.run_id}


def test_a_run_that_was_slowed_down_on_purpose_says_nothing() -> None:
    told = Story(shop_plan())
    told.events.clear()
    told.add("run_started", who="anna", level="sandbox", slowed=3.0).do("lower-ttl", 12)
    assert samples_of(told.plan, told.events) == []
    usual = Story(shop_plan(), level="sandbox").do("lower-ttl", 4)
    assert _seconds(usual, "do") == {"lower-ttl": 4.0}


def test_whether_a_condition_held_is_told_by_runs_that_came_to_it(tmp_path: Path) -> None:
    def put(name: str, **more: Any) -> PlannedStep:
        return mini(name, "put", args={"key": name, "value": "1"}).model_copy(update=more)

    plan = Plan(runbook="r", steps=(
        put("always"), put("held", when="2 > 1"), put("not", when="1 > 2"),
        put("left-out", when="2 > 1", skipped="somebody said so")))
    lab = Lab(tmp_path, plan)
    lab.drive()
    history = read_history(lab.store, runbook="r", kinds=KINDS)
    assert {(one.step, one.held, one.run_id) for one in history.choices} == {
        ("held", True, lab.run_id), ("not", False, lab.run_id)}
    assert history.holds("r", "held", level="live") == pytest.approx(2 / 3)
    assert history.holds("r", "not", level="live") == pytest.approx(1 / 3)
    assert history.holds("r", "left-out", level="live") == 1.0
    assert history.holds("r", "not", level="sandbox") == 1.0, "another world"
