"""Narrow places of the engine: crashes between a decision and its deed, broken kinds, messages
that come at the wrong moment, undos in doubt. Each was once a way to lose or repeat an effect."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from runbook.engine.context import Observer, RunContext, Stopping
from runbook.engine.driver import Driven
from runbook.engine.faults import FailSteps
from runbook.engine.graph_runner import GraphRunner
from runbook.errors import Errored, ExitCode, HeldByOther, JournalFault
from runbook.journal import Draft, Store
from runbook.journal.lock import RunLock, holder_of
from runbook.model.actions import (
    Action,
    ActionKey,
    ActionResult,
    AskOperator,
    RunCommand,
    WaitFor,
)
from runbook.model.events import Event
from runbook.model.folding import apply, check
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.plan import Check, Plan, PlannedStep
from runbook.model.ports import CommandResult, Reads, Resolution
from runbook.model.runbook import Budget, Policy, Poll, Retry
from runbook.model.runstate import RunState
from runbook.model.state import IllegalTransition, NodeState, RunPhase
from tests.engine.miniworld import KINDS, Killed, Lab, ManualClock, MiniHost, MiniWorld, step

PATIENCE = 20.0


class Broken(Kind):
    """Raises what no kind should raise, in the named method."""

    name: ClassVar[str] = "broken"
    example: ClassVar[str] = ""
    where: str

    def _perhaps(self, method: str) -> None:
        if self.where == method:
            raise KeyError(method)

    def observe(self, reads: Reads) -> Observation:
        self._perhaps("observe")
        return Observation()

    def plan(self, before: Observation) -> Planned:
        self._perhaps("plan")
        if self.where == "check":
            return Planned(reason="a check")
        return Planned(actions=(RunCommand(host=None, script="broken"),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        self._perhaps("verify")
        if self.where == "check":
            raise ValueError("a check that breaks")
        return Verdict(ok=True, seen="")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        self._perhaps("undo")
        return (RunCommand(host=None, script="un-broken"),)


class Ask(Kind):
    """Asks a person to do, and to undo."""

    name: ClassVar[str] = "ask"
    example: ClassVar[str] = ""

    def observe(self, reads: Reads) -> Observation:
        return Observation()

    def plan(self, before: Observation) -> Planned:
        return Planned(actions=(AskOperator(question="Do it?"),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        return Verdict(ok=True, seen="")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        return (AskOperator(question="Undone?"),)


class Pause(Kind):
    """Only waits; what it observes can be out of reach later."""

    name: ClassVar[str] = "pause"
    example: ClassVar[str] = ""

    def observe(self, reads: Reads) -> Observation:
        return Observation(state={"seen": reads.here.query("clock").stdout})

    def plan(self, before: Observation) -> Planned:
        return Planned(actions=(WaitFor(until=1010.0, why="to wait"),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        return Verdict(ok=True, seen="")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        return ()


@pytest.fixture(autouse=True)
def more_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Broken, Ask, Pause):
        monkeypatch.setitem(KINDS, kind.name, kind)


def say(lab: Lab, verb: str, node: str = "", **data: Any) -> Callable[[RunContext], None]:
    def setup(ctx: RunContext) -> None:
        lab.store.post(lab.run_id, verb, who="ada", now=1.0, node=node, data=data)

    return setup


class Ticking(ManualClock):
    """Real time of a run that looks into its inbox at every occasion."""

    def now(self) -> float:
        with self._lock:
            self._now += 1.0
            return self._now


def listening(
    setup: Callable[[RunContext], None] | None = None
) -> Callable[[RunContext], None]:
    def both(ctx: RunContext) -> None:
        ctx.real = Ticking()
        if setup is not None:
            setup(ctx)

    return both


def go_back(lab: Lab, observer: Observer) -> Driven | None:
    return lab.drive(back=True, setup=listening(say(lab, "rollback")), observer=observer)


def within(work: Callable[[], Any]) -> Any:
    """The result of work that must not hang; what it raised is raised."""
    found: list[Any] = []

    def body() -> None:
        try:
            found.append((True, work()))
        except BaseException as fault:  # noqa: BLE001 - raised below, in the test's thread
            found.append((False, fault))

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert found, "it hangs"
    good, value = found[0]
    if not good:
        raise value
    return value


def kills_at(node: str, op: str, kind: str) -> type[Observer]:
    """An observer that dies with its controller right after the named event is durable."""

    class Dying(Observer):
        def on_event(self, event: Event, state: RunState) -> None:
            if (event.node, event.op, event.kind) == (node, op, kind):
                raise Killed

    return Dying


def scripts(lab: Lab) -> list[str]:
    return [script for _, script in lab.outside.effects]


TWO = Plan(runbook="two", steps=(
    step("a", "put", args={"key": "a", "value": "1"}),
    step("b", "log", after=["a"], args={"line": "b"}),
))
ZERO = {"a": "0"}


# -- the journal -------------------------------------------------------------------------------


def test_a_bad_event_of_one_thread_does_not_swallow_that_of_another(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run_id = store.create(TWO, who="ada", now=1.0)
    lease = store.acquire(run_id, "ada")
    outcomes: dict[str, Any] = {}

    def append(name: str, data: Mapping[str, Any]) -> None:
        try:
            outcomes[name] = lease.append([Draft("note", data=data)], ts=1.0)
        except Exception as fault:  # noqa: BLE001 - looked at below
            outcomes[name] = fault

    threads = [
        threading.Thread(target=append, args=("bad", {"x": object()})),
        threading.Thread(target=append, args=("surrogate", {"x": "\ud800"})),
        threading.Thread(target=append, args=("good", {"x": "1"})),
    ]
    with lease._writer:
        for thread in threads:
            thread.start()
            thread.join(0.2)
    for thread in threads:
        thread.join(PATIENCE)
    assert isinstance(outcomes["bad"], TypeError)
    assert isinstance(outcomes["surrogate"], ValueError)
    assert [e.data for e in outcomes["good"]] == [{"x": "1"}]
    assert [e.data for e in store.events(run_id)] == [{"x": "1"}]
    lease.release()


def test_an_impossible_event_never_becomes_durable(tmp_path: Path) -> None:
    lab = Lab(tmp_path, TWO, ZERO)
    lab.drive()
    ctx = lab.ctx
    assert ctx is not None
    lease = lab.store.acquire(lab.run_id, "ada")
    lease.on_commit, lease.check = partial(apply, ctx.state), partial(check, ctx.state)
    before = len(lab.store.events(lab.run_id))
    with pytest.raises(IllegalTransition):
        lease.append([Draft("intent", "a", "do", 9, {})], ts=1.0)
    with pytest.raises(IllegalTransition):
        # Each by itself is possible, the two in a row are not.
        lease.append([Draft("restored", "a", "undo", 1, {}), Draft("done", "a", "do", 9, {})],
                     ts=1.0)
    assert len(lab.store.events(lab.run_id)) == before
    lease.append([Draft("note", data={"text": "the lease is as good as before"})], ts=1.0)
    lease.release()
    assert lab.state.phase is RunPhase.DONE


def test_a_failed_commit_is_rolled_back_before_anybody_else_writes(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    run_id = store.create(TWO, who="ada", now=1.0)
    with store._write() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count={pages}")
    lease = store.acquire(run_id, "ada")
    with pytest.raises(JournalFault, match="full"):
        lease.append([Draft("note", data={"text": "x" * 200_000})], ts=1.0)
    assert not store._db.in_transaction
    with pytest.raises(JournalFault, match="full"):
        lease.append([Draft("note")], ts=1.0)
    lease.release()
    store._db.execute("PRAGMA max_page_count=1000000")
    lease = store.acquire(run_id, "ada")
    lease.append([Draft("note", data={"text": "again"})], ts=1.0)
    assert [e.data for e in store.events(run_id)] == [{"text": "again"}]
    lease.release()


def test_looking_who_holds_a_run_keeps_nobody_from_taking_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text('{"holder": "one that died", "pid": 1}')
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            holder_of(path)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(300):
            RunLock(path, "r", "me").release()
            path.write_text('{"holder": "one that died", "pid": 1}')
    finally:
        over.set()
        for looker in lookers:
            looker.join()
    with RunLock(path, "r", "me"), pytest.raises(HeldByOther, match="me"):
        RunLock(path, "r", "another")


# -- broken kinds, broken screens, broken messages ---------------------------------------------


@pytest.mark.parametrize("where", ["observe", "plan", "verify"])
def test_a_kind_that_breaks_is_a_failed_step_and_the_run_goes_back(
    tmp_path: Path, where: str
) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "put", args={"key": "a", "value": "1"}),
        step("b", "broken", after=["a"], args={"where": where})))
    lab = Lab(tmp_path, plan, ZERO)
    driven = lab.drive()
    assert driven is not None
    assert lab.outside.values["a"] == "0"
    assert "KeyError" in next(
        e.data["error"] for e in lab.store.events(lab.run_id) if e.kind == "failed")


def test_a_check_that_breaks_is_a_failed_step(tmp_path: Path) -> None:
    check = Check(kind="broken", args={"where": "check"})
    first = step("a", "put", args={"key": "a", "value": "1"})
    node = first.nodes[0]
    for name in ("requires", "verify"):
        changed = first.model_copy(update={"nodes": (node.model_copy(update={name: (check,)}),)})
        lab = Lab(tmp_path / name, Plan(runbook="r", steps=(changed,)), ZERO)
        driven = lab.drive()
        assert driven is not None
        assert driven.exit_code is ExitCode.ROLLED_BACK
        assert lab.outside.values["a"] == "0"


def test_an_undo_that_breaks_keeps_no_other_branch_from_going_back(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "put", args={"key": "a", "value": "1"}),
        step("b", "broken", args={"where": "undo"}),
        step("c", "is", after=["a", "b"], args={"key": "nothing", "value": "1"})))
    lab = Lab(tmp_path, plan, ZERO)
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.NOT_RESTORED
    assert lab.state.nodes["b"].state is NodeState.ROLLBACK_FAILED
    assert "KeyError" in lab.state.nodes["b"].detail
    assert lab.outside.values["a"] == "0"


def test_a_transport_that_breaks_leaves_a_doubt_not_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    perform = MiniWorld.perform

    def breaking(self: MiniWorld, action: Any, key: Any, progress: Any) -> Any:
        perform(self, action, key, progress)
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    def unknown(self: MiniWorld, action: Any, key: Any) -> Resolution:
        return Resolution(outcome="unknown")

    monkeypatch.setattr(MiniWorld, "perform", breaking)
    monkeypatch.setattr(MiniWorld, "resolve", unknown)
    lab = Lab(tmp_path, Plan(runbook="r", steps=(step("b", "log", args={"line": "b"}),)))
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.IN_DOUBT
    assert lab.state.nodes["b"].state is NodeState.IN_DOUBT


def test_a_screen_that_breaks_does_not_stop_the_run(tmp_path: Path) -> None:
    class Gone(Observer):
        def on_event(self, event: Event, state: RunState) -> None:
            raise BrokenPipeError

    lab = Lab(tmp_path, TWO, ZERO)
    driven = lab.drive(observer=Gone())
    assert driven is not None
    assert driven.exit_code is ExitCode.OK
    assert any("BrokenPipeError" in text for _, _, text in lab.state.notes)


@pytest.mark.parametrize(("verb", "data"), [
    ("approve", {}), ("skip", {}), ("resolve", {"outcome": "done"}), ("retry", {}),
])
def test_a_message_that_makes_no_sense_is_noted_and_taken(
    tmp_path: Path, verb: str, data: dict[str, Any]
) -> None:
    lab = Lab(tmp_path, TWO, ZERO)
    driven = lab.drive(setup=lambda ctx: lab.store.post(
        lab.run_id, verb, who="ada", now=1.0, data=data))
    assert driven is not None
    assert driven.exit_code is ExitCode.OK
    assert lab.store.inbox(lab.run_id) == []
    assert any(verb in text for _, _, text in lab.state.notes)


def test_outputs_of_a_skip_that_are_none_are_no_outputs(tmp_path: Path) -> None:
    lab = Lab(tmp_path, TWO, ZERO)
    driven = lab.drive(setup=say(lab, "skip", "b", outputs=None))
    assert driven is not None
    assert driven.exit_code is ExitCode.OK
    assert lab.state.nodes["b"].outputs == {}


def test_an_order_to_go_back_counts_whatever_else_is_in_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path, TWO, ZERO)
    driven = lab.drive(setup=say(lab, "rollback", accept_loss=7, accept_drift=None))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK


def test_rollback_to_an_unknown_step_holds_and_goes_neither_way(tmp_path: Path) -> None:
    lab = Lab(tmp_path, TWO, ZERO)
    driven = lab.drive(setup=lambda ctx: lab.store.post(
        lab.run_id, "rollback", who="ada", now=1.0, data={"to": "typo"}))
    assert driven is not None
    assert driven.exit_code is ExitCode.HELD
    assert "typo" in driven.why
    assert lab.outside.effects == []
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.OK


def test_tick_faults_wait_for_what_is_going_on(tmp_path: Path) -> None:
    lab = Lab(tmp_path, TWO, ZERO)
    lab.drive()
    ctx = lab.ctx
    assert ctx is not None
    ctx.halt.clear()
    begun, ended = threading.Event(), threading.Event()

    def work(name: str) -> bool:
        begun.set()
        ctx.halt.wait(PATIENCE)
        ended.set()
        return True

    def tick() -> bool:
        if begun.is_set():
            raise JournalFault("the journal cannot be read")
        return True

    with pytest.raises(JournalFault):
        GraphRunner(ctx, {"a": ()}, work, tick=tick).run()
    assert ended.is_set(), "a step was still at work when its controller gave up"


# -- in doubt ----------------------------------------------------------------------------------


def _b_in_flight(tmp_path: Path, *, effect: bool, plan: Plan = TWO) -> Lab:
    """A run whose controller died at step b, after the intent, before or after the effect."""
    for kill_at in range(1, 60):
        lab = Lab(tmp_path / str(kill_at), plan, ZERO)
        lab.drive(kill_at=kill_at)
        if not lab.store.events(lab.run_id):
            continue
        if lab.state.nodes["b"].state is NodeState.STARTED and ("b" in scripts(lab)) is effect:
            return lab
    raise AssertionError("no such moment")


def test_asking_what_became_of_an_action_and_getting_no_answer_is_a_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not *errored*: that would mean that nothing was done, and it would be done again."""
    lab = _b_in_flight(tmp_path, effect=True)

    def silent(self: MiniWorld, action: Any, key: Any) -> Resolution:
        raise Errored("the host does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(MiniWorld, "resolve", silent)
        driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.IN_DOUBT
    assert lab.state.nodes["b"].state is NodeState.IN_DOUBT
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.OK
    assert scripts(lab).count("b") == 1


def test_losing_an_action_that_runs_while_attaching_to_it_is_a_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = _b_in_flight(tmp_path, effect=True)

    def lost(self: MiniWorld, action: Any, key: Any, progress: Any) -> Any:
        raise Errored("the host cannot be reached")

    with monkeypatch.context() as patch:
        patch.setattr(MiniWorld, "resolve",
                      lambda self, action, key: Resolution(outcome="running"))
        patch.setattr(MiniWorld, "perform", lost)
        driven = lab.drive()
    assert driven is not None
    assert lab.state.nodes["b"].state is NodeState.IN_DOUBT
    lab.drive()
    assert scripts(lab).count("b") == 1


def test_what_never_began_is_not_undone(tmp_path: Path) -> None:
    lab = _b_in_flight(tmp_path, effect=False)
    driven = lab.drive(setup=say(lab, "rollback"))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert "un-b" not in scripts(lab)
    assert lab.outside.values == ZERO


def test_what_a_person_says_was_not_done_is_not_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = _b_in_flight(tmp_path, effect=False)
    with monkeypatch.context() as patch:
        patch.setattr(MiniWorld, "resolve",
                      lambda self, action, key: Resolution(outcome="unknown"))
        lab.drive()
    assert lab.state.nodes["b"].state is NodeState.IN_DOUBT
    say(lab, "resolve", "b", outcome="not_done")(None)  # type: ignore[arg-type]
    driven = lab.drive(setup=say(lab, "rollback"))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert "un-b" not in scripts(lab)


class Both(Kind):
    """Two effects in one intent, with a wait between them where ``staged``."""

    name: ClassVar[str] = "both"
    example: ClassVar[str] = ""

    staged: bool = False

    def observe(self, reads: Reads) -> Observation:
        return Observation(state={key: reads.here.query(key).stdout for key in "xy"})

    def plan(self, before: Observation) -> Planned:
        first, last = (RunCommand(host=None, script=f"set {key}=1") for key in "xy")
        between = (WaitFor(until=0.0, why="hold"),) if self.staged else ()
        return Planned(actions=(first, *between, last))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        return Verdict(ok=after.state == {"x": "1", "y": "1"}, seen=str(after.state))

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        return tuple(RunCommand(host=None, script=f"set {key}={before.state[key]}")
                     for key in "yx")


@pytest.mark.parametrize("staged", [False, True])
def test_what_took_effect_before_the_action_in_doubt_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, staged: bool
) -> None:
    """That the action in doubt was not done says nothing of those before it."""
    lab = Lab(tmp_path, Plan(runbook="both", steps=(
        step("t", "both", args={"staged": staged}, on_failure="hold"),)), {"x": "0", "y": "0"})
    kinds = {**KINDS, "both": Both}
    perform = MiniWorld.perform

    def broken(self: MiniWorld, action: Action, key: ActionKey, progress: Any) -> ActionResult:
        if getattr(action, "script", "") == "set y=1":
            raise RuntimeError("the link is gone")
        return perform(self, action, key, progress)

    with monkeypatch.context() as patch:
        patch.setattr(MiniWorld, "perform", broken)
        driven = lab.drive(kinds=kinds)
    assert driven is not None
    assert driven.exit_code is ExitCode.IN_DOUBT and lab.outside.values == {"x": "1", "y": "0"}
    say(lab, "resolve", "t", outcome="not_done")(None)  # type: ignore[arg-type]
    driven = lab.drive(kinds=kinds, back=True, setup=say(lab, "rollback"))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert lab.outside.values == {"x": "0", "y": "0"}


def test_what_was_taken_back_begins_anew(tmp_path: Path) -> None:
    """Its condition is looked at again, and its batches have time to show what they did."""
    lab = Lab(tmp_path, Plan(runbook="anew", steps=(
        step("a", "put", args={"key": "a", "value": "1"}),
        step("b", "put", args={"key": "b", "value": "1"}, after=["a"]),
        step("c", "log", args={"line": "c"}, after=["b"], when="outputs.b.old == '0'"),
        step("d", "put", args={"key": "d{n}", "value": "1"}, hosts=3, after=["c"], batch=1,
             soak=100.0),
    )), {"a": "0", "b": "0", "d0": "0", "d1": "0", "d2": "0"})
    begun = lab.clock.now()
    lab.drive()
    assert lab.clock.now() - begun == 200.0 and scripts(lab).count("c") == 1
    lab.drive(back=True, setup=say(lab, "rollback", to="a"))
    lab.outside.values["b"] = "5"
    begun = lab.clock.now()
    driven = lab.drive()
    assert driven is not None and driven.exit_code is ExitCode.OK
    assert lab.state.nodes["c"].state is NodeState.SKIPPED and scripts(lab).count("c") == 1
    assert lab.clock.now() - begun == 200.0


def test_a_node_in_doubt_is_not_undone_until_somebody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = _b_in_flight(tmp_path, effect=True)
    with monkeypatch.context() as patch:
        patch.setattr(MiniWorld, "resolve",
                      lambda self, action, key: Resolution(outcome="unknown"))
        for _ in range(3):
            driven = lab.drive(back=True, setup=say(lab, "rollback"))
            assert driven is not None
            assert driven.exit_code is ExitCode.NOT_RESTORED
            assert "un-b" not in scripts(lab), "undone while it may still be at work"
            assert lab.outside.values["a"] == "1", "what comes before it has to wait"
        driven = lab.drive(setup=say(lab, "resolve", "b", outcome="done"))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert scripts(lab)[-2:] == ["un-b", "set a=0"]


def test_an_undo_in_doubt_is_not_repeated_until_somebody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path, TWO, ZERO)
    lab.drive()
    lab.drive(back=True, setup=say(lab, "rollback"),
              observer=kills_at("b", "undo", "intent")())
    assert lab.state.nodes["b"].state is NodeState.UNDOING
    events = [e for e in lab.store.events(lab.run_id) if e.kind == "intent" and e.op == "undo"]
    with monkeypatch.context() as patch:
        patch.setattr(MiniWorld, "resolve",
                      lambda self, action, key: Resolution(outcome="unknown"))
        for _ in range(3):
            driven = lab.drive(back=True, setup=say(lab, "rollback"))
            assert driven is not None
            assert driven.exit_code is ExitCode.NOT_RESTORED
            assert "un-b" not in scripts(lab)
        driven = lab.drive(setup=say(lab, "resolve", "b", outcome="done"))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK, driven.why
    assert "un-b" not in scripts(lab)
    assert len(events) == 1


def test_an_undo_in_doubt_that_did_not_happen_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path, TWO, ZERO)
    lab.drive()
    lab.drive(back=True, setup=say(lab, "rollback"),
              observer=kills_at("b", "undo", "intent")())
    with monkeypatch.context() as patch:
        patch.setattr(MiniWorld, "resolve",
                      lambda self, action, key: Resolution(outcome="unknown"))
        lab.drive()
        driven = lab.drive(setup=say(lab, "resolve", "b", outcome="not_done"))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert scripts(lab).count("un-b") == 1


def test_an_undo_nobody_could_be_asked_about_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path, TWO, ZERO)
    lab.drive()
    perform = MiniWorld.perform

    def lost(self: MiniWorld, action: Any, key: ActionKey, progress: Any) -> Any:
        result = perform(self, action, key, progress)
        if key.op == "undo" and key.node == "b":
            raise OSError("the line is dead")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(MiniWorld, "perform", lost)
        driven = lab.drive(back=True, setup=say(lab, "rollback"))
    assert driven is not None
    assert driven.exit_code is ExitCode.NOT_RESTORED
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert scripts(lab).count("un-b") == 1


# -- back, forward, and back again -------------------------------------------------------------


def test_a_skipped_step_that_had_effects_is_taken_back_like_any_other(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "put", args={"key": "a", "value": "1"}, on_failure="hold"),))
    lab = Lab(tmp_path, plan, ZERO)
    lab.drive(faults=FailSteps(["a"]))
    driven = lab.drive(setup=say(lab, "skip", "a"))
    assert driven is not None
    assert driven.exit_code is ExitCode.OK
    assert lab.outside.values["a"] == "1"
    driven = lab.drive(back=True, setup=say(lab, "rollback"))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert lab.outside.values["a"] == "0"
    assert lab.state.phase is RunPhase.ROLLED_BACK


def test_a_skipped_step_that_never_acted_is_left_alone(tmp_path: Path) -> None:
    lab = Lab(tmp_path, TWO, ZERO)
    lab.drive(setup=say(lab, "skip", "b"))
    driven = lab.drive(back=True, setup=say(lab, "rollback"))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert scripts(lab) == ["set a=1", "set a=0"]
    assert lab.state.nodes["b"].state is NodeState.SKIPPED


def test_back_and_forward_and_back_with_nothing_to_undo(tmp_path: Path) -> None:
    """A wait is restored without an undo intent; twice must not collide in the journal."""
    plan = Plan(runbook="r", steps=(
        step("a", "put", args={"key": "a", "value": "1"}),
        step("w", "pause", after=["a"])))
    lab = Lab(tmp_path, plan, ZERO)
    lab.drive()
    for _ in range(3):
        driven = lab.drive(back=True, setup=say(lab, "rollback", to="a"))
        assert driven is not None
        assert driven.exit_code is ExitCode.HELD, driven.why
        driven = lab.drive()
        assert driven is not None
        assert driven.exit_code is ExitCode.OK


def test_a_second_life_goes_back_to_what_it_found_itself(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("k", "is", args={"key": "k", "value": ""}),
        step("a", "put", after=["k"], args={"key": "a", "value": "1"}),
        step("b", "put", after=["a"], args={"key": "b", "value": "1"})))
    lab = Lab(tmp_path, plan, {"a": "0", "b": "0"})
    lab.drive()
    lab.drive(back=True, setup=say(lab, "rollback", to="k"))
    assert lab.outside.values == {"a": "0", "b": "0"}
    # Meanwhile somebody changes one, and does the other by hand.
    lab.outside.values.update(a="other", b="1")
    lab.drive()
    assert lab.state.nodes["b"].detail == "already so"
    driven = lab.drive(back=True, setup=say(lab, "rollback"))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert lab.outside.values == {"a": "other", "b": "1"}


def test_what_was_undone_is_not_undone_again_when_the_second_life_did_nothing(
    tmp_path: Path,
) -> None:
    plan = Plan(runbook="r", steps=(
        step("k", "is", args={"key": "k", "value": ""}),
        step("b", "log", after=["k"], args={"line": "b"})))
    lab = Lab(tmp_path, plan)
    lab.drive()
    lab.drive(back=True, setup=say(lab, "rollback", to="k"))
    lab.outside.unreachable = {"b"}
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert scripts(lab) == ["b", "un-b"]


def test_a_step_that_only_waited_needs_no_look_at_the_world_to_go_back(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "put", args={"key": "a", "value": "1"}),
        step("w", "pause", after=["a"])))
    lab = Lab(tmp_path, plan, ZERO)
    lab.drive()
    lab.outside.unreachable = {"clock"}
    driven = lab.drive(back=True, setup=say(lab, "rollback"))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert lab.outside.values["a"] == "0"


# -- decisions outlive controllers -------------------------------------------------------------


def test_accepted_drift_outlives_the_controller(tmp_path: Path) -> None:
    lab = Lab(tmp_path, TWO, ZERO)
    lab.drive()
    lab.outside.values["a"] = "somebody else"
    lab.drive(back=True, setup=say(lab, "rollback", accept_drift=["a"]),
              observer=kills_at("b", "undo", "restored")())
    assert lab.outside.values["a"] == "somebody else"
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert lab.outside.values["a"] == "0"


def test_an_order_to_go_back_outlives_the_controller(tmp_path: Path) -> None:
    lab = Lab(tmp_path, TWO, ZERO)
    lab.drive()
    lab.outside.values["a"] = "somebody else"
    lab.drive(back=True, setup=say(lab, "rollback", accept_drift=["a"], why="it hurts"),
              observer=kills_at("", "", "decision")())
    assert lab.store.inbox(lab.run_id) == []
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert "it hurts" in driven.why
    assert lab.outside.values["a"] == "0"


def test_an_overrun_budget_turns_the_run_back_although_its_controller_died(
    tmp_path: Path,
) -> None:
    plan = Plan(
        runbook="r", policy=Policy(on_breach="rollback"),
        budgets=(Budget(name="short", from_step="a", from_edge="start", to_step="b",
                        to_edge="end", limit=5.0),),
        steps=(step("a", "put", args={"key": "a", "value": "1"}),
               step("w", "pause", after=["a"]),
               step("b", "log", after=["w"], args={"line": "b"})))
    lab = Lab(tmp_path, plan, ZERO)
    lab.drive(observer=kills_at("", "", "breach")())
    assert [b.what for b in lab.state.breaches] == ["short"]
    assert not lab.state.rolling_back
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert lab.outside.values["a"] == "0"


def test_a_hold_is_over_when_somebody_resumes(tmp_path: Path) -> None:
    """An order refused at a point of no return is not given again by itself."""
    plan = Plan(runbook="r", steps=(
        step("a", "put", args={"key": "a", "value": "1"}, point_of_no_return=True),
        step("b", "log", after=["a"], args={"line": "b"})))
    lab = Lab(tmp_path, plan, ZERO)
    lab.drive(setup=say(lab, "skip", "b"))
    driven = lab.drive(back=True, setup=say(lab, "rollback"))
    assert driven is not None
    assert driven.exit_code is ExitCode.HELD
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.OK


def test_why_a_run_went_back_is_not_forgotten_when_it_is_stopped_and_resumed(
    tmp_path: Path,
) -> None:
    lab = Lab(tmp_path, TWO, ZERO)
    lab.drive()

    class StopIt(Observer):
        def on_event(self, event: Event, state: RunState) -> None:
            if event.kind == "restored" and lab.ctx is not None:
                lab.ctx.stop()

    driven = lab.drive(back=True, setup=say(lab, "rollback", why="it hurts"), observer=StopIt())
    assert driven is not None
    assert driven.exit_code is ExitCode.STOPPED

    class Phases(Observer):
        seen: ClassVar[list[RunPhase]] = []

        def on_event(self, event: Event, state: RunState) -> None:
            if event.kind == "intent":
                self.seen.append(state.phase)

    lab.outside.values["a"] = "somebody else"
    for _ in range(2):
        driven = lab.drive(observer=Phases())
        assert driven is not None
        assert driven.exit_code is ExitCode.NOT_RESTORED
        assert driven.why == "asked by ada: it hurts; not restored: a"
    lab.outside.values["a"] = "1"
    driven = lab.drive(observer=Phases())
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert driven.why == "asked by ada: it hurts"
    assert set(Phases.seen) == {RunPhase.ROLLING_BACK}


# -- people while the run goes back ------------------------------------------------------------


class Yes(Observer):
    """Answers every question with yes."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.asked: list[str] = []

    def on_question(self, node: str, question: Mapping[str, Any]) -> None:
        self.asked.append(str(question["question"]))
        self.lab.store.post(self.lab.run_id, "approve", who="bob", now=1.0, node=node)


def test_a_question_of_an_undo_is_heard_and_answered(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(step("q", "ask"),))
    lab = Lab(tmp_path, plan)
    lab.drive(observer=Yes(lab), setup=listening())
    people = Yes(lab)
    driven = within(lambda: go_back(lab, people))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK, driven.why
    assert people.asked == ["Undone?"]


def test_a_late_answer_to_the_doing_does_not_answer_the_undo(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(step("q", "ask", on_failure="hold"),))
    lab = Lab(tmp_path, plan)
    lab.drive(observer=Yes(lab), setup=listening())

    class Late(Yes):
        def on_event(self, event: Event, state: RunState) -> None:
            if event.kind == "rollback_started" and lab.ctx is not None:
                late = lab.store.inbox(lab.run_id)
                assert late == []
                lab.store.post(lab.run_id, "approve", who="eve", now=1.0, node="q")
                lab.ctx.deliver(lab.store.inbox(lab.run_id)[0])

    people = Late(lab)
    driven = within(lambda: go_back(lab, people))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    said = [d.who for d in lab.state.decisions if d.verb == "approve"]
    assert said == ["bob", "bob"]


def test_orders_that_come_while_the_run_goes_back(tmp_path: Path) -> None:
    """A further order to go back is carried out after the one under way; others are noted."""
    plan = Plan(runbook="r", steps=(
        step("a", "put", args={"key": "a", "value": "1"}),
        step("b", "put", args={"key": "b", "value": "1"}),
        step("q", "ask", after=["a", "b"])))
    lab = Lab(tmp_path, plan, {"a": "0", "b": "0"})
    lab.drive(observer=Yes(lab), setup=listening())
    lab.outside.values["a"] = "somebody else"

    class Busy(Yes):
        def on_question(self, node: str, question: Mapping[str, Any]) -> None:
            post = lab.store.post
            post(lab.run_id, "skip", who="ada", now=1.0, node="b")
            post(lab.run_id, "retry", who="ada", now=1.0, node="b")
            post(lab.run_id, "pause", who="ada", now=1.0)
            post(lab.run_id, "rollback", who="ada", now=1.0, data={"accept_drift": ["a"]})
            super().on_question(node, question)

    driven = within(lambda: go_back(lab, Busy(lab)))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK, driven.why
    assert lab.outside.values == {"a": "0", "b": "0"}
    assert lab.store.inbox(lab.run_id) == []
    late = [text for _, _, text in lab.state.notes if "when the run was going back" in text]
    assert [text.split()[0] for text in late] == ["skip", "retry", "pause"]


def test_stop_ends_a_question_of_an_undo_and_resume_asks_again(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(step("q", "ask"),))
    lab = Lab(tmp_path, plan)
    lab.drive(observer=Yes(lab), setup=listening())

    class StopIt(Observer):
        def on_question(self, node: str, question: Mapping[str, Any]) -> None:
            if lab.ctx is not None:
                lab.ctx.stop()

    driven = within(lambda: go_back(lab, StopIt()))
    assert driven is not None
    assert driven.exit_code is ExitCode.STOPPED
    driven = within(lambda: lab.drive(observer=Yes(lab), setup=listening()))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK


def test_yes_is_no_answer_to_retry_skip_or_roll_back(tmp_path: Path) -> None:
    """… and it must not wait there to answer the gate's next question."""
    plan = Plan(runbook="r", steps=(step("q", "ask", on_failure="ask"),))
    lab = Lab(tmp_path, plan)

    class People(Observer):
        asked: ClassVar[list[str]] = []

        def on_question(self, node: str, question: Mapping[str, Any]) -> None:
            self.asked.append(str(question["question"]))
            verbs = {1: ["reject"], 2: ["approve", "retry"], 3: ["reject"], 4: ["skip"]}
            for verb in verbs[len(self.asked)]:
                lab.store.post(lab.run_id, verb, who="bob", now=1.0, node=node)

    driven = within(lambda: lab.drive(observer=People(), setup=listening()))
    assert driven is not None
    assert driven.exit_code is ExitCode.OK
    assert len(People.asked) == 4, "the wrong yes was taken for the answer of the second try"
    assert any("say one of retry, skip, rollback" in text for _, _, text in lab.state.notes)
    assert lab.store.inbox(lab.run_id) == []


# -- slots, pauses, retries --------------------------------------------------------------------


class TurnClock(ManualClock):
    """Waits end when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()
        self.go = threading.Event()

    def wait(self, until: float, wake: threading.Event | None = None) -> bool:
        self.waiting.set()
        assert self.go.wait(PATIENCE)
        return super().wait(until, wake)


def test_a_step_skipped_while_it_waits_for_its_retry_stays_skipped(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("b", "log", args={"line": "b"}, retry=Retry(times=3, wait=60.0)),))
    lab = Lab(tmp_path, plan)
    lab.outside.broken = {"b"}
    clock = lab.clock = TurnClock()

    class SkipIt(Observer):
        def on_event(self, event: Event, state: RunState) -> None:
            if event.kind == "failed":
                lab.store.post(lab.run_id, "skip", who="ada", now=1.0, node="b")
            if event.kind == "skipped":
                clock.go.set()

    driven = within(lambda: lab.drive(observer=SkipIt(), setup=listening()))
    assert driven is not None
    assert driven.exit_code is ExitCode.OK
    assert lab.state.nodes["b"].state is NodeState.SKIPPED
    assert lab.state.nodes["b"].attempt == 1


def test_a_step_skipped_while_it_looks_at_the_world_does_not_act(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path, Plan(runbook="r", steps=TWO.steps[:1]), ZERO)
    query = MiniHost.query

    def skipped_meanwhile(self: MiniHost, command: str, **more: object) -> CommandResult:
        ctx = lab.ctx
        assert ctx is not None
        ctx.append(Draft("skipped", "a", "do", 1, {"why": "skipped by ada"}))
        return query(self, command, **more)

    monkeypatch.setattr(MiniHost, "query", skipped_meanwhile)
    driven = lab.drive()
    assert driven is not None
    assert driven.exit_code is ExitCode.OK
    assert scripts(lab) == []
    assert lab.state.nodes["a"].state is NodeState.SKIPPED


def test_waiting_for_a_retry_or_a_poll_keeps_no_slot(tmp_path: Path) -> None:
    """With one slot: what is polled for is brought about by a step beside it."""
    plan = Plan(runbook="r", policy=Policy(max_parallel=1), steps=(
        step("p", "is", args={"key": "b", "value": "1"}, poll=Poll(every=1, timeout=900)),
        step("r", "log", args={"line": "r"}, retry=Retry(times=3, wait=60.0)),
        step("b", "put", args={"key": "b", "value": "1"}, not_before=0.0)))
    lab = Lab(tmp_path, plan, {"b": "0"})
    clock = lab.clock = TurnClock()
    lab.outside.unreachable = {"r"}

    class Release(Observer):
        def on_event(self, event: Event, state: RunState) -> None:
            if event.node == "b" and event.kind == "verified":
                lab.outside.unreachable = set()
                clock.go.set()

    def free(ctx: RunContext) -> None:
        # `not_before` lies in the past: only that wait does not stop here.
        ordinary = clock.wait
        clock.wait = (  # type: ignore[method-assign]
            lambda until, wake=None: True if until == 0.0 else ordinary(until, wake))

    driven = within(lambda: lab.drive(observer=Release(), setup=free))
    assert driven is not None
    assert driven.exit_code is ExitCode.OK


def test_a_paused_run_starts_no_further_batch(tmp_path: Path) -> None:
    plan = Plan(runbook="r", steps=(
        step("a", "put", hosts=3, args={"key": "k{n}", "value": "1"}, batch=1),))
    lab = Lab(tmp_path, plan)
    paused, seen = threading.Event(), threading.Event()

    class PauseIt(Observer):
        def on_event(self, event: Event, state: RunState) -> None:
            if event.kind == "verified" and not paused.is_set():
                ctx = lab.ctx
                assert ctx is not None
                paused.set()
                ctx.state.phase = RunPhase.PAUSED

    def cont() -> None:
        assert paused.wait(PATIENCE)
        seen.wait(0.5)
        assert len(lab.outside.effects) == 1
        ctx = lab.ctx
        assert ctx is not None
        lab.store.post(lab.run_id, "continue", who="ada", now=1.0)

    lab_thread = threading.Thread(target=cont)
    lab_thread.start()
    driven = within(lambda: lab.drive(observer=PauseIt(), setup=listening()))
    lab_thread.join(PATIENCE)
    assert driven is not None
    assert driven.exit_code is ExitCode.OK
    assert any(e.kind == "continued" for e in lab.store.events(lab.run_id))


def test_undos_keep_to_max_parallel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(runbook="r", policy=Policy(max_parallel=2), steps=tuple(
        step(f"s{n}", "log", args={"line": f"l{n}"}) for n in range(6)))
    lab = Lab(tmp_path, plan)
    lab.drive()
    at_work: Counter[str] = Counter()
    most = 0
    perform = MiniWorld.perform
    pause = threading.Event()

    def counting(self: MiniWorld, action: Any, key: Any, progress: Any) -> Any:
        nonlocal most
        at_work["now"] += 1
        most = max(most, at_work["now"])
        pause.wait(0.05)
        at_work["now"] -= 1
        return perform(self, action, key, progress)

    monkeypatch.setattr(MiniWorld, "perform", counting)
    driven = lab.drive(back=True, setup=say(lab, "rollback"))
    assert driven is not None
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert most <= 2


def test_a_planned_skip_is_durable_with_the_start(tmp_path: Path) -> None:
    """Killed between the two, resume would run what planning had left out."""
    left_out = step("b", "log", after=["a"], args={"line": "b"})
    plan = Plan(runbook="r", steps=(
        step("a", "log", args={"line": "a"}),
        PlannedStep(**{**left_out.model_dump(), "skipped": "left out"})))
    for kill_at in (1, 2, 3, 4):
        lab = Lab(tmp_path / str(kill_at), plan)
        lab.drive(kill_at=kill_at)
        lab.drive()
        assert scripts(lab) == ["a"]
        assert lab.state.phase is RunPhase.DONE


def test_the_first_fault_is_told_not_that_others_were_stopped_by_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path, TWO, ZERO)
    lab.drive()
    ctx = lab.ctx
    assert ctx is not None
    ctx.halt.clear()

    def work(name: str) -> bool:
        if name == "a":
            raise KeyError("the real one")
        ctx.halt.wait(PATIENCE)
        raise Stopping

    with pytest.raises(KeyError):
        GraphRunner(ctx, {"a": (), "b": ()}, work, tick=lambda: True).run()


def test_a_secret_that_is_a_key_is_redacted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MiniWorld, "redact", lambda self, text: text.replace("hunter2", "⟦s⟧"))
    lab = Lab(tmp_path, TWO, ZERO)

    def tell(ctx: RunContext) -> None:
        ctx.append(Draft("note", data={"text": "x", "found": {"hunter2": ["hunter2"]}}))

    lab.drive(setup=tell)
    told = [dict(e.data) for e in lab.store.events(lab.run_id) if "found" in e.data]
    assert [one["found"] for one in told] == [{"⟦s⟧": ["⟦s⟧"]}]
