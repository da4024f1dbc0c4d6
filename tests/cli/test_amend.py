"""A runbook that is mended at 03:00: what has not begun may change, and nothing else."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.model.state import NodeState
from tests.cli.running import runbook
from tests.cli.test_run import GATE, Place

BOOK = """
runbook: night
vars: {word: late}
steps:
  - id: first
    kind: shell
    with: {command: echo first >>HERE/ledger}
    undo: sed -i /first/d HERE/ledger
  - id: long
    kind: shell
    with: {command: "echo long >>HERE/ledger; until test -e HERE/go; do sleep 0.05; done"}
    undo: sed -i /long/d HERE/ledger
  - id: broken
    kind: assert
    with: {command: test -e HERE/never}
  - id: last
    kind: shell
    with: {command: "echo {{ word }} >>HERE/ledger"}
    undo: sed -i /{{ word }}/d HERE/ledger
"""
MENDED = BOOK.replace("HERE/never", "HERE/ledger").replace("{word: late}", "{word: mended}") + """
  - id: extra
    kind: shell
    with: {command: echo extra >>HERE/ledger}
    undo: sed -i /extra/d HERE/ledger
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    for child in found.started:
        if child.poll() is None:
            child.kill()
        child.communicate()


def test_a_mended_plan_is_gone_on_with_whoever_is_killed(place: Place, tmp_path: Path) -> None:
    place.write(BOOK)
    child = place.run()
    place.until(lambda: place.store.latest_run_id() is not None
                and place.state.nodes["long"].state is NodeState.STARTED, child)
    run, was = place.state.run_id, place.state.plan.digest
    place.write(MENDED)
    busy = runbook(tmp_path, "amend", run, "book.yml", "--why", "x", "--yes", code=12)
    assert "held" in busy.stderr
    child.send_signal(signal.SIGKILL)
    child.wait()
    told = runbook(tmp_path, "amend", run, "book.yml", "--why", "never was a typo", "--yes")
    now = place.state.plan.digest
    assert f"{was[:12]} → {now[:12]}" in told.stdout
    assert "step extra: is new (shell)" in told.stdout
    resumed = place.start("resume", run)
    place.until(lambda: place.state.resumed == 1, resumed)
    resumed.send_signal(signal.SIGKILL)
    resumed.wait()
    (tmp_path / "go").touch()
    runbook(tmp_path, "resume", run)
    assert (tmp_path / "ledger").read_text().split() == ["first", "long", "mended", "extra"]
    assert f"amended by ada: {was[:12]} → {now[:12]}, never was a typo (4 changes)" in runbook(
        tmp_path, "status", run).stdout
    report = json.loads(runbook(tmp_path, "report", run, "--format", "json").stdout)
    assert report["plan_digest"] == now
    (line,) = report["amendments"]
    assert (line["was"], line["digest"], line["who"]) == (was, now, "ada")
    for form in ("md", "html"):
        shown = runbook(tmp_path, "report", run, "--format", form).stdout
        assert was in shown and now in shown and "never was a typo" in shown
    assert "plan amended by ada" in runbook(tmp_path, "log", run).stdout
    runbook(tmp_path, "rollback", run, "--yes", code=21)
    assert (tmp_path / "ledger").read_text() == ""


def test_what_has_begun_does_not_change(place: Place, tmp_path: Path) -> None:
    place.write(BOOK)
    (tmp_path / "go").touch()
    assert place.run().wait(60) == 20
    run = place.state.run_id
    for old, new, hint in (
        ("echo first", "echo else", "step first: nodes.first.args.command: echo first"),
        ("sed -i /long/d HERE/ledger", "echo no", "step long: nodes.long.undo: sed -i /long/d"),
        ("  - id: first", "  - {id: zero, kind: shell, with: {command: 'true'}}\n  - id: first",
         'step first: after: [] → ["zero"]'),
        ("runbook: night", "runbook: day", "another runbook"),
        ("  - id: long", "  - id: short", "step long: is taken out"),
    ):
        assert old in BOOK
        place.write(BOOK.replace(old, new))
        said = runbook(tmp_path, "amend", run, "book.yml", "--why", "x", "--yes", code=11)
        assert hint in said.stderr.replace(str(tmp_path), "HERE")
        assert "only what has not begun may change" in said.stderr
    place.write(BOOK.replace("echo first", "echo else"))
    data = json.loads(runbook(
        tmp_path, "amend", run, "book.yml", "--diff", "--json", code=11).stdout)
    assert data["changes"][0]["refused"] == "first is verified"
    place.write(BOOK)
    assert "the same" in runbook(tmp_path, "amend", run, "book.yml", code=11).stderr
    place.write(MENDED)
    assert "--why" in runbook(tmp_path, "amend", run, "book.yml", "--yes", code=11).stderr
    assert "--yes" in runbook(tmp_path, "amend", run, "book.yml", "--why", "x", code=11).stderr
    assert place.state.amendments == []
    runbook(tmp_path, "rollback", run, code=21)
    ended = runbook(tmp_path, "amend", run, "book.yml", "--why", "x", "--yes", code=11)
    assert "rolled back" in ended.stderr


def test_who_approved_the_old_plan_is_asked_again(place: Place, tmp_path: Path) -> None:
    place.write(GATE)
    child = place.run()
    place.until(lambda: place.store.latest_run_id() is not None
                and bool(place.state.nodes["go"].question), child)
    run = place.state.run_id
    runbook(tmp_path, "approve", run, "go", "--role", "lead")
    place.until(lambda: len(place.state.decisions) == 1, child)
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 24
    place.write(GATE.replace("echo done", "echo other"))
    runbook(tmp_path, "amend", run, "book.yml", "--why", "the other one", "--yes")
    child = place.start("resume", run)
    place.until(lambda: bool(place.state.nodes["go"].question), child)
    bob = {"RUNBOOK_USER": "bob"}
    runbook(tmp_path, "approve", run, "go", "--role", "dba", env=bob)
    place.until(lambda: len(place.state.decisions) == 2, child)
    assert place.state.nodes["go"].state is NodeState.STARTED, "ada approved another plan"
    runbook(tmp_path, "approve", run, "go", "--role", "lead")
    assert child.wait(30) == 0
    assert (tmp_path / "ledger").read_text() == "other\n"


def test_outputs_that_are_needed_have_to_be_given(place: Place, tmp_path: Path) -> None:
    place.write("""
runbook: counted
steps:
  - id: count
    kind: shell
    with: {command: exit 1}
    outputs: {rows: {take: regex, pattern: 'rows=(\\d+)', type: int}}
  - id: enough
    kind: shell
    with: {command: "echo {{ outputs.count.rows + 1 }} >HERE/ledger"}
""")
    assert place.run().wait(60) == 20
    run = place.state.run_id
    said = runbook(tmp_path, "skip", run, "count", "--why", "by hand", code=11)
    assert "later steps need outputs of count: rows" in said.stderr
    assert "--output rows=VALUE" in said.stderr
    said = runbook(tmp_path, "skip", run, "count", "--output", "rows=many", "--why", "by hand",
                   code=11)
    assert "is not of type int" in said.stderr
    said = runbook(tmp_path, "skip", run, "count", "--output", "rows", "--why", "by hand", code=2)
    assert "--output" in said.stderr and "--var" not in said.stderr
    for reason in ((), ("--why", " ")):
        said = runbook(tmp_path, "skip", run, "count", "--output", "rows=41", *reason, code=11)
        assert "wants a reason" in said.stderr
    place.store.post(run, "skip", who="page", now=1.0, node="count", data={"why": "no outputs"})
    assert runbook(tmp_path, "resume", run, code=None).returncode == 20
    assert any("later steps need outputs" in text for _, _, text in place.state.notes)
    assert place.state.nodes["count"].state is NodeState.FAILED
    runbook(tmp_path, "skip", run, "count", "--output", "rows=41", "--why", "by hand")
    runbook(tmp_path, "resume", run)
    assert (tmp_path / "ledger").read_text() == "42\n"
    told = "by hand; outputs given by hand: rows=41"
    assert told in runbook(tmp_path, "log", run).stdout
    for form in ("md", "html"):
        assert told in runbook(tmp_path, "report", run, "--format", form).stdout
    report = json.loads(runbook(tmp_path, "report", run, "--format", "json").stdout)
    assert report["decisions"][-1]["outputs"] == {"rows": 41}


def test_what_a_person_says_is_done_gives_the_outputs_they_say(
    place: Place, tmp_path: Path
) -> None:
    """The command's supervisor is killed, so nobody can know how far it came."""
    place.write("""
runbook: lost
steps:
  - id: count
    kind: shell
    with: {command: "kill -s KILL $PPID"}
    outputs: {rows: {take: regex, pattern: 'rows=(\\d+)', type: int}, more: {take: stdout}}
  - id: enough
    kind: shell
    with: {command: "echo {{ outputs.count.rows + 1 }} >HERE/ledger"}
""")
    assert place.run().wait(60) == 23
    run = place.state.run_id
    said = runbook(tmp_path, "resolve", run, "count", "--done", code=11)
    assert "later steps need outputs of count: rows\n" in said.stderr
    said = runbook(tmp_path, "resolve", run, "count", "--not-done", "--output", "rows=1", code=11)
    assert "goes with --done" in said.stderr
    runbook(tmp_path, "resolve", run, "count", "--done", "--output", "rows=41", "--why", "seen")
    runbook(tmp_path, "resume", run)
    assert (tmp_path / "ledger").read_text() == "42\n"
    assert place.state.nodes["count"].outputs == {"rows": 41}


def test_a_journal_says_when_it_holds_an_amendment(tmp_path: Path, place: Place) -> None:
    """An older Runbook, which reads version 1 alone, opens journals until one holds it."""
    def version() -> int:
        with sqlite3.connect(tmp_path / "state" / "journal.db") as db:
            return int(db.execute("PRAGMA user_version").fetchone()[0])

    (tmp_path / "go").touch()
    place.write(BOOK)
    assert place.run().wait(60) == 20
    assert version() == 1
    run = place.state.run_id
    place.write(MENDED)
    runbook(tmp_path, "amend", run, "book.yml", "--why", "a typo", "--yes")
    assert version() == 2
    runbook(tmp_path, "status", run)
