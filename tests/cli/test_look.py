"""``status``, ``log`` and ``report`` on a real journal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runbook.cli.main import app
from runbook.engine.report_model import Report
from runbook.errors import NotFound, Refused
from runbook.journal import Draft, open_store
from tests.views import story
from tests.views.story import Story


def keep(told: Story, directory: Path) -> str:
    """Write a story into a journal as an engine would; the run's id."""
    store = open_store(directory)
    run_id = store.create(told.plan, who="anna", now=told.events[0].ts)
    lease = store.acquire(run_id, "anna on ctl1")
    for e in told.events:
        lease.append([Draft(e.kind, e.node, e.op, e.attempt, dict(e.data))], ts=e.ts)
    lease.release()
    store.close()
    return run_id


def say(*arguments: str, state: Path) -> str:
    result = CliRunner().invoke(app, [*arguments, "--state", str(state)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_status_of_the_latest_run_and_the_others(tmp_path: Path) -> None:
    first, latest = keep(story.done(), tmp_path), keep(story.rolled_back(), tmp_path)
    text = say("status", state=tmp_path)
    assert latest in text and "rolled back" in text
    assert first in text.partition("other runs:")[2]
    assert "other runs" not in say("status", first, state=tmp_path)


def test_status_as_json(tmp_path: Path) -> None:
    run_id = keep(story.done(), tmp_path)
    data = json.loads(say("status", run_id[-6:], "--json", state=tmp_path))
    assert (data["run_id"], data["phase"], data["held_by"]) == (run_id, "done", None)
    assert data["now"] == data["ended_at"]


def test_status_without_a_state_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        say("status", state=tmp_path / "nowhere")


def test_log_of_everything_of_a_step_and_as_json(tmp_path: Path) -> None:
    run_id = keep(story.done(), tmp_path)
    assert "run done" in say("log", state=tmp_path)
    text = say("log", run_id, "freeze/app", state=tmp_path)
    assert "nginx: configuration test failed" in text and "promote" not in text
    rows = [json.loads(x) for x in say("log", run_id, "go", "--json", state=tmp_path).splitlines()]
    assert {row["node"] for row in rows} == {"go"}


def test_log_output_and_what_has_none(tmp_path: Path) -> None:
    run_id = keep(story.gate_open(), tmp_path)
    assert "== lower-ttl (attempt 1" in say("log", run_id, "lower-ttl", "--output", state=tmp_path)
    with pytest.raises(NotFound, match="no stored output of go"):
        say("log", run_id, "go", "--output", state=tmp_path)
    with pytest.raises(NotFound, match="no step 'fliip'"):
        say("log", run_id, "fliip", state=tmp_path)
    lines = say("log", run_id, "lower-ttl", "--output", "--json", state=tmp_path).splitlines()
    assert json.loads(lines[0])["node"] == "lower-ttl"


def test_report_in_three_formats(tmp_path: Path) -> None:
    run_id = keep(story.rolled_back(), tmp_path)
    assert say("report", run_id, state=tmp_path).startswith("# Move the shop from east to west\n")
    report = Report.model_validate_json(say("report", "--format", "json", state=tmp_path))
    assert report.run_id == run_id
    out = tmp_path / "out.html"
    assert str(out) in say("report", run_id, "--out", str(out), state=tmp_path)
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_report_holds_what_was_measured_from_outside(tmp_path: Path) -> None:
    run_id = keep(story.done(), tmp_path)
    (tmp_path / "runs" / run_id / "judgement.json").write_text('{"writes_lost": 0}')
    assert "| Acknowledged writes lost | 0 | good |" in say("report", state=tmp_path)


def test_report_that_cannot_be_written(tmp_path: Path) -> None:
    keep(story.done(), tmp_path)
    with pytest.raises(Refused, match="cannot be written"):
        say("report", "--out", str(tmp_path / "no" / "such" / "x.md"), state=tmp_path)


@pytest.mark.parametrize(("verb", "addressed"), [
    (["retry"], ["web2.east"]), (["skip", "--why", "it is gone"], ["web2.east", "web3.east"]),
])
def test_an_answer_for_a_step_is_for_the_hosts_that_it_is_about(
    tmp_path: Path, verb: list[str], addressed: list[str]
) -> None:
    """One host is done, one failed, one was not begun."""
    told = Story(story.shop_plan(steps=(story.step("freeze", hosts=story.HOSTS),)))
    told.do("freeze@web1.east", 1).intent("freeze@web2.east")
    told.add("failed", "freeze@web2.east", 1, "do", error="exit 3").add("held", why="it failed")
    run_id = keep(told, tmp_path)
    said = say(verb[0], run_id, "freeze", *verb[1:], state=tmp_path)
    assert said.startswith(f"{verb[0]} freeze: noted")
    inbox = open_store(tmp_path).inbox(run_id)
    assert [message.node for message in inbox] == [f"freeze@{host}" for host in addressed]


def test_what_asks_for_a_decision_cannot_be_skipped(tmp_path: Path) -> None:
    told = Story(story.shop_plan()).add("intent", "go", 1, "do", actions=[
        {"action": "ask_operator", "question": "Go?"}])
    run_id = keep(told.add("ask", "go", 1, "do", question="Go?", seq=2), tmp_path)
    with pytest.raises(Refused, match=r"go cannot be skipped now: it asks people"):
        say("skip", run_id, "go", "--why", "x", state=tmp_path)
    assert open_store(tmp_path).inbox(run_id) == []


@pytest.mark.parametrize(("told", "why"), [
    (story.done, "has ended: done"), (story.rolled_back, "has ended: rolled_back"),
    (story.not_restored, "has gone back, and not everything was restored"),
])
@pytest.mark.parametrize("verb", [
    ["pause"], ["continue"], ["retry", "go"], ["skip", "go", "--why", "x"],
    ["resolve", "go", "--done"]])
def test_a_run_that_has_ended_takes_no_orders(
    tmp_path: Path, told: Callable[[], Story], why: str, verb: list[str]
) -> None:
    run_id = keep(told(), tmp_path)
    if verb[0] == "resolve" and told is story.not_restored:
        say(verb[0], run_id, *verb[1:], state=tmp_path)  # Of an undo in doubt people can tell.
        return
    with pytest.raises(Refused, match=f"{verb[0]} means nothing now: run {run_id} {why}"):
        say(verb[0], run_id, *verb[1:], state=tmp_path)
    assert open_store(tmp_path).inbox(run_id) == []


def test_hosts_at_work_are_not_skipped_with_the_others(tmp_path: Path) -> None:
    told = Story(story.shop_plan(steps=(story.step("freeze", hosts=story.HOSTS),)))
    told.add("intent", "freeze@web1.east", 1, "do", actions=[
        {"action": "run_command", "host": "web1.east", "script": "freeze"}])
    run_id = keep(told, tmp_path)
    said = say("skip", run_id, "freeze", "--why", "x", state=tmp_path)
    assert said.startswith("not freeze@web1.east: it is at work; it can be skipped when it has")
    inbox = open_store(tmp_path).inbox(run_id)
    assert [message.node for message in inbox] == ["freeze@web2.east", "freeze@web3.east"]


def test_status_and_report_of_a_stopped_run_say_resume(tmp_path: Path) -> None:
    run_id = keep(story.to_the_flip().add("paused", why="stopped on request"), tmp_path)
    for text in (say("status", state=tmp_path), say("status", "--json", state=tmp_path),
                 say("report", state=tmp_path)):
        assert f"runbook resume {run_id}" in text
        assert "runbook continue" not in text
    lease = open_store(tmp_path).acquire(run_id, "anna on ctl1")
    assert f"runbook continue {run_id}" in say("status", state=tmp_path)
    lease.release()
