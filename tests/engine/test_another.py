"""When a runbook is in the middle of a live run."""

from __future__ import annotations

from pathlib import Path

import pytest

from runbook.engine.another import changed, check_no_other
from runbook.errors import Refused
from runbook.model.plan import Plan
from runbook.model.state import NodeState, RunPhase
from tests.engine.miniworld import Lab, step
from tests.engine.test_amend import held_at_a_check, plan, put
from tests.engine.test_review import say


def test_a_held_run_that_changed_something_is_in_the_way_until_it_has_ended(
    tmp_path: Path,
) -> None:
    lab = held_at_a_check(tmp_path)
    with pytest.raises(Refused, match=f"{lab.run_id} of night is held") as fault:
        check_no_other(lab.store, lab.plan)
    assert "--another" in fault.value.hint
    check_no_other(lab.store, lab.plan.model_copy(update={"runbook": "other"}))
    lab.drive(back=True, setup=say(lab, "rollback"))
    assert lab.state.phase is RunPhase.ROLLED_BACK
    check_no_other(lab.store, lab.plan)


def test_a_run_that_changed_nothing_and_a_rehearsal_are_not(tmp_path: Path) -> None:
    first = step("is", "is", args={"key": "a", "value": "2"}, on_failure="hold")
    lab = Lab(tmp_path / "check", Plan(runbook="night", steps=(first, put("b", "1", "is"))),
              {"a": "0", "b": "0"})
    lab.drive()
    assert lab.state.phase is RunPhase.HELD
    check_no_other(lab.store, lab.plan)
    state = lab.state
    for action, stands in ({"action": "wait_for", "until": 1.0, "why": "x"}, False), (
            {"action": "run_command", "host": None, "script": "true"}, True):
        state.nodes["b"].state, state.nodes["b"].intended = NodeState.STARTED, True
        state.nodes["b"].actions = [action]
        assert changed(state) is stands
    rehearsed = Lab(tmp_path / "sandbox", plan(put("a", "1"), first, put("b", "1", "is")),
                    {"a": "0", "b": "0"})
    rehearsed.run_id = rehearsed.store.create(rehearsed.plan, who="a", now=1.0, level="sandbox")
    rehearsed.drive(level="sandbox")
    assert changed(rehearsed.state)
    check_no_other(rehearsed.store, rehearsed.plan)
