"""The kinds that look: what counts as yes, what as no, and what as no answer."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from runbook.errors import Errored
from runbook.kinds import registry
from runbook.kinds.assert_ import Assert
from runbook.kinds.http_check import HttpCheck
from runbook.kinds.poll import PollCommand
from runbook.kinds.tcp_check import TcpCheck
from runbook.model.kind import Kind
from runbook.model.observation import Observation, Verdict
from runbook.model.ports import CommandResult, HttpResponse
from tests.kinds.fakes import FakeHost, FakeNet, FakeReads
from tests.kinds.local_world import LocalWorld

OK = HttpResponse(
    status=200, url="u", body="Served from west", elapsed=0.02, address="203.0.113.10",
    headers={"X-Site": "west-2"},
)


def judge(kind: Kind, reads: FakeReads | LocalWorld) -> Verdict:
    found = kind.observe(reads)
    assert kind.plan(found).actions == () and kind.undo(found) == ()
    return kind.verify(found, found)


@pytest.mark.parametrize(
    "kind", [kind for kind in registry().values() if kind.check], ids=lambda kind: kind.name
)
def test_a_check_never_acts(kind: type[Kind]) -> None:
    made = kind.model_validate(yaml.safe_load(kind.example)[-1]["with"])
    planned = made.plan(Observation())
    assert planned.actions == () and planned.reason
    assert made.undo(Observation()) == ()


@pytest.mark.parametrize(("more", "said"), [
    ({}, ""), ({"status": [200, 204]}, ""), ({"status": 302}, "status 200"),
    ({"contains": "west"}, ""), ({"contains": "east"}, "does not contain 'east'"),
    ({"not_contains": "east"}, ""), ({"not_contains": "west"}, "contains 'west'"),
    ({"header": {"x-site": "west"}}, ""), ({"header": {"x-site": "east"}}, "'west-2'"),
    ({"header": {"Etag": "1"}}, "no header field Etag"),
    ({"max_ms": 20}, ""), ({"max_ms": 19}, "it took 20ms"),
])
def test_http_answers_are_held_against_every_expectation(more: dict[str, Any], said: str) -> None:
    kind = HttpCheck.model_validate({"url": "https://shop.example/", **more})
    verdict = judge(kind, FakeReads(net=FakeNet([OK])))
    assert verdict.ok == (said == "") and said in verdict.seen
    assert verdict.outputs == {"status": 200, "slowest": 0.02, "addresses": ["203.0.113.10"]}


def test_one_bad_sample_among_many_is_enough() -> None:
    bad = HttpResponse(status=0, url="u", error="connection refused by 203.0.113.10:443")
    net = FakeNet([OK, OK, bad, OK])
    kind = HttpCheck.model_validate(
        {"url": "http://x/", "samples": 2, "from": ["east", "west"], "timeout": "1500ms"}
    )
    verdict = judge(kind, FakeReads(net=net))
    assert not verdict.ok
    assert "1 of 4" in verdict.seen and "from east: connection refused" in verdict.seen
    assert [one["via"] for one in net.asked] == ["east", "west"] * 2
    assert net.asked[0]["timeout"] == 1.5


def test_via_and_from_are_one_key() -> None:
    both = [HttpCheck.model_validate({"url": "http://x/", key: "p"}) for key in ("via", "from")]
    assert both[0] == both[1] and both[0].via == ("p",)


@pytest.mark.parametrize(("expect", "why", "ok"), [
    ("open", "", True), ("open", "connection refused by x", False), ("closed", "", False),
    ("closed", "connection refused by x", True), ("closed", "timed out after 5s", True),
    ("closed", "the name db does not exist", False),
])
def test_a_port_is_proven_closed_only_by_a_refusal(expect: str, why: str, ok: bool) -> None:
    kind = TcpCheck.model_validate({"host": "db", "port": 5432, "expect": expect, "via": "w"})
    verdict = judge(kind, FakeReads(net=FakeNet(tcp_answers={"w": why})))
    assert verdict.ok is ok and verdict.outputs == {"open": not why}


@pytest.mark.parametrize(("that", "said"), [
    (True, ""), ([True, 1, "true"], ""), (False, "a condition is false"), (0, "is 0"),
    (None, "is none"), ("False", "is false"), ([True, []], "is []"),
    ("rows == 812", "write it as"), ("", "write it as"),
])
def test_a_condition_is_true_or_it_is_not(that: Any, said: str) -> None:
    given = that if isinstance(that, list) else [that]
    verdict = judge(Assert(that=given, message="the copy is short"), FakeReads())
    assert verdict.ok == (said == "") and said in verdict.seen
    assert verdict.ok or (verdict.seen.startswith("the copy is short: ") and not verdict.retry)


def test_a_command_is_asked_on_the_host(world: LocalWorld) -> None:
    assert judge(Assert(command="test -d /"), world).ok
    verdict = judge(Assert(command="echo why >&2; false"), world)
    assert not verdict.ok and verdict.retry and "exit status 1: why" in verdict.seen
    with pytest.raises(Errored):
        judge(Assert(command="no-such-program"), world)
    with pytest.raises(ValidationError):
        Assert()


@pytest.mark.parametrize(("more", "ok"), [
    ({}, False), ({"exit_code": 3}, True), ({"contains": "lag=0"}, True),
    ({"contains": "lag=1"}, False), ({"matches": r"^lag=\d$"}, True), ({"matches": "^0"}, False),
    ({"equals": "a\nlag=0"}, True), ({"equals": "lag=0"}, False),
    ({"equals": "a\nlag=0", "exit_code": 0}, False),
])
def test_what_a_poll_waits_for(more: dict[str, Any], ok: bool) -> None:
    answer = CommandResult(exit_code=3, stdout="a\nlag=0\n")
    reads = FakeReads(here=FakeHost(answers={"lag": answer}))
    verdict = judge(PollCommand.model_validate({"command": "lag", **more}), reads)
    assert verdict.ok is ok and verdict.retry
    assert verdict.outputs == {"stdout": "a\nlag=0\n", "exit_code": 3}


def test_a_poll_has_a_rhythm_of_its_own_and_reads_numbers() -> None:
    assert PollCommand.poll is not None and PollCommand.poll.timeout == 600.0
    reads = FakeReads(here=FakeHost(answers={"lag": CommandResult(exit_code=0, stdout="0\n")}))
    assert judge(PollCommand.model_validate({"command": "lag", "equals": 0}), reads).ok
    with pytest.raises(ValidationError, match="regular expression"):
        PollCommand(command="x", matches="(")
