"""The way back is kept inside the window: refused steps, and a turn in time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

from runbook.engine.context import ANSWER_LOOK_EVERY, Observer, RunContext
from runbook.engine.driver import Driven
from runbook.engine.history import Expected, Reckoning
from runbook.engine.in_time import latest_back, outlook, window_steps
from runbook.engine.limits import next_limit, overruns
from runbook.engine.report import build_report
from runbook.errors import ExitCode
from runbook.kinds.wait import Wait
from runbook.model.events import Event
from runbook.model.kind import Kind
from runbook.model.plan import Plan, PlannedStep
from runbook.model.runbook import Policy, Window, WindowPolicy
from runbook.model.runstate import RunState
from runbook.model.state import NodeState, RunPhase
from tests.engine.miniworld import KINDS, Lab, ManualClock, step
from tests.views.story import Story
from tests.views.story import step as told_step

START = 1000.0
"""Of the lab's clock."""


class Waits(Wait):
    """``wait`` under a name of the mini world."""

    name: ClassVar[str] = "waits"


ALL_KINDS: dict[str, type[Kind]] = {**KINDS, "waits": Waits}


def _put(name: str, *after: str, undo: float = 10.0, takes: float = 10.0) -> PlannedStep:
    made = step(name, "put", after=after, args={"key": name, "value": "1"})
    return made.model_copy(update={"estimate": takes, "estimate_undo": undo})


def _wait(name: str, *after: str, seconds: float) -> PlannedStep:
    made = step(name, "waits", after=after, args={"for": seconds})
    return made.model_copy(update={"estimate": seconds, "estimate_undo": 0.0})


def _plan(*steps: PlannedStep, window: float = 100.0, **policy: Any) -> Plan:
    given: dict[str, Any] = {"safety": 0.0, **policy}
    return Plan(runbook="r", steps=steps, policy=Policy(window=WindowPolicy(**given)),
                window=Window(start=START, duration=window, timezone="UTC"))


class Answers(Observer):
    """Somebody answers the first question."""

    def __init__(self, lab: Lab, verb: str, **data: str) -> None:
        self.lab, self.verb, self.data = lab, verb, data
        self.asked: list[str] = []

    def on_event(self, event: Event, state: RunState) -> None:
        if event.kind == "ask":
            self.asked.append(str(event.data["question"]))
            self.lab.store.post(self.lab.run_id, self.verb, who="ada", now=1.0, node=event.node,
                                data=self.data)


class Stepwise(ManualClock):
    """Time that passes by the second, and only when the driver has looked at the time before."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(START)
        self._lab = lab
        self._driver = threading.current_thread()
        self._looked = threading.Event()

    def now(self) -> float:
        if threading.current_thread() is self._driver:
            self._looked.set()
        return super().now()

    def wait(self, until: float, wake: threading.Event | None = None) -> bool:
        while super().now() < until:
            self._looked.clear()
            super().wait(min(until, super().now() + 1.0))
            assert self._lab.ctx is not None
            self._lab.ctx.signals.notify()
            assert self._looked.wait(30.0)
            if wake is not None and wake.is_set():
                return False
        return True


class Eager(ManualClock):
    """A real time by which it is always time to look into the inbox and at the limits."""

    def now(self) -> float:
        self.wait(super().now() + ANSWER_LOOK_EVERY)
        return super().now()


class InLab(Lab):
    """A lab that knows ``waits``."""

    def stepwise(self) -> None:
        self.clock = Stepwise(self)

    def drive(self, *args: Any, **more: Any) -> Driven | None:
        return super().drive(*args, **{"kinds": ALL_KINDS, "real": Eager(), **more})

    def run(self, answer: str = "", level: str = "live", **data: str) -> Any:
        watcher = Answers(self, answer, **data) if answer else Observer()
        driven = self.drive(observer=watcher, level=level)
        assert driven is not None
        return driven, getattr(watcher, "asked", [])


# a: 10 s, then b: 60 s and 30 s back. After b: 1000 + 10 + 60 + 30 + 10.
LATE = (_put("a"), _put("b", "a", takes=60.0, undo=30.0))


def test_the_arithmetic_of_a_step() -> None:
    plan = _plan(*LATE, window=100.0)
    state = Story(plan, start=START).state
    known = Reckoning()
    first = outlook(state, plan.by_id["a"], START, known)
    assert first is not None
    assert (first.takes, first.back, first.back_at, first.over) == (10.0, 10.0, START + 20, -80.0)
    # Nothing of `a` stands in the journal yet; with it done there are both to take back.
    told = Story(plan, start=START).do("a", 10.0)
    second = outlook(told.state, plan.by_id["b"], told.now, known)
    assert second is not None
    assert (second.takes, second.back, second.over) == (60.0, 40.0, 10.0)
    assert second.arithmetic("UTC") == (
        "00:16:50 now + 1m for this step (estimate) + 40s to go back (estimate) = 00:18:30; "
        "the window ends 00:18:20, 10s earlier")


def test_measured_durations_take_the_place_of_estimates() -> None:
    plan = _plan(*LATE, window=100.0)
    told = Story(plan, start=START).do("a", 10.0)
    known = Reckoning(undo={"b": Expected(5.0, "same step", 3)},
                      do={"b": Expected(20.0, "same kind and host", 1)})
    found = outlook(told.state, plan.by_id["b"], told.now, known)
    assert found is not None
    assert (found.takes, found.back, found.over) == (20.0, 15.0, -55.0)
    assert found.takes_by == "measured, same kind and host"
    assert found.back_by == "1 of 2 steps measured"


def test_what_is_at_work_has_to_end_before_the_way_back_can_begin() -> None:
    plan = _plan(_put("a", takes=50.0), _put("b", takes=1.0).model_copy(update={"after": ()}))
    told = Story(plan, start=START).intent("a").wait(10)
    found = outlook(told.state, plan.by_id["b"], told.now, Reckoning())
    assert found is not None
    assert (found.busy, found.takes, found.back_at) == (40.0, 1.0, told.now + 40 + 10)
    cut = plan.model_copy(update={"steps": (
        plan.steps[0].model_copy(update={"interrupt": True}), plan.steps[1])})
    told = Story(Plan.model_validate(cut.model_dump()), start=START).intent("a").wait(10)
    found = outlook(told.state, told.plan.by_id["b"], told.now, Reckoning())
    assert found is not None and found.busy == 0.0


def test_steps_after_the_window_and_points_of_no_return_are_not_bound() -> None:
    plan = _plan(
        told_step("a", undo=10), told_step("gone", "a", undo=900, point_of_no_return=True),
        told_step("tidy", "gone", at=START + 3600), told_step("tidier", "tidy"))
    assert window_steps(plan) == {"a", "gone"}
    state = Story(plan, start=START).state
    assert outlook(state, plan.by_id["gone"], START, Reckoning()) is None
    assert outlook(state, plan.by_id["tidy"], START, Reckoning()) is None
    past = Story(plan, start=START).do("a", 1).do("gone", 1)
    assert outlook(past.state, plan.by_id["tidy"], past.now, Reckoning()) is None


@pytest.mark.parametrize(("level", "enforce", "action"), [
    ("live", "live", "rollback"), ("staging", "live", "warn"), ("staging", "always", "rollback"),
    ("sandbox", "live", "rollback"),
])
def test_in_staging_the_window_is_only_told_of(level: str, enforce: str, action: str) -> None:
    plan = _plan(told_step("move"), enforce=enforce)
    plan = plan.model_copy(update={
        "policy": plan.policy.model_copy(update={"on_breach": "rollback"})})
    told = Story(plan, level=level, start=START)
    found = {one.what: one.action for one in overruns(plan, told.state, START + 101.0)}
    assert found == {"window": action}


def test_a_run_that_was_started_after_its_window_is_not_bound() -> None:
    plan = _plan(*LATE)
    state = Story(plan, start=START + 200).state
    assert outlook(state, plan.by_id["a"], START + 200, Reckoning()) is None
    assert overruns(plan, state, START + 201) == []
    assert next_limit(plan, state, START + 201) is None


def test_a_move_that_is_done_is_not_taken_back_for_what_comes_after_the_window() -> None:
    plan = _plan(told_step("move"), told_step("care", "move", at=START + 3600))
    under_way = Story(plan, start=START)
    assert next_limit(plan, under_way.state, START + 1) == pytest.approx(START + 100, abs=0.01)
    assert [one.what for one in overruns(plan, under_way.state, START + 101)] == ["window"]
    moved = under_way.do("move", 50.0)
    assert overruns(plan, moved.state, START + 101) == []
    assert next_limit(plan, moved.state, START + 51) is None


def test_a_window_that_was_amended_is_watched_anew() -> None:
    plan = _plan(told_step("a"), told_step("b", "a"))
    told = Story(plan, start=START).do("a", 50.0).wait(51.0)
    told.add("breach", what="window", limit=100.0, measured=101.0, action="hold")
    told.add("late", step="b", action="accepted", busy=0, takes=1, takes_by="", back=1, back_by="",
             safety=0, back_at=START, over=1, until=START + 400, who="ada", why="nearly")
    assert overruns(plan, told.state, START + 301) == []
    same = plan.model_copy(update={"title": "another word"})
    told.add("amended", plan=same.model_dump(mode="json"), digest="d", who="ada", why="")
    assert overruns(same, told.state, START + 301) == []
    assert told.state.accepted_until == START + 400
    longer = _plan(*plan.steps, window=300.0)
    told.add("amended", plan=longer.model_dump(mode="json"), digest="e", who="ada", why="")
    state = told.state
    assert state.accepted_until is None, "it was to be late by the old one"
    assert [one.what for one in overruns(longer, state, START + 301)] == ["way back", "window"]
    assert [one.what for one in state.breaches] == ["window"], "what was told stays told"


def test_the_latest_moment_of_being_back_looks_at_all_that_is_still_to_come() -> None:
    plan = _plan(*LATE, _put("c", "b", takes=5.0, undo=500.0))
    state = Story(plan, start=START).state
    assert latest_back(state, START, Reckoning()) == START + 10 + 60 + 5 + 540


def test_a_step_that_would_be_too_late_is_refused_before_it_starts(tmp_path: Path) -> None:
    lab = InLab(tmp_path, _plan(*LATE, window=95.0), {"a": "0", "b": "0"})
    driven, asked = lab.run("reject", why="we come back next week")
    assert driven.exit_code is ExitCode.HELD
    assert "b was not started: going back would have ended outside the window" in driven.why
    assert "we come back next week" in driven.why
    assert asked[0].startswith("b is refused: after it, going back would end outside the window. ")
    assert "1m for this step (estimate) + 40s to go back (estimate)" in asked[0]
    assert lab.outside.values == {"a": "1", "b": "0"}
    assert lab.state.nodes["b"].state is NodeState.PENDING
    assert [late.action for late in lab.state.lateness] == ["ask", "refused"]
    assert lab.state.lateness[1].who == "ada"


def test_refused_it_goes_back_where_the_policy_says_so(tmp_path: Path) -> None:
    lab = InLab(tmp_path, _plan(*LATE, window=95.0, on_breach="rollback"), {"a": "0", "b": "0"})
    driven, _ = lab.run("reject", why="no")
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert lab.outside.values == {"a": "0", "b": "0"}
    assert lab.clock.now() <= START + 95


def test_a_named_person_accepts_it_with_a_reason(tmp_path: Path) -> None:
    lab = InLab(tmp_path, _plan(*LATE, window=95.0, on_breach="rollback"), {"a": "0", "b": "0"})
    driven, asked = lab.run("approve", why="the lead says so")
    assert driven.exit_code is ExitCode.OK
    assert len(asked) == 1
    assert lab.outside.values == {"a": "1", "b": "1"}
    ask, accepted = lab.state.lateness
    assert (accepted.action, accepted.who, accepted.why) == ("accepted", "ada", "the lead says so")
    assert ask.over == accepted.over > 0
    assert lab.state.accepted_until == accepted.until
    assert not lab.state.breaches, "what was accepted is no breach"


def test_a_yes_that_comes_too_late_for_what_it_is_about_is_asked_for_again(tmp_path: Path) -> None:
    lab = InLab(tmp_path, _plan(*LATE, window=95.0), {"a": "0", "b": "0"})

    class Slow(Answers):
        """Thinks about the first question for longer than an answer to it would hold."""

        def on_event(self, event: Event, state: RunState) -> None:
            if event.kind == "ask" and not self.asked:
                self.lab.clock.wait(self.lab.clock.now() + 600.0)
            super().on_event(event, state)

    watcher = Slow(lab, "approve", why="the lead says so")
    driven = lab.drive(observer=watcher, level="live")
    assert driven is not None and driven.exit_code is ExitCode.OK
    assert [late.action for late in lab.state.lateness] == ["ask", "accepted", "ask", "accepted"]
    first, stale, _, last = lab.state.lateness
    assert stale.over == first.over + 600.0, "as it stood when it was accepted"
    assert stale.back_at + stale.safety > stale.until
    assert last.back_at + last.safety <= last.until
    assert "What was accepted held until" in watcher.asked[1]
    assert "What was accepted" not in watcher.asked[0]


def test_a_yes_without_a_reason_is_none(tmp_path: Path) -> None:
    lab = InLab(tmp_path, _plan(*LATE, window=95.0), {})

    class TwoAnswers(Answers):
        def on_event(self, event: Event, state: RunState) -> None:
            super().on_event(event, state)
            if event.kind == "decision" and event.data["verb"] == "approve":
                lab.store.post(lab.run_id, "reject", who="eve", now=1.0, node=event.node,
                               data={"why": "no"})

    driven = lab.drive(observer=TwoAnswers(lab, "approve"))
    assert driven is not None and driven.exit_code is ExitCode.HELD
    assert "rejected by eve" in driven.why


def test_what_was_accepted_is_asked_again_only_when_it_gets_much_worse(tmp_path: Path) -> None:
    # The wait takes ten times as long as anybody thought.
    slow = _wait("w", "c", seconds=300.0).model_copy(update={"estimate": 30.0})
    plan = _plan(_put("a"), _put("b", "a", takes=60.0, undo=30.0), _put("c", "b", takes=60.0),
                 slow, _put("d", "w"), window=95.0)
    lab = InLab(tmp_path, plan, {})
    driven, asked = lab.run("approve", why="go on")
    assert driven.exit_code is ExitCode.OK
    assert [text.split()[0] for text in asked] == ["b", "d"]


def test_a_rehearsal_only_shows_it(tmp_path: Path) -> None:
    lab = InLab(tmp_path, _plan(*LATE, window=95.0, on_breach="rollback"), {})
    driven, asked = lab.run("approve", level="sandbox")
    assert driven.exit_code is ExitCode.OK
    assert not asked
    assert [late.action for late in lab.state.lateness] == ["shown"]
    assert lab.state.phase is RunPhase.DONE


@pytest.mark.parametrize("enforce", ["never", "always"])
def test_the_policy_says_where_it_is_enforced(tmp_path: Path, enforce: str) -> None:
    plan = _plan(*LATE, window=95.0, enforce=enforce)
    live = InLab(tmp_path / "live", plan, {}).run("reject", why="no")
    played = InLab(tmp_path / "played", plan, {}).run("reject", level="sandbox", why="no")
    assert bool(live[1]) is bool(played[1]) is (enforce == "always")


# a: done at once; then a wait during which the way back (40 s) has to begin.
IN_TIME = (_put("a", undo=40.0), _wait("w", "a", seconds=500.0).model_copy(
    update={"estimate": 5.0}), _put("b", "w"))


def test_the_way_back_begins_in_time_and_not_when_the_window_is_over(tmp_path: Path) -> None:
    lab = InLab(tmp_path, _plan(*IN_TIME, on_breach="rollback", safety=7.0), {"a": "0", "b": "0"})
    lab.stepwise()
    driven, _ = lab.run()
    assert driven.exit_code is ExitCode.ROLLED_BACK
    assert "the way back has to begin now to end inside the window: 40s to go back" in driven.why
    (breach,) = lab.state.breaches
    assert breach.what == "way back"
    told = build_report(lab.state, lab.store.events(lab.run_id), now=lab.clock.now())
    assert told.headline.startswith("Turned back in time, and everything was put back")
    # 100 s of window, 40 s to go back, 7 s to spare.
    assert START + 53.0 <= breach.ts < START + 55.0
    assert lab.outside.values == {"a": "0", "b": "0"}


def test_without_a_policy_it_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    lab = InLab(tmp_path, _plan(*IN_TIME, window=450.0, safety=7.0, enforce="live"), {})
    lab.stepwise()
    driven, asked = lab.run("approve", why="it is nearly done")
    assert driven.exit_code is ExitCode.OK
    assert [b.what for b in lab.state.breaches] == ["way back", "window"]
    assert {b.action for b in lab.state.breaches} == {"warn"}
    assert [text.split()[0] for text in asked] == ["b"]


def test_nothing_done_there_is_nothing_to_hurry_for(tmp_path: Path) -> None:
    lab = InLab(tmp_path, _plan(
        _wait("w", seconds=99.0).model_copy(update={"estimate": 5.0}), on_breach="rollback",
        safety=5.0), {})
    lab.stepwise()
    driven, _ = lab.run()
    assert driven.exit_code is ExitCode.OK
    assert not lab.state.breaches


def test_an_open_question_is_overtaken_by_the_way_back(tmp_path: Path) -> None:
    """Nobody answers whether `b` may start; when it gets too late even for that, it goes back."""
    lab = InLab(tmp_path, _plan(*LATE, window=95.0, on_breach="rollback"), {"a": "0", "b": "0"})

    class TimePasses(Observer):
        def on_event(self, event: Event, state: RunState) -> None:
            if event.kind == "ask":
                lab.clock.wait(START + 86.0)

    driven = lab.drive(observer=TimePasses())
    assert driven is not None and driven.exit_code is ExitCode.ROLLED_BACK
    assert lab.state.nodes["b"].question == ""
    assert lab.outside.values == {"a": "0", "b": "0"}


def test_the_clock_is_in_the_journal(tmp_path: Path) -> None:
    lab = InLab(tmp_path, _plan(*LATE, window=7200.0), {"a": "0", "b": "0"})

    def ask(ctx: RunContext) -> None:
        lab.store.post(lab.run_id, "rollback", who="ada", now=1.0, data={})

    lab.run()
    lab.drive(back=True, setup=ask)
    events = lab.store.events(lab.run_id)
    clocks = {e.node: e.data["clock"] for e in events if e.kind == "intent" and e.op == "do"}
    assert clocks["a"] == {"remaining": 7200.0, "backout": 0.0, "settle": 0.0, "margin": 7200.0,
                           "basis": ""}
    assert clocks["b"]["backout"] == 10.0 and clocks["b"]["basis"] == "estimated"
    (back,) = [e for e in events if e.kind == "rollback_started"]
    assert back.data["clock"]["backout"] == 40.0
