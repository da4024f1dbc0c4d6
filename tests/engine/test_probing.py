"""Budgets measured by a client outside: what it adds up, and what that leads to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runbook.engine.context import Observer
from runbook.engine.probing import Meter, fault_of
from runbook.engine.timing import probe_active, read_budget
from runbook.errors import Errored, ExitCode
from runbook.model.events import Event
from runbook.model.plan import Plan
from runbook.model.ports import HttpResponse
from runbook.model.runbook import Budget, Policy, Poll, Probe, Window
from runbook.model.runstate import ProbeSummary, RunState
from runbook.transports.clock import SystemClock
from tests.engine.miniworld import Killed, Lab, step
from tests.views.story import START, Story, shop_plan
from tests.views.story import step as told_step

PROBE = Probe(url="http://shop.example/order-check", method="POST", every=0.1, timeout=1.0)


def _meter(*samples: tuple[str, float], every: float = 1.0) -> ProbeSummary:
    """Samples that took no time."""
    meter = Meter("b", every)
    meter.begin(samples[0][1])
    for seen, at in samples:
        meter.take(seen, at, at, "status 503" if seen == "down" else "")  # type: ignore[arg-type]
    assert meter.summary is not None
    return meter.summary


def test_an_outage_lasts_from_the_last_good_answer_to_the_next() -> None:
    found = _meter(("up", 10), ("up", 11), ("down", 12), ("down", 13), ("up", 14), ("up", 15))
    assert (found.state, found.down, found.longest, found.outages) == ("up", 3.0, 3.0, 1)
    assert (found.samples, found.failed, found.why) == (6, 2, "status 503")


def test_several_outages_add_up_and_the_longest_is_known() -> None:
    found = _meter(("up", 0), ("down", 1), ("up", 2), ("down", 3), ("down", 4), ("up", 5))
    assert (found.down, found.longest, found.outages) == (5.0, 3.0, 2)


def test_time_that_was_played_faster_before_an_outage_is_no_outage() -> None:
    found = _meter(("up", 0), ("down", 3600), ("up", 3601))
    assert found.down == 4.0


def test_what_nobody_could_ask_is_unknown_and_neither_up_nor_down() -> None:
    found = _meter(("up", 0), ("unknown", 1), ("unknown", 5), ("down", 7), ("up", 9))
    assert (found.unknown, found.down) == (6.0, 2.0)


def test_between_two_controllers_it_is_unknown() -> None:
    first = Meter("b", 1.0)
    first.begin(0.0)
    for at in (0.0, 1.0, 2.0):
        first.take("up", at, at)
    first.take("down", 3.0, 3.0, "status 503")
    second = Meter("b", 1.0, first.summary)
    second.begin(63.0)
    second.take("down", 64.0, 64.0, "status 503")
    second.take("up", 65.0, 65.0)
    found = second.summary
    assert found is not None
    # Down from 2 to 3, unknown from 3 to 64, down to 65.
    assert (found.down, found.unknown, found.outages) == (2.0, 61.0, 2)


@pytest.mark.parametrize(("probe", "answer", "why"), [
    ({}, {"status": 204}, ""),
    ({}, {"status": 302}, "status 302"),
    ({"status": (302,)}, {"status": 302}, ""),
    ({}, {"status": 0, "error": "connection refused"}, "connection refused"),
    ({"contains": "ok"}, {"status": 200, "body": "closed"}, "the answer does not contain 'ok'"),
])
def test_what_a_customer_calls_good(
    probe: dict[str, Any], answer: dict[str, Any], why: str
) -> None:
    asked = PROBE.model_copy(update=probe)
    assert fault_of(asked, HttpResponse(url=asked.url, **answer)) == why


def _told(state: str = "down", **more: Any) -> tuple[Story, Budget]:
    budget = Budget(name="orders", limit=60.0, probe=PROBE)
    told = Story(shop_plan(budgets=(budget,)))
    at = told.now
    told.add("probe", budget="orders", **{
        "state": state, "since": at, "until": at, "began": at, "samples": 1, **more})
    return told, budget


def test_an_open_outage_counts_up_to_now() -> None:
    told, budget = _told(down=20.0, outages=1)
    read = read_budget(told.state, budget, told.now + 30)
    assert (read.seconds, read.service, read.outages, read.breached) == (50.0, "down", 2, False)
    assert read_budget(told.state, budget, told.now + 41).breached


def test_when_the_controller_is_gone_it_is_unknown_and_not_down_for_ever() -> None:
    told, budget = _told(down=20.0, outages=1)
    read = read_budget(told.state, budget, told.now + 3600)
    assert (read.seconds, read.unknown, read.service) == (20.0, 3600.0, "unknown")
    told, budget = _told("up")
    read = read_budget(told.state, budget, told.now + 3600)
    assert (read.seconds, read.unknown, read.service) == (0.0, 3600.0, "unknown")


def test_the_longest_outage_can_be_what_counts() -> None:
    told, budget = _told("up", down=70.0, longest=40.0, outages=2)
    assert read_budget(told.state, budget, told.now).breached
    longest = budget.model_copy(update={"counts": "longest"})
    assert read_budget(told.state, longest, told.now).seconds == 40.0


class Service:
    """The service as customers see it; what they meet is decided by ``meets``."""

    def __init__(self, meets: Callable[[], int]) -> None:
        self._meets = meets
        self.asked: list[dict[str, Any]] = []

    def request(self, url: str, **more: Any) -> HttpResponse:
        self.asked.append({"url": url, **more})
        status = self._meets()
        if status < 0:
            raise Errored("east-probe does not answer")
        return HttpResponse(status=status, url=url)


def _plan(*, limit: float = 0.3, **budget: Any) -> Plan:
    return Plan(
        runbook="r", policy=Policy(on_breach="rollback"),
        budgets=(Budget(name="orders", limit=limit, probe=PROBE, **budget),),
        steps=(step("a", "put", args={"key": "a", "value": "1"}),
               step("go", "is", after=["a"], args={"key": "open", "value": "yes"}),
               step("b", "put", after=["go"], args={"key": "b", "value": "1"})))


class Real(Lab):
    """A lab in real time."""

    def __init__(self, directory: Path, plan: Plan, values: dict[str, str]) -> None:
        super().__init__(directory, plan, values)
        self.clock: Any = SystemClock()


def _polled(plan: Plan) -> Plan:
    steps = tuple(s.model_copy(update={"poll": Poll(every=0.05, timeout=60.0)})
                  if s.id == "go" else s for s in plan.steps)
    return Plan.model_validate(plan.model_copy(update={"steps": steps}).model_dump())


def test_a_breach_turns_the_run_back_while_a_step_still_waits(tmp_path: Path) -> None:
    """`a` closes the shop; `go` would wait for a minute."""
    lab = Real(tmp_path, _polled(_plan()), {"a": "0", "b": "0"})
    service = Service(lambda: 503 if lab.outside.values["a"] == "1" else 200)
    driven = lab.drive(outside=service)
    assert driven is not None and driven.exit_code is ExitCode.ROLLED_BACK
    assert driven.why == "orders overran its limit"
    (breach,) = lab.state.breaches
    assert (breach.what, breach.action, breach.detail) == ("orders", "rollback", "status 503")
    assert breach.measured > 0.3
    assert lab.outside.values == {"a": "0", "b": "0"}
    assert service.asked[0] == {
        "url": PROBE.url, "method": "POST", "headers": {}, "body": None, "timeout": 1.0,
        "via": None, "verify_tls": True}
    summary = lab.state.probes["orders"]
    assert summary.ended and summary.failed > 0 and summary.samples == len(service.asked)


def test_the_journal_holds_turns_and_summaries_and_not_every_sample(tmp_path: Path) -> None:
    lab = Real(tmp_path, _polled(_plan(limit=60.0)), {"a": "0"})
    flaps = [0]

    def meets() -> int:
        flaps[0] += 1
        if flaps[0] == 12:
            lab.outside.values["open"] = "yes"
        return 200 if flaps[0] % 2 else 503

    driven = lab.drive(outside=Service(meets))
    assert driven is not None and driven.exit_code is ExitCode.OK
    events = [e for e in lab.store.events(lab.run_id) if e.kind == "probe"]
    assert flaps[0] >= 12 and len(events) <= 1 + flaps[0] * 0.1 / 1.0 + 2
    assert lab.state.probes["orders"].samples == flaps[0]


def test_where_nobody_can_be_asked_nothing_is_breached(tmp_path: Path) -> None:
    lab = Real(tmp_path, _polled(_plan()), {"a": "0"})
    count = [0]

    def meets() -> int:
        count[0] += 1
        if count[0] == 8:
            lab.outside.values["open"] = "yes"
        return -1

    driven = lab.drive(outside=Service(meets))
    assert driven is not None and driven.exit_code is ExitCode.OK
    found = lab.state.probes["orders"]
    assert (found.state, found.down, found.why) == ("unknown", 0.0, "east-probe does not answer")
    assert found.until > found.since


def test_a_probe_that_breaks_is_noted_and_ends_no_run(tmp_path: Path) -> None:
    lab = Real(tmp_path, _plan(), {"a": "0", "open": "yes"})
    asked = threading.Event()

    def meets() -> int:
        asked.set()
        raise RuntimeError("no such thing")

    class WaitsForIt(Observer):
        def on_event(self, event: Event, state: RunState) -> None:
            if event.kind == "intent" and event.node == "a":
                assert asked.wait(30)

    driven = lab.drive(outside=Service(meets), observer=WaitsForIt())
    assert driven is not None and driven.exit_code is ExitCode.OK
    assert any("the probe of orders broke" in text for _, _, text in lab.state.notes)


def test_from_one_edge_to_the_other(tmp_path: Path) -> None:
    """It does not ask before its first edge, and after its last only until the service is back."""
    lab = Real(tmp_path, _polled(_plan(limit=60.0, from_step="a", to_step="go")), {"a": "0"})
    begun: list[bool] = []

    def meets() -> int:
        begun.append(lab.state.nodes["a"].intended)
        lab.outside.values["open"] = "yes"
        return 200 if len(begun) == 4 else 503

    class Slow(Observer):
        def on_event(self, event: Event, state: RunState) -> None:
            pause = threading.Event()
            if event.kind == "intent" and event.node == "b":
                # Long after the last edge; a second good answer would have been asked for.
                for _ in range(600):
                    if len(begun) >= 4 or pause.wait(0.05):
                        break
                pause.wait(0.4)

    driven = lab.drive(outside=Service(meets), observer=Slow())
    assert driven is not None and driven.exit_code is ExitCode.OK
    assert all(begun)
    assert len(begun) == 4
    assert lab.state.probes["orders"].state == "up"
    assert lab.state.probes["orders"].outages == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_killed_controller_leaves_a_gap_that_is_told(tmp_path: Path) -> None:
    lab = Real(tmp_path, _polled(_plan(limit=60.0)), {"a": "0"})
    served = [0]

    def meets() -> int:
        served[0] += 1
        return 200

    class Kills(Observer):
        def on_event(self, event: Event, state: RunState) -> None:
            if event.kind == "probe" and served[0] > 0:
                raise Killed

    lab.drive(outside=Service(meets), observer=Kills())
    before = lab.state.probes["orders"]
    lab.outside.values["open"] = "yes"
    gap = threading.Event()
    gap.wait(0.3)  # The time nobody measures is what this is about.
    driven = lab.drive(outside=Service(meets))
    assert driven is not None and driven.exit_code is ExitCode.OK
    after = lab.state.probes["orders"]
    assert after.unknown - before.unknown >= 0.3
    assert after.began == before.began and after.down == 0.0


def test_in_the_window_only_where_no_edge_is_given() -> None:
    budget = Budget(name="orders", limit=60.0, probe=PROBE)
    plan = shop_plan(budgets=(budget,), steps=(told_step("a"),),
                     window=Window(start=START, duration=7200.0, timezone="UTC"))
    early = Story(plan, start=START - 3600)
    assert not probe_active(early.state, budget, early.now)
    assert probe_active(early.state, budget, START)
    early.do("a", 1).add("rollback_started", why="no", who="", to=None)
    assert probe_active(early.state, budget, early.now), "on the way back in any case"


