"""The verdict on one fault, and the faults themselves, without a world."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from runbook.engine.coverage import NOTHING, Cell, Coverage, Outcome, faults_to_play, judge
from runbook.engine.faults import Injected
from runbook.engine.slowed import SlowedWorld
from runbook.model.faults import Fault
from runbook.model.plan import Plan
from runbook.views.coverage_words import lost_text
from tests.engine.miniworld import Lab, ManualClock, step
from tests.engine.test_review import say

PLAN = Plan(runbook="three", steps=(
    step("a", "put", args={"key": "a", "value": "1"}),
    step("sent", "put", args={"key": "sent", "value": "1"}, after=["a"],
         irreversible="the mail is out"),
    step("is", "is", args={"key": "a", "value": "1"}, after=["sent"]),
))
BEFORE = {"a": "0", "sent": "0"}
TOUCHED = {"a": ["value a"], "sent": ["value sent"]}
A, SENT = ("value a", "value a appeared"), ("value sent", "value sent appeared")


def failed(directory: Path, name: str) -> Lab:
    lab = Lab(directory, PLAN, BEFORE)
    lab.drive(faults=Injected([Fault(kind="fail", step=name)], cut=lambda host: None,
                              real=ManualClock()))
    return lab


def verdict(lab: Lab, **more: Any) -> Cell:
    told: dict[str, Any] = {
        "column": "fail", "step": "a", "changed": [], "touched": TOUCHED, "lost": 0,
        "real_seconds": 1.0, **more,
    }
    return judge(lab.state, lab.store.events(lab.run_id), **told)


def test_all_as_before_is_restored(tmp_path: Path) -> None:
    cell = verdict(failed(tmp_path, "a"))
    assert (cell.outcome, cell.why, cell.not_restored) == (Outcome.RESTORED, "", ())
    assert set(cell.undo_seconds) == {"a"}


def test_a_difference_belongs_to_who_made_it(tmp_path: Path) -> None:
    cell = verdict(failed(tmp_path, "a"), changed=[A])
    assert (cell.outcome, cell.not_restored) == (Outcome.NOT_RESTORED, ("a",))
    assert "value a appeared (changed by a)" in cell.why
    stranger = verdict(failed(tmp_path / "2", "a"), changed=[("other", "other appeared")])
    assert (stranger.outcome, stranger.leftovers) == (
        Outcome.NOT_RESTORED, ("other appeared",))


def test_what_has_no_way_back_excuses_its_own_traces_only(tmp_path: Path) -> None:
    lab = failed(tmp_path, "sent")
    mine = verdict(lab, changed=[SENT], lost=3)
    assert (mine.outcome, mine.irreversible, mine.declared) == (
        Outcome.IRREVERSIBLE, ("sent",), ("value sent appeared",))
    assert mine.good and "3 acknowledged writes are gone" in mine.why
    both = verdict(lab, changed=[SENT, A])
    assert (both.outcome, both.leftovers) == (Outcome.NOT_RESTORED, ("value a appeared",))


def test_writes_lost_past_a_point_of_no_return_are_no_restoration_and_it_is_named(
    tmp_path: Path,
) -> None:
    plan = Plan(runbook="two", steps=(
        step("a", "put", args={"key": "a", "value": "1"}),
        step("open", "put", args={"key": "open", "value": "1"}, after=["a"],
             point_of_no_return=True),
    ))
    lab = Lab(tmp_path, plan, {"a": "0", "open": "0"})
    lab.drive()
    lab.drive(back=True, setup=say(lab, "rollback", accept_loss=["open"]))
    cell = verdict(lab, step="open", lost=3)
    assert (cell.outcome, cell.accepted, cell.good) == (Outcome.IRREVERSIBLE, ("open",), True)
    assert cell.why == "no way back: open; 3 acknowledged writes are gone"
    assert verdict(lab, step="open", lost=0).outcome is Outcome.RESTORED
    told = Coverage(runbook="two", digest="0", level="sandbox", columns=("fail",), steps=(),
                    cells=(cell,))
    assert lost_text(told) == ("Acknowledged writes were lost: up to 3 in one world, past open, "
                               "whose loss was accepted by name.")


@pytest.mark.parametrize(("more", "outcome"), [
    ({"lost": 2}, Outcome.LOST),
    ({"trouble": "it did not get through"}, Outcome.BROKEN),
    ({"struck": False}, Outcome.NOT_REACHED),
    ({"lost": None}, Outcome.RESTORED),
])
def test_what_else_can_come_of_it(tmp_path: Path, more: dict[str, Any], outcome: Outcome) -> None:
    cell = verdict(failed(tmp_path, "a"), **more)
    assert cell.outcome is outcome
    assert cell.good is (outcome in {Outcome.NOT_REACHED, Outcome.RESTORED})


def test_a_run_that_was_not_taken_back_is_not_restored(tmp_path: Path) -> None:
    lab = Lab(tmp_path, PLAN, BEFORE)
    lab.drive()
    cell = verdict(lab)
    assert (cell.outcome, set(cell.not_restored)) == (Outcome.NOT_RESTORED, {"a", "sent"})


def test_faults_are_played_where_they_can_strike(tmp_path: Path) -> None:
    """Everything here is done from the controller: there is no SSH to be cut."""
    lab = Lab(tmp_path, PLAN, BEFORE)
    lab.drive()
    lab.drive(back=True, setup=say(lab, "rollback"))
    wanted = [Fault(kind="fail"), Fault(kind="kill", moment="intent"), Fault(kind="kill"),
              Fault(kind="kill", moment="undo"), Fault(kind="cut"), Fault(kind="slow", factor=2)]
    played = [(f.kind, f.moment, f.step) for f in faults_to_play(lab.state, wanted)]
    assert played == [
        ("fail", "effect", "a"), ("fail", "effect", "sent"), ("fail", "effect", "is"),
        ("kill", "intent", "a"), ("kill", "intent", "sent"),
        ("kill", "effect", "a"), ("kill", "effect", "sent"), ("kill", "effect", "is"),
        ("kill", "undo", "a"),
        ("slow", "effect", ""),
    ]
    only = faults_to_play(lab.state, wanted[:1], only=["is"])
    assert [f.step for f in only] == ["is"]
    assert NOTHING not in {f.kind for f in only}


def test_a_slow_world_takes_as_many_times_as_long(tmp_path: Path) -> None:
    real, run = ManualClock(0.0), ManualClock(1000.0)

    class Inner:
        clock = run
        label = "no method"

        @property
        def dns(self) -> Inner:
            return self

        def ask(self, name: str) -> str:
            real.wait(real.now() + 2.0)
            return f"said {name}"

    slowed = SlowedWorld(cast(Any, Inner()), 3.0, real)
    dns = cast(Any, slowed.dns)
    assert dns.label == "no method"
    assert dns.ask("x") == "said x"
    assert run.now() == 1004.0, "two seconds were spent, and two times two are waited for"
