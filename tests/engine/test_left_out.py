"""Orders about a step that waits: each frees the run at once, whatever the step waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from runbook.engine.actions_json import to_json
from runbook.engine.context import Observer
from runbook.engine.driver import Driven
from runbook.engine.orders import why_not_skipped
from runbook.errors import ExitCode
from runbook.journal import Draft
from runbook.kinds.gate_approve import GateApprove
from runbook.kinds.manual import Manual
from runbook.kinds.wait import Wait
from runbook.model.actions import Confirm, Notify, RunCommand, WaitFor
from runbook.model.events import Event
from runbook.model.kind import Kind
from runbook.model.plan import Check, Plan, PlannedStep
from runbook.model.runbook import Policy, Poll, Retry, Window, WindowPolicy
from runbook.model.runstate import NodeStatus, RunState
from runbook.model.state import NodeState, RunPhase
from tests.engine.miniworld import KINDS, Lab, ManualClock, step
from tests.engine.test_review import PATIENCE, Ticking, within

FAR = 1e9


class Unmoved(ManualClock):
    """Nothing is reached by waiting. Who waits first is told of, and then woken or not."""

    def __init__(self, waited: Callable[[], None]) -> None:
        super().__init__()
        self._waited = waited
        self.waits = 0

    def wait(self, until: float, wake: threading.Event | None = None) -> bool:
        self.waits += 1
        if self.waits == 1:
            self._waited()
        assert wake is not None
        assert wake.wait(PATIENCE), "nothing woke it"
        return False


class Waiting(Lab):
    """A lab in which an order comes as soon as somebody waits for a moment."""

    kinds: ClassVar[dict[str, type[Kind]]] = {
        **KINDS, "wait": Wait, "manual": Manual, "gate.approve": GateApprove}

    def told(
        self, *orders: tuple[str, str], then: Callable[[], None] = lambda: None, most: int = 1
    ) -> Driven:
        def waited() -> None:
            then()
            for verb, node in orders:
                self.say(verb, node)

        clock = self.clock = Unmoved(waited)
        driven = within(lambda: self.drive(kinds=self.kinds, real=Ticking()))
        assert clock.waits <= most, "it went on waiting"
        assert driven is not None
        return driven  # type: ignore[no-any-return]

    def say(self, verb: str, node: str = "", **data: Any) -> None:
        self.store.post(self.run_id, verb, who="ada", now=1.0, node=node, data=data)


def _put(name: str, *after: str, **more: Any) -> PlannedStep:
    return step(name, "put", after=after, args={"key": name, "value": "1"}, **more)


@pytest.mark.parametrize("moment", ["at", "not_before"])
def test_a_step_left_out_before_its_moment_holds_nothing_up(tmp_path: Path, moment: str) -> None:
    lab = Waiting(tmp_path, Plan(runbook="r", steps=(
        _put("a", **{moment: FAR}), _put("b", "a"))), {"a": "0", "b": "0"})
    driven = lab.told(("skip", "a"))
    assert driven.exit_code is ExitCode.OK
    assert lab.state.nodes["a"].state is NodeState.SKIPPED
    assert lab.outside.values == {"a": "0", "b": "1"}


def test_an_order_to_try_again_waits_for_no_pause(tmp_path: Path) -> None:
    lab = Waiting(tmp_path, Plan(runbook="r", steps=(
        _put("a", retry=Retry(times=1, wait=FAR)),)), {"a": "0"})
    lab.outside.broken = {"set a=1"}
    driven = lab.told(("retry", "a"), then=lab.outside.broken.clear)
    assert driven.exit_code is ExitCode.OK
    assert lab.state.nodes["a"].attempt == 2
    assert lab.outside.values == {"a": "1"}


def test_a_step_left_out_between_two_tries_holds_nothing_up(tmp_path: Path) -> None:
    lab = Waiting(tmp_path, Plan(runbook="r", steps=(
        _put("a", retry=Retry(times=1, wait=FAR)), _put("b", "a"))), {"a": "0", "b": "0"})
    lab.outside.broken = {"set a=1"}
    assert lab.told(("skip", "a")).exit_code is ExitCode.OK
    assert lab.outside.values == {"a": "0", "b": "1"}


def test_an_order_about_another_step_ends_no_wait(tmp_path: Path) -> None:
    """… and neither does one that changes nothing for it."""
    lab = Waiting(tmp_path, Plan(runbook="r", steps=(
        _put("a", not_before=FAR), _put("b", "a"))), {"a": "0", "b": "0"})
    seen: list[str] = []

    def waited() -> None:
        seen.append("waits")
        if len(seen) == 1:
            lab.say("skip", "b")
            lab.say("resolve", "a", outcome="done")

    class Then(Observer):
        def on_event(self, event: Event, state: RunState) -> None:
            if event.kind == "decision" and event.data["verb"] == "resolve":
                lab.say("rollback")

    clock = lab.clock = Unmoved(waited)
    driven = within(lambda: lab.drive(real=Ticking(), observer=Then()))
    assert driven is not None and driven.phase is RunPhase.ROLLED_BACK
    # For `b` nobody was woken; `a` looked once more, and went on waiting until the run turned.
    assert clock.waits <= 2
    assert lab.state.nodes["a"].state is NodeState.PENDING


def test_a_batch_left_out_needs_no_soak(tmp_path: Path) -> None:
    lab = Waiting(tmp_path, Plan(runbook="r", steps=(
        step("w", "put", hosts=3, batch=1, soak=FAR, args={"key": "w{n}", "value": "1"}),
        _put("b", "w"))), {"w0": "0", "w1": "0", "w2": "0", "b": "0"})
    # Between the two orders it may come to the soak of the third already.
    driven = lab.told(("skip", "w@h1"), ("skip", "w@h2"), most=2)
    assert driven.exit_code is ExitCode.OK
    assert lab.outside.values == {"w0": "1", "w1": "0", "w2": "0", "b": "1"}


@pytest.mark.parametrize("where", ["requires", "check"])
def test_a_step_left_out_while_it_looks_again_and_again(tmp_path: Path, where: str) -> None:
    poll = Poll(every=60.0, timeout=FAR)
    never = {"key": "flag", "value": "up"}
    made = step("a", "is", args=never, poll=poll)
    if where == "requires":
        made = _put("a")
        made = made.model_copy(update={"nodes": tuple(
            n.model_copy(update={"requires": (Check(kind="is", args=never, poll=poll),)})
            for n in made.nodes)})
    lab = Waiting(tmp_path, Plan(runbook="r", steps=(made, _put("b", "a"))), {"a": "0", "b": "0"})
    assert lab.told(("skip", "a")).exit_code is ExitCode.OK
    assert lab.state.nodes["a"].state is NodeState.SKIPPED
    assert lab.outside.values == {"a": "0", "b": "1"}


# -- questions ---------------------------------------------------------------------------------


def _late(hosts: int = 0) -> Plan:
    """`a`, then `b`, which makes it too late for the way back."""
    late = step("b", "put", after=["a"], hosts=hosts,
                args={"key": "b{n}" if hosts else "b", "value": "1"})
    return Plan(
        runbook="r", policy=Policy(window=WindowPolicy(safety=0.0)),
        window=Window(start=1000.0, duration=100.0, timezone="UTC"),
        steps=(_put("a"), late.model_copy(update={"estimate": 600.0}),
               _put("c", "b").model_copy(update={"estimate": 1.0})))


class Skips(Observer):
    """Who is asked whether a step may start leaves it out."""

    def __init__(self, lab: Waiting) -> None:
        self.lab = lab
        self.asked: list[str] = []

    def on_event(self, event: Event, state: RunState) -> None:
        if event.kind == "ask":
            self.asked.append(event.node)
            self.lab.say("skip", event.node)


@pytest.mark.parametrize(("hosts", "asked"), [(0, ["b"]), (2, ["b@h0", "b@h1"])])
def test_a_refused_step_can_be_left_out(tmp_path: Path, hosts: int, asked: list[str]) -> None:
    lab = Waiting(tmp_path, _late(hosts), {"a": "0", "b": "0", "c": "0"})
    people = Skips(lab)
    driven = within(lambda: lab.drive(real=Ticking(), observer=people))
    assert driven is not None and driven.exit_code is ExitCode.OK
    assert people.asked == asked
    assert lab.outside.values == {"a": "1", "b": "0", "c": "1"}
    assert not any(node.question for node in lab.state.nodes.values())


def test_a_step_left_out_just_before_it_asks_asks_nobody(tmp_path: Path) -> None:
    lab = Waiting(tmp_path, _late(), {"a": "0", "b": "0", "c": "0"})
    asked: list[str] = []

    class Early(Observer):
        def on_event(self, event: Event, state: RunState) -> None:
            if event.kind == "late" and event.data["action"] == "ask":
                assert lab.ctx is not None
                lab.ctx.append(Draft("skipped", "b", "do", 1, {"why": "skipped by ada"}))

        def on_question(self, node: str, question: Any) -> None:
            asked.append(node)

    driven = within(lambda: lab.drive(real=Ticking(), observer=Early()))
    assert driven is not None and driven.exit_code is ExitCode.OK
    assert asked == []
    assert not lab.state.nodes["b"].question


# -- what is at work already -------------------------------------------------------------------


def test_a_wait_that_has_begun_can_be_left_out_and_taken_back(tmp_path: Path) -> None:
    lab = Waiting(tmp_path, Plan(runbook="r", steps=(
        _put("a"), step("soak", "wait", after=["a"], args={"for": FAR}), _put("b", "soak"))),
        {"a": "0", "b": "0"})
    driven = lab.told(("skip", "soak"))
    assert driven.exit_code is ExitCode.OK
    assert lab.state.nodes["soak"].state is NodeState.SKIPPED
    assert lab.outside.values == {"a": "1", "b": "1"}
    lab.clock = ManualClock()
    back = lab.drive(kinds=lab.kinds, back=True, setup=lambda _: lab.say("rollback"))
    assert back is not None and back.exit_code is ExitCode.ROLLED_BACK
    assert lab.state.nodes["soak"].detail == "it had only waited or asked"
    assert lab.outside.values == {"a": "0", "b": "0"}


def test_a_wait_can_be_left_out_after_its_controller_died(tmp_path: Path) -> None:
    lab = Waiting(tmp_path, Plan(runbook="r", steps=(
        step("soak", "wait", args={"for": FAR}), _put("b", "soak"))), {"b": "0"})

    def stopped() -> None:
        assert lab.ctx is not None
        lab.ctx.stop()

    assert lab.told(then=stopped).exit_code is ExitCode.STOPPED
    assert lab.state.nodes["soak"].state is NodeState.STARTED
    lab.say("skip", "soak")
    driven = within(lambda: lab.drive(kinds=lab.kinds))
    assert driven is not None and driven.exit_code is ExitCode.OK
    assert lab.outside.values == {"b": "1"}


class Answers(Skips):
    """Leaves out whatever asks, and says yes once that did not count."""

    def on_event(self, event: Event, state: RunState) -> None:
        super().on_event(event, state)
        if event.kind == "note" and "did not count" in str(event.data["text"]):
            self.lab.say("approve", event.node, evidence="seen", role="lead")


@pytest.mark.parametrize(("kind", "args", "ends"), [
    ("gate.approve", {}, NodeState.VERIFIED),
    ("gate.approve", {"roles": ["lead"]}, NodeState.VERIFIED),
    ("manual", {"instructions": "Call."}, NodeState.SKIPPED),
    ("manual", {"instructions": "Call.", "evidence": True}, NodeState.VERIFIED),
    ("manual", {"instructions": "Call.", "roles": ["lead"]}, NodeState.VERIFIED),
])
def test_a_decision_that_is_asked_for_has_to_be_given(
    tmp_path: Path, kind: str, args: dict[str, Any], ends: NodeState
) -> None:
    """… while an errand that turned out to be needless is simply left out."""
    lab = Waiting(tmp_path, Plan(runbook="r", steps=(
        step("q", kind, args=args), _put("b", "q"))), {"b": "0"})
    people = Answers(lab)
    driven = within(lambda: lab.drive(kinds=lab.kinds, real=Ticking(), observer=people))
    assert driven is not None and driven.exit_code is ExitCode.OK
    assert lab.state.nodes["q"].state is ends
    assert lab.outside.values == {"b": "1"}
    if ends is NodeState.SKIPPED:
        back = lab.drive(kinds=lab.kinds, back=True, setup=lambda _: lab.say("rollback"))
        assert back is not None and back.exit_code is ExitCode.ROLLED_BACK
        assert people.asked == ["q"], "nothing was done, and nobody is to take it back"


@pytest.mark.parametrize(("actions", "state", "says"), [
    ([WaitFor(until=1.0, why=""), Notify(channel="log", message="")], NodeState.STARTED, ""),
    ([RunCommand(host=None, script="x"), WaitFor(until=1.0, why="")], NodeState.STARTED,
     "it is at work; it can be skipped when it has ended"),
    ([Confirm(what=""), RunCommand(host=None, script="x")], NodeState.STARTED, "it is at work"),
    ([WaitFor(until=1.0, why="")], NodeState.APPLIED, "it is at work"),
    ([], NodeState.VERIFIED, "it is verified"),
    ([], NodeState.FAILED, ""),
    ([], NodeState.UNDOING, "it is undoing"),
])
def test_what_can_be_left_out(actions: list[Any], state: NodeState, says: str) -> None:
    found = why_not_skipped(NodeStatus("a", state, actions=[to_json(a) for a in actions]))
    assert found.startswith(says) and bool(found) == bool(says)
