"""The kinds that wait, ask and tell."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from runbook.kinds.gate_approve import GateApprove
from runbook.kinds.manual import Manual
from runbook.kinds.notify_log import NotifyLog
from runbook.kinds.wait import Wait
from runbook.model.actions import AskOperator, Notify, WaitFor
from runbook.model.observation import Irreversible
from runbook.model.ports import CommandResult
from tests.kinds.fakes import FakeHost, FakeReads


def test_the_end_of_a_wait_is_fixed_when_it_begins() -> None:
    kind = Wait.model_validate({"for": "15m"})
    before = kind.observe(FakeReads(time=1000.0))
    (action,) = kind.plan(before).actions
    assert isinstance(action, WaitFor) and action.until == 1900.0 and "15m" in action.why
    early = kind.verify(before, kind.observe(FakeReads(time=1899.0)))
    assert not early.ok and "1s" in early.seen
    assert kind.verify(before, kind.observe(FakeReads(time=1900.0))).ok
    assert kind.undo(before) == ()


@pytest.mark.parametrize(("until", "seconds"), [
    ("2009-09-12T01:00:00-04:00", 1252731600.0), ("2009-09-12 05:00+00:00", 1252731600.0),
    (1252731600, 1252731600.0), ("1252731600", 1252731600.0),
])
def test_a_moment(until: Any, seconds: float) -> None:
    kind = Wait.model_validate({"until": until})
    (action,) = kind.plan(kind.observe(FakeReads(time=seconds - 10))).actions
    assert isinstance(action, WaitFor) and action.until == seconds
    past = kind.plan(kind.observe(FakeReads(time=seconds)))
    assert past.actions == () and "already past" in past.reason


@pytest.mark.parametrize("args", [
    {}, {"for": "1m", "until": 1252731600}, {"until": "2009-09-12T01:00:00"}, {"until": "noon"},
    {"for": "soon"}, {"for": -1}, {"until": True}, {"until": 2030}, {"until": "2030"},
    {"until": float("inf")}, {"until": "nan"}, {"until": 1e18}, {"for": 1e10}, {"for": [1]},
])
def test_a_wait_that_makes_no_sense_is_refused(args: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Wait.model_validate(args)


def test_a_gate_asks_for_its_quorum() -> None:
    kind = GateApprove(question="Go?", roles=("lead", "dba"), quorum=2, evidence=True)
    before = kind.observe(FakeReads())
    assert kind.plan(before).actions == (
        AskOperator(question="Go?", roles=("lead", "dba"), quorum=2, evidence=True),
    )
    assert kind.verify(before, before).ok and kind.undo(before) == ()


def reads(exit_code: int) -> FakeReads:
    return FakeReads(here=FakeHost(answers={"look": CommandResult(exit_code=exit_code)}))


def test_a_check_decides_not_the_word_of_a_person() -> None:
    kind = Manual.model_validate(
        {"instructions": "Pull the cable.", "check": "look", "back_out": "Plug it in."}
    )
    before = kind.observe(reads(1))
    (action,) = kind.plan(before).actions
    assert isinstance(action, AskOperator) and action.question == "Pull the cable."
    assert not kind.verify(before, kind.observe(reads(1))).ok
    after = kind.observe(reads(0))
    assert kind.verify(before, after).ok
    assert kind.plan(after).actions == () and kind.undo(after) == ()
    undone = kind.undo(before)
    assert not isinstance(undone, Irreversible)
    assert isinstance(undone[0], AskOperator) and "Plug it in." in undone[0].question


def test_without_a_text_to_back_out_it_is_irreversible() -> None:
    kind = Manual(instructions="Cut the ribbon.")
    before = kind.observe(FakeReads())
    assert isinstance(kind.undo(before), Irreversible) and kind.verify(before, before).ok


def test_a_notice_is_one_notify() -> None:
    kind = NotifyLog(message="frozen", severity="warning")
    before = kind.observe(FakeReads())
    assert kind.plan(before).actions == (
        Notify(channel="log", message="frozen", severity="warning"),
    )
    assert kind.undo(before) == ()
