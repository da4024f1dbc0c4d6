"""One step on many nodes: ramps, soaks, thresholds, what is left after a crash, the way back."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import pytest

from runbook.engine.advice import advise
from runbook.engine.side_by_side import batches
from runbook.errors import ExitCode
from runbook.journal import Store
from runbook.model.actions import ActionResult
from runbook.model.plan import Plan
from runbook.model.state import NodeState
from tests.engine.miniworld import Lab, Outside, step


def fan_out(count: int, **options: Any) -> Plan:
    return Plan(runbook="r", steps=(
        step("a", "put", hosts=count, args={"key": "k{n}", "value": "1"}, **options),))


def times(store: Store, run: str, kind: str = "verified") -> list[float]:
    return [event.ts for event in store.load(run)[1] if event.kind == kind]


def test_a_ramp_with_time_to_look_in_between(tmp_path: Path) -> None:
    lab = Lab(tmp_path, fan_out(10, ramp=(1, 3), batch=4, soak=60.0), {})
    driven = lab.drive()
    assert driven is not None and driven.exit_code is ExitCode.OK
    found = [len(list(group)) for _, group in itertools.groupby(times(lab.store, lab.run_id))]
    assert found == [1, 3, 4, 2]
    assert lab.clock.now() == pytest.approx(1000 + 3 * 60)


@pytest.mark.parametrize(("done", "expected"), [
    (0, [1, 3, 4, 2]), (1, [3, 4, 2]), (2, [3, 4, 1]), (4, [4, 2]), (9, [1]), (10, []),
])
def test_a_ramp_goes_on_where_it_was(done: int, expected: list[int]) -> None:
    planned = fan_out(10, ramp=(1, 3), batch=4).steps[0]
    assert [len(batch) for batch in batches(planned, planned.nodes[done:])] == expected


def test_after_a_hold_only_what_is_left_is_done(tmp_path: Path) -> None:
    lab = Lab(tmp_path, fan_out(6, batch=2, on_failure="hold"), {})
    lab.outside.broken = {"set k2=1"}
    driven = lab.drive()
    assert driven is not None and driven.exit_code is ExitCode.HELD
    lab.outside.broken = set()
    driven = lab.drive()
    assert driven is not None and driven.exit_code is ExitCode.OK
    scripts = [script for _, script in lab.outside.effects]
    assert sorted(scripts) == [f"set k{n}=1" for n in range(6)], "each once"


class Meeting(Outside):
    """Undos that wait for each other: one after the other they would never meet."""

    def __init__(self, count: int) -> None:
        super().__init__({f"k{n}": "0" for n in range(count)})
        self.together = threading.Barrier(count, timeout=10)

    def run(self, key: str, script: str) -> ActionResult:
        if "/undo/" in key:
            self.together.wait()
        return super().run(key, script)


def test_the_way_back_is_as_wide_as_the_way_there(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "put", hosts=5, args={"key": "k{n}", "value": "1"}),
        step("b", "put", after=["a"], args={"key": "b", "value": "1"}, on_failure="rollback")))
    lab = Lab(tmp_path, plan, {})
    lab.outside = Meeting(5)
    lab.outside.broken = {"set b=1"}
    driven = lab.drive()
    assert driven is not None and driven.exit_code is ExitCode.ROLLED_BACK
    assert all(lab.state.nodes[f"a@h{n}"].state is NodeState.ROLLED_BACK for n in range(5))
    assert all(lab.outside.values[f"k{n}"] == "0" for n in range(5))


def dies_after(lab: Lab, kind: str, node: str) -> int:
    """The occasion right after that event was journaled; for :meth:`Lab.drive`."""
    for at in range(1, 200):
        trial = Lab(lab.store.directory.parent / f"trial-{at}", lab.plan, {})
        trial.outside.broken = set(lab.outside.broken)
        assert trial.drive(kill_at=at) is None, "it ended before that"
        if any((e.kind, e.node) == (kind, node) for e in trial.store.load(trial.run_id)[1]):
            return at
    raise AssertionError(f"no {kind} of {node}")


def test_a_soak_goes_on_under_the_next_controller(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", fan_out(2, batch=1, soak=60.0), {})
    assert lab.drive(kill_at=dies_after(lab, "verified", "a@h0")) is None
    lab.clock.wait(lab.clock.now() + 45)
    driven = lab.drive()
    assert driven is not None and driven.exit_code is ExitCode.OK
    assert lab.clock.now() == pytest.approx(1060), "from the end of the batch, not from the resume"


def test_what_has_no_try_left_is_not_tried_again_by_a_crash(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", fan_out(4, batch=1, max_failures=2), {})
    lab.outside.broken = {"set k0=1", "set k1=1"}
    assert lab.drive(kill_at=dies_after(lab, "failed", "a@h1")) is None
    driven = lab.drive()
    assert driven is not None and driven.exit_code is ExitCode.OK
    attempts = [lab.state.nodes[f"a@h{n}"].attempt for n in range(4)]
    assert attempts == [1, 1, 1, 1]


def test_a_step_that_may_fail_everywhere_does_all_its_batches(tmp_path: Path) -> None:
    lab = Lab(tmp_path, fan_out(4, batch=1, on_failure="continue"), {})
    lab.outside.broken = {"set k0=1", "set k1=1"}
    driven = lab.drive()
    assert driven is not None and driven.exit_code is ExitCode.OK
    assert [lab.state.nodes[f"a@h{n}"].state for n in range(4)] == [
        NodeState.FAILED, NodeState.FAILED, NodeState.VERIFIED, NodeState.VERIFIED]


def test_what_failed_is_told_once_for_all_hosts(tmp_path: Path) -> None:
    lab = Lab(tmp_path, fan_out(6, batch=4, max_failures=1, on_failure="hold"), {})
    lab.outside.broken = {f"set k{n}=1" for n in range(3)}
    driven = lab.drive()
    assert driven is not None and driven.exit_code is ExitCode.HELD
    assert driven.why.startswith("step a failed on 3 of 6 hosts (1 may): ")
    assert driven.why.endswith("; 2 not begun")
    logs = [a.command for a in advise(lab.state) if a.command.startswith("runbook log")]
    assert len(logs) == 3, "each host has words of its own"
