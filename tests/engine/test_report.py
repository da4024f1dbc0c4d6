from __future__ import annotations

from typing import Any

import pytest

from runbook.engine.advice import advise
from runbook.engine.report import build_report
from runbook.engine.report_model import Report
from runbook.model.state import NodeState, RunPhase
from tests.views import story
from tests.views.story import START, Story, shop_plan, step


def report(told: Story, **more: Any) -> Report:
    return build_report(told.state, told.events, now=told.now, **more)


def test_done_run_in_numbers() -> None:
    told = story.done()
    r = report(told)
    assert (r.phase, r.outcome, r.inside_window) == (RunPhase.DONE, "good", True)
    assert r.headline == "Done after 3m 42s, inside the window."
    assert (r.started_at, r.ended_at, r.seconds) == (START + 60, START + 281.5, 221.5)
    assert r.planned_seconds == 295.0
    assert r.plan_digest == told.plan.digest
    assert (r.journal_events, r.journal_head) == (len(told.events), told.events[-1].hash)
    assert r.rollback is None and r.next == ()
    assert [s.id for s in r.steps if s.critical] == [
        "lower-ttl", "go", "freeze/app", "files", "flip", "thaw", "check",
    ]


def test_step_planned_against_actual() -> None:
    steps = {s.id: s for s in report(story.done()).steps}
    app = steps["freeze/app"]
    assert (app.seconds, app.estimate, app.attempts) == (20.0, 20.0, 2)
    assert (app.hosts, app.hosts_done) == (3, 3)
    assert (app.planned_start, app.planned_end) == (START + 185, START + 205)
    assert [n.attempts for n in app.nodes] == [1, 1, 2]
    assert steps["files"].nodes == () and steps["files"].hosts == 0
    assert steps["check"].detail == "200 OK, 10 of 10 samples"


def test_budget_line() -> None:
    (line,) = report(story.done()).budgets
    assert (line.from_edge, line.to_edge, line.seconds, line.breached) == (
        "freeze.start", "thaw.end", 117.5, False,
    )


def test_breached_budget_mixes_the_outcome() -> None:
    told = story.over_budget().finish("flip")
    told.intent("thaw@web1.west").intent("thaw@web2.west")
    told.finish("thaw@web1.west").finish("thaw@web2.west").do("check", 1)
    r = report(told.add("run_finished", phase="done", why=""))
    assert r.outcome == "mixed"
    assert [(b.what, b.limit, b.measured, b.action) for b in r.breaches] == [
        ("write_outage", 600.0, 638.5, "warn")
    ]


def test_run_past_its_window_is_not_good() -> None:
    told = story.done()
    late = Story(told.plan)
    late.events, late.now = told.events[:-1], START + 7201
    r = report(late.add("run_finished", phase="done", why=""))
    assert (r.inside_window, r.outcome) == (False, "mixed")
    assert "after the window had closed" in r.headline


def test_rollback_table() -> None:
    r = report(story.rolled_back())
    assert r.rollback is not None
    assert r.rollback.seconds == 65.0 and r.rollback.why == "not worth the risk"
    assert [(s.step, s.outcome, s.seconds) for s in r.rollback.steps] == [
        ("flip", "restored", 12.0), ("promote", "restored", 40.0),
        ("files", "nothing to undo", None), ("freeze/db", "restored", 3.0),
        ("freeze/app", "restored", 6.0), ("go", "nothing to undo", None),
        ("lower-ttl", "restored", 4.0),
    ]
    forward = {s.id: s.forward for s in r.steps}
    assert forward["flip"] is NodeState.FAILED and forward["promote"] is NodeState.VERIFIED
    assert forward["thaw"] is NodeState.PENDING


def test_incomplete_rollback_names_everything() -> None:
    r = report(story.not_restored())
    assert r.outcome == "bad" and r.rollback is not None
    assert {s.step: s.outcome for s in r.rollback.steps} == {
        "flip": "restored", "promote": "irreversible", "files": "not reached",
        "freeze/db": "failed", "freeze/app": "not reached", "go": "not reached",
        "lower-ttl": "not reached",
    }
    assert [a.command for a in r.next] == ["runbook rollback shop-2009-k3v9xq", ""]


def test_incidents_keep_what_a_retry_mended() -> None:
    r = report(story.done())
    assert [(i.node, i.attempt, i.kind, i.error) for i in r.incidents] == [
        ("freeze/app@web3.east", 1, "failed", "exit 1: nginx: configuration test failed")
    ]


def test_decisions_resumptions_outputs() -> None:
    r = report(story.rolled_back())
    assert [(d.who, d.verb, d.node, d.why) for d in r.decisions] == [
        ("anna", "approve", "go", "all monitors are green"), ("dimitri", "approve", "go", ""),
        ("boris", "rollback", "", "not worth the risk"),
    ]
    assert [(x.who, x.controller) for x in r.resumptions] == [("boris", "ctl2:99")]
    retried = [o for o in r.outputs if o.node == "freeze/app@web3.east"]
    assert [(o.attempt, o.exit_code) for o in retried] == [(2, 0)]
    assert retried[0].stdout_path.endswith("freeze_app@web3.east.2.out")


def test_judgement_is_worded_and_judged() -> None:
    outage = {"count": 2, "longest_real": 12.0, "total_real": 15.0, "longest_virtual": 12.1}
    r = report(story.done(), judgement={
        "write_outage": outage, "read_outage": {"count": 0, "longest_real": 0.0},
        "acknowledged": 48211,
        "writes_lost": 3, "lost": 0, "lost_ids": [], "nothing": None, "own_name": {"a": 1},
    })
    assert [(m.label, m.text, m.good) for m in r.measures] == [
        ("Write outage, as clients saw it", "12s (the longest of 2, 15s in all)", None),
        ("Read outage, as clients saw it", "none", None),
        ("Acknowledged writes", "48,211", None),
        ("Acknowledged writes lost", "3", False),
        ("Acknowledged writes lost", "0", True),
        ("Own name", "a: 1", None),
    ]


def test_plain_seconds_are_durations() -> None:
    r = report(story.done(), judgement={"write_outage": 117.2})
    assert r.measures[0].text == "1m 57s"


@pytest.mark.parametrize(
    "tell",
    [story.done, story.rolled_back, story.not_restored, story.in_doubt, story.gate_open,
     story.over_budget, story.many, story.two_days],
)
def test_json_round_trip(tell: Any) -> None:
    r = report(tell())
    assert Report.model_validate_json(r.model_dump_json()) == r


def test_a_run_without_events_has_a_report() -> None:
    told = Story(shop_plan())
    told.events = []
    r = report(told)
    assert (r.started_at, r.critical_path, r.journal_events) == (None, (), 0)


def test_step_left_out_by_planning() -> None:
    plan = shop_plan(budgets=(), steps=(step("a"), step("b", "a", skipped="not for staging")))
    line = report(Story(plan).do("a", 1)).steps[1]
    assert (line.planned_start, line.detail) == (None, "not for staging")


def test_hosts_that_differ_name_the_one_that_failed() -> None:
    told = story.gate_open()
    told.add("decision", "go", verb="approve", who="d", role="dba", why="").finish("go")
    told.intent("freeze/app@web1.east").intent("freeze/app@web2.east")
    told.finish("freeze/app@web1.east")
    told.add("failed", "freeze/app@web2.east", 1, "do", error="exit 7")
    line = report(told).steps[2]
    assert (line.state, line.hosts_done, line.detail) == (
        NodeState.FAILED, 1, "web2.east: exit 7",
    )


def test_advice_on_an_open_gate_names_what_is_missing() -> None:
    (advice,) = advise(story.gate_open().state)
    assert advice.asked
    assert advice.text == "Is everybody ready for the freeze? (1 of 2; missing: dba)"
    assert advice.command == "runbook approve shop-2009-k3v9xq go --role dba"


def test_advice_in_doubt_comes_before_going_on() -> None:
    commands = [a.command for a in advise(story.in_doubt().state)]
    assert commands[0].startswith("runbook resolve shop-2009-k3v9xq flip --done")
    assert commands[1:] == [
        "runbook resume shop-2009-k3v9xq", "runbook rollback shop-2009-k3v9xq",
    ]


def test_an_undo_in_doubt_is_asked_about_and_not_just_tried_again() -> None:
    told = story.to_the_flip().intent("flip").wait(9)
    told.add("failed", "flip", 1, "do", error="refused")
    told.add("rollback_started", why="on_failure: rollback", who="", to=None)
    told.intent("flip", op="undo").wait(3)
    told.add("rollback_failed", "flip", 1, "undo", error="in doubt: no answer", unsettled=True)
    told.add("run_finished", phase="not_restored", why="flip failed")
    first, second = advise(told.state)
    assert first.command.startswith("runbook resolve shop-2009-k3v9xq flip --done")
    assert "the undo of flip (in doubt: no answer)" in first.text
    assert second.command == "runbook rollback shop-2009-k3v9xq"


def test_a_run_that_was_stopped_is_resumed_and_one_that_pauses_continues() -> None:
    """What is told to a run that no controller holds is heard by nobody."""
    told = story.to_the_flip().add("paused", why="stopped on request")
    run = told.run_id
    assert [a.command for a in advise(told.state)] == [
        f"runbook continue {run}", f"runbook rollback {run}"]
    assert [a.command for a in advise(told.state, held=False)] == [
        f"runbook resume {run}", f"runbook rollback {run}"]
    told.add("rollback_started", why="asked", who="", to=None).add("paused", why="stopped")
    assert [a.command for a in advise(told.state, held=False)] == [f"runbook resume {run}"]


def test_advice_after_a_rollback_points_at_the_step_that_failed() -> None:
    (advice,) = advise(story.rolled_back().state)
    assert advice.command == "runbook log shop-2009-k3v9xq flip --output"


def test_a_failed_step_that_asks_offers_every_verb() -> None:
    told = story.to_the_flip().intent("flip")
    told.add("failed", "flip", 1, "do", error="no")
    told.add("ask", "flip", 1, "do", question="flip failed. Retry, skip or roll back?",
             verbs=["retry", "skip", "rollback"])
    assert [a.command.split()[1] for a in advise(told.state)] == ["retry", "skip", "rollback"]


def test_hosts_that_fail_alike_make_one_advice() -> None:
    told = Story(shop_plan(steps=(step("freeze", hosts=story.HOSTS),)))
    for host in story.HOSTS:
        told.intent(f"freeze@{host}").add("failed", f"freeze@{host}", 1, "do", error="exit 3")
    told.add("held", why="step freeze failed")
    logs = [a for a in advise(told.state) if a.command.startswith("runbook log")]
    assert [a.command for a in logs] == [f"runbook log {told.run_id} freeze --output"]
    assert "freeze@web[1-3].east failed: exit 3" in logs[0].text
