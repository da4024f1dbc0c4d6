"""The engine over the mini world: forward, back, held, in doubt, killed anywhere."""

from __future__ import annotations

import random
import threading
from collections import Counter
from pathlib import Path

import pytest

from runbook.engine.context import Observer, RunContext
from runbook.engine.faults import FailSteps
from runbook.errors import ExitCode
from runbook.model.events import Event
from runbook.model.plan import Plan
from runbook.model.runbook import OutputSpec, Policy, Poll, Retry
from runbook.model.runstate import RunState
from runbook.model.state import NodeState, RunPhase
from tests.engine.miniworld import Lab, ManualClock, step

WIDE = Plan(runbook="wide", policy=Policy(max_parallel=8), steps=(
    step("a", "put", args={"key": "a", "value": "1"}),
    step("b", "log", after=["a"], args={"line": "b"}),
    step("c", "put", after=["a"], hosts=3, args={"key": "c{n}", "value": "1"}),
    step("d", "log", after=["b", "c"], hosts=2, args={"line": "d{n}"}),
    step("e", "is", after=["d"], args={"key": "a", "value": "1"}),
    step("f", "put", after=["e"], args={"key": "f", "value": "new"}),
))
BEFORE = {"a": "0", "c0": "x", "c1": "y", "c2": "1", "f": "old"}


def test_a_run_goes_through_and_says_what_it_found(tmp_path: Path) -> None:
    lab = Lab(tmp_path, WIDE, BEFORE)
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.OK
    state = lab.state
    assert state.phase is RunPhase.DONE
    assert {n.state for n in state.nodes.values()} == {NodeState.VERIFIED}
    assert state.nodes["a"].outputs == {"old": "0"}
    assert state.nodes["c@h2"].detail == "already so"
    assert not state.nodes["c@h2"].intended
    assert lab.outside.values["f"] == "new"


def test_order_follows_the_edges(tmp_path: Path) -> None:
    lab = Lab(tmp_path, WIDE, BEFORE)
    lab.drive()
    order = [script for _, script in lab.outside.effects]
    assert order[0] == "set a=1"
    assert order[-1] == "set f=new"
    assert set(order[-3:-1]) == {"d0", "d1"}


@pytest.mark.parametrize("failing", ["a", "b", "c", "d", "e", "f"])
def test_a_failure_anywhere_puts_everything_back(tmp_path: Path, failing: str) -> None:
    lab = Lab(tmp_path, WIDE, BEFORE)
    driven = lab.drive(faults=FailSteps([failing]))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    values = dict(lab.outside.values)
    log = values.pop("log", "")
    assert values == BEFORE
    done = [x for x in log.split(";") if x and not x.startswith("un-")]
    undone = [x.removeprefix("un-") for x in log.split(";") if x.startswith("un-")]
    assert sorted(done) == sorted(undone)


def test_rollback_goes_in_reverse_order(tmp_path: Path) -> None:
    lab = Lab(tmp_path, WIDE, BEFORE)
    lab.drive(faults=FailSteps(["f"]))
    order = [script for _, script in lab.outside.effects]
    back = order[order.index("set f=old"):]
    assert back[0] == "set f=old"
    assert set(back[1:3]) == {"un-d0", "un-d1"}
    assert back[-1] == "set a=0"


def _no_effect_twice(lab: Lab) -> None:
    """At most once: no key took effect twice, and no line was logged twice without its undo."""
    keys = Counter(key for key, _ in lab.outside.effects)
    assert max(keys.values()) == 1
    lines = Counter(script for _, script in lab.outside.effects if not script.startswith("set "))
    for script, count in lines.items():
        assert count == 1, f"{script} took effect {count} times"


@pytest.mark.parametrize("failing", [None, "d", "f"])
def test_killed_at_every_occasion_nothing_is_lost_or_repeated(
    tmp_path: Path, failing: str | None
) -> None:
    """Kill before and after every commit and every effect in turn; then again while resuming."""
    faults = FailSteps([failing]) if failing else None
    reference = Lab(tmp_path / "ref", WIDE, BEFORE)
    reference.drive(faults=faults)
    occasions = reference.last_count
    assert occasions > 40
    for at in range(1, occasions + 1):
        lab = Lab(tmp_path / str(at), WIDE, BEFORE)
        lab.drive(kill_at=at, faults=faults)
        if at % 3 == 0 and not lab.ended:
            lab.drive(kill_at=3 + at % 17, faults=faults)
        while not lab.ended:
            lab.drive(faults=faults)
        assert lab.state.phase is (RunPhase.ROLLED_BACK if failing else RunPhase.DONE), at
        _no_effect_twice(lab)
        values = {k: v for k, v in lab.outside.values.items() if k != "log"}
        assert values == ({**BEFORE} if failing else
                          {k: v for k, v in reference.outside.values.items() if k != "log"}), at


@pytest.mark.slow
def test_killed_again_and_again_at_random(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for number in range(40):
        failing = rng.choice([None, "b", "d", "f"])
        faults = FailSteps([failing]) if failing else None
        lab = Lab(tmp_path / str(number), WIDE, BEFORE)
        for _ in range(200):
            lab.drive(kill_at=rng.randrange(3, 30), faults=faults)
            if lab.ended:
                break
        expected = RunPhase.ROLLED_BACK if failing else RunPhase.DONE
        assert lab.state.phase is expected, f"seed {seed}"
        _no_effect_twice(lab)


def test_retry_is_a_new_attempt_and_the_first_before_is_kept(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "put", args={"key": "a", "value": "1"}, retry=Retry(times=2, wait=5.0)),))
    lab = Lab(tmp_path, plan, {"a": "0"})

    class TwiceBad(FailSteps):
        left = 2

        def after_actions(self, node: str) -> str | None:
            if self.left:
                self.left -= 1
                return "not yet"
            return None

    driven = lab.drive(faults=TwiceBad([]))
    assert driven is not None
    assert driven.exit_code is ExitCode.OK
    status = lab.state.nodes["a"]
    assert status.attempt == 3
    assert status.outputs == {"old": "0"}
    assert lab.clock.now() >= 1010


def test_nobody_to_ask_is_errored_not_failed_and_resume_tries_again(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "put", args={"key": "a", "value": "1"}, on_failure="hold"),))
    lab = Lab(tmp_path, plan, {"a": "0"})
    lab.outside.unreachable = {"set a=1"}
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.HELD
    assert lab.state.nodes["a"].state is NodeState.ERRORED
    lab.outside.unreachable = set()
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.OK


def test_too_many_failed_hosts_stop_the_batches(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "put", hosts=6, args={"key": "k{n}", "value": "1"}, batch=2, max_failures=1,
             on_failure="hold"),))
    lab = Lab(tmp_path, plan, {})
    lab.outside.broken = {"set k0=1", "set k1=1"}
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.HELD
    states = [lab.state.nodes[f"a@h{n}"].state for n in range(6)]
    assert states[:2] == [NodeState.FAILED] * 2
    assert states[2:] == [NodeState.PENDING] * 4


def test_one_failed_host_is_tolerated_when_allowed(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "put", hosts=3, args={"key": "k{n}", "value": "1"}, max_failures=1),
        step("b", "put", after=["a"], args={"key": "b", "value": "1"})))
    lab = Lab(tmp_path, plan, {})
    lab.outside.broken = {"set k1=1"}
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.OK
    assert lab.outside.values["b"] == "1"


def test_drift_stops_the_undo_and_is_shown(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "put", args={"key": "a", "value": "1"}),
        step("b", "put", after=["a"], args={"key": "b", "value": "1"})))
    lab = Lab(tmp_path, plan, {"a": "0", "b": "0"})
    lab.drive()
    lab.outside.values["a"] = "somebody else"

    def ask(ctx: RunContext) -> None:
        lab.store.post(lab.run_id, "rollback", who="ada", now=1.0, data={})

    driven = lab.drive(back=True, setup=ask)
    assert driven is not None
    assert driven.exit_code is ExitCode.NOT_RESTORED
    assert lab.outside.values == {"a": "somebody else", "b": "0"}
    assert "drift" in lab.state.nodes["a"].detail
    assert "somebody else" in lab.state.nodes["a"].detail

    driven = lab.drive(back=True, setup=ask)
    assert driven is not None
    assert driven.exit_code is ExitCode.NOT_RESTORED, "asking again is not accepting the drift"

    def insist(ctx: RunContext) -> None:
        lab.store.post(lab.run_id, "rollback", who="ada", now=1.0, data={"accept_drift": ["a"]})

    driven = lab.drive(back=True, setup=insist)
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert lab.outside.values["a"] == "0"


class _AsTheLastStepEnds(Observer):
    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def on_event(self, event: Event, state: RunState) -> None:
        if event.kind == "verified" and event.node == "f":
            self.lab.store.post(self.lab.run_id, "rollback", who="ada", now=1.0, data={})


def test_an_order_that_comes_with_the_last_step_is_heard(tmp_path: Path) -> None:
    lab = Lab(tmp_path, WIDE, BEFORE)
    driven = lab.drive(observer=_AsTheLastStepEnds(lab))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert {k: lab.outside.values[k] for k in BEFORE} == BEFORE


def test_rollback_to_a_step_and_forward_again(tmp_path: Path) -> None:
    lab = Lab(tmp_path, WIDE, BEFORE)
    lab.drive()

    def ask(ctx: RunContext) -> None:
        lab.store.post(lab.run_id, "rollback", who="ada", now=1.0, data={"to": "c"})

    driven = lab.drive(back=True, setup=ask)
    assert driven is not None
    assert driven.exit_code is ExitCode.HELD
    assert lab.outside.values["f"] == "old"
    assert lab.outside.values["a"] == "1"
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.OK
    assert lab.outside.values["f"] == "new"


def test_the_point_of_no_return_holds_until_the_loss_is_accepted_by_name(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "put", args={"key": "a", "value": "1"}, point_of_no_return=True),
        step("b", "put", after=["a"], args={"key": "b", "value": "1"})))
    lab = Lab(tmp_path, plan, {"a": "0", "b": "0"})
    driven = lab.drive(faults=FailSteps(["b"]))
    assert driven is not None
    assert driven.exit_code is ExitCode.HELD
    assert "--accept-loss a" in driven.why
    assert lab.outside.values["a"] == "1"

    def accept(ctx: RunContext) -> None:
        lab.store.post(lab.run_id, "rollback", who="ada", now=1.0, data={"accept_loss": ["a"]})

    driven = lab.drive(back=True, setup=accept)
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert lab.outside.values == {"a": "0", "b": "0"}


def test_what_cannot_be_undone_is_named_and_does_not_stop_the_rest(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "put", args={"key": "a", "value": "1"}),
        step("b", "log", after=["a"], args={"line": "b", "back": False}),
        step("c", "put", after=["b"], args={"key": "c", "value": "1"})))
    lab = Lab(tmp_path, plan, {"a": "0", "c": "0"})
    driven = lab.drive(faults=FailSteps(["c"]))
    assert driven is not None
    assert driven.exit_code is ExitCode.NOT_RESTORED
    assert "cannot be undone: b" in driven.why
    assert lab.outside.values["a"] == "0"
    assert lab.state.nodes["b"].state is NodeState.IRREVERSIBLE


class SetForward(ManualClock):
    """The time of day is set an hour ahead again and again; what passes, passes as ever."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0
        self.pauses: list[float] = []

    def steady(self) -> float:
        return self.passed

    def pause(self, seconds: float, wake: threading.Event | None = None) -> bool:
        self.passed += seconds
        self.pauses.append(seconds)
        return super().wait(self.now() + seconds + 3600.0, wake)


def test_a_clock_that_is_set_ends_no_look_before_its_time(tmp_path: Path) -> None:
    """… neither of a check, nor of what comes after an action, nor a pause before a retry."""
    plan = Plan(runbook="r", steps=(
        step("a", "is", args={"key": "a", "value": "1"}, poll=Poll(every=1, timeout=9),
             retry=Retry(times=1, wait=60.0), on_failure="hold"),))
    lab = Lab(tmp_path, plan, {"a": "0"})
    clock = lab.clock = SetForward()

    class Comes(Observer):
        def on_event(self, event: Event, state: RunState) -> None:
            if event.kind == "failed":
                lab.outside.values["a"] = "1"

    driven = lab.drive(observer=Comes())
    assert driven is not None and driven.exit_code is ExitCode.OK
    assert clock.pauses == [1.0] * 9 + [60.0]


def test_poll_waits_until_it_is_stable(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "is", args={"key": "a", "value": "1"}, poll=Poll(every=1, timeout=9, stable=2),
             on_failure="hold"),))
    lab = Lab(tmp_path, plan, {"a": "0"})
    began = lab.clock.now()
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.HELD
    assert 8 <= lab.clock.now() - began <= 10


def test_declared_outputs_are_typed(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "log", args={"line": "rows 42"},
             outputs={"rows": OutputSpec(take="regex", pattern=r"rows (\d+)", type="int")}),))
    lab = Lab(tmp_path, plan)
    lab.drive()
    assert lab.state.nodes["a"].outputs == {"rows": 42}


def test_a_retry_of_what_did_not_fail_is_told_to_have_come_too_late(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(step("a", "log", args={"line": "a"}),))
    lab = Lab(tmp_path, plan)

    def retry(ctx: RunContext) -> None:
        lab.store.post(lab.run_id, "retry", who="ada", now=1.0, node="a")

    lab.drive(setup=retry)
    assert lab.outside.effects == [(f"{lab.run_id}/a/do/1/0", "a")]
    assert [text for _, _, text in lab.state.notes] == ["retry came when a was pending (ada)"]


def test_a_step_left_out_is_no_shortcut_past_those_before_it(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "log", args={"line": "a"}),
        step("b", "log", after=["a"], args={"line": "b"}).model_copy(
            update={"skipped": "left out", "nodes": ()}),
        step("c", "log", after=["b"], args={"line": "c"})))
    lab = Lab(tmp_path, plan)
    lab.outside.unreachable = {"a"}
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert lab.outside.effects == []


def test_a_point_of_no_return_that_acted_and_failed_is_one_too(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "put", args={"key": "a", "value": "1"}, point_of_no_return=True),))
    lab = Lab(tmp_path, plan, {"a": "0"})
    driven = lab.drive(faults=FailSteps(["a"]))
    assert driven is not None
    assert driven.exit_code is ExitCode.HELD
    assert "--accept-loss a" in driven.why


def test_an_undo_command_is_filled_in_with_what_earlier_steps_gave(tmp_path: Path) -> None:
    line = step("b", "log", after=["a"], args={"line": "b"})
    (node,) = line.nodes
    late = node.model_copy(update={"late": True, "undo": "set back={{ outputs.a.old }}"})
    plan = Plan(runbook="r", steps=(
        step("a", "put", args={"key": "a", "value": "1"}),
        line.model_copy(update={"nodes": (late,)}),
        step("c", "is", after=["b"], args={"key": "a", "value": "never"})))
    lab = Lab(tmp_path, plan, {"a": "0"})
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert (lab.outside.values["back"], lab.outside.values["a"]) == ("0", "0")
