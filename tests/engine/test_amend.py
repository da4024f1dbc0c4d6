"""What an amendment may change in a run, and what the run does with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.engine.amend import amended, changes, check_may_amend
from runbook.errors import Refused
from runbook.model.plan import Plan, PlannedStep
from runbook.model.state import NodeState
from tests.engine.miniworld import Lab, step
from tests.engine.test_review import say

BEFORE = {"a": "0", "b": "0", "c": "0"}


def put(name: str, value: str, *after: str) -> PlannedStep:
    return step(name, "put", args={"key": name, "value": value}, after=after, on_failure="hold")


def plan(*steps: PlannedStep) -> Plan:
    return Plan(runbook="night", steps=steps)


def amend(lab: Lab, new: Plan) -> list[str]:
    """As the command does; the changes in words. Raises Refused."""
    check_may_amend(lab.state)
    found = changes(lab.state, new)
    lease = lab.store.acquire(lab.run_id, "ada")
    try:
        lease.append([amended(lab.state, new, found, who="ada", why="a typo")], ts=1.0)
    finally:
        lease.release()
    return [change.text for change in found]


def held_at_a_check(directory: Path) -> Lab:
    """``a`` is done; the check after it fails, as it was written wrongly."""
    lab = Lab(directory, plan(
        put("a", "1"), step("is", "is", args={"key": "a", "value": "2"}, after=["a"],
                            on_failure="hold"), put("b", "1", "is")), BEFORE)
    lab.drive()
    assert lab.state.nodes["is"].state is NodeState.FAILED
    return lab


def test_a_check_that_failed_has_not_begun_and_may_change(tmp_path: Path) -> None:
    lab = held_at_a_check(tmp_path)
    mended = plan(put("a", "1"), step("is", "is", args={"key": "a", "value": "1"}, after=["a"]),
                  put("b", "2", "is"))
    assert amend(lab, mended) == [
        "step is: nodes.is.args.value: 2 → 1", "step is: on_failure: hold → rollback",
        "step b: nodes.b.args.value: 1 → 2",
    ]
    lab.drive()
    assert lab.ended
    assert lab.outside.values == {"a": "1", "b": "2", "c": "0"}
    assert lab.state.plan.digest == mended.digest
    assert [(a.who, a.why, a.was, a.digest) for a in lab.state.amendments] == [
        ("ada", "a typo", lab.plan.digest, mended.digest)]


def test_what_was_done_cannot_change_until_it_is_taken_back(tmp_path: Path) -> None:
    lab = held_at_a_check(tmp_path)
    other = plan(put("a", "7"), put("b", "1", "a"))
    with pytest.raises(Refused, match=r"step a: nodes.a.args.value: 1 → 7 \(a is verified\)"):
        amend(lab, other)
    assert lab.state.amendments == []
    amend(lab, plan(put("a", "1").model_copy(update={"title": "First"}), *lab.plan.steps[1:]))
    lab.drive(back=True, setup=say(lab, "rollback"))
    with pytest.raises(Refused, match="rolled back"):
        amend(lab, other)


def test_a_step_that_was_taken_back_may_change(tmp_path: Path) -> None:
    lab = Lab(tmp_path, plan(put("a", "1"), put("b", "1", "a"), put("c", "1", "b")), BEFORE)
    lab.drive()
    lab.drive(back=True, setup=say(lab, "rollback", to="a"))
    assert lab.state.step_state("b") is NodeState.ROLLED_BACK
    amend(lab, plan(put("a", "1"), put("b", "5", "a")))
    assert "c" not in lab.state.nodes
    lab.drive()
    assert lab.outside.values == {"a": "1", "b": "5", "c": "0"}
    lab.drive(back=True, setup=say(lab, "rollback"))
    assert lab.outside.values == BEFORE


def test_a_step_that_comes_back_goes_on_counting(tmp_path: Path) -> None:
    """Its keys must not be those of its earlier life: they took effect already."""
    whole = plan(put("a", "1"), put("b", "1", "a"))
    lab = Lab(tmp_path, whole, BEFORE)
    lab.drive()
    lab.drive(back=True, setup=say(lab, "rollback", to="a"))
    amend(lab, plan(put("a", "1")))
    amend(lab, whole)
    assert lab.state.nodes["b"].attempt == 1
    lab.drive()
    assert lab.ended
    assert lab.outside.values["b"] == "1"
    assert len(lab.state.amendments) == 2
    assert lab.state.amendments[0].digest == lab.state.amendments[1].was
