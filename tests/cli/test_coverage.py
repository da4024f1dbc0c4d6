"""Rollback coverage: what a gap in the way back looks like, and that none is missed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer

from runbook.cli.coverage import parse_faults
from runbook.journal import open_store
from runbook.model.faults import Fault
from runbook.views.coverage_html import render_coverage
from runbook.views.coverage_junit import render_junit
from tests.cli.running import runbook
from tests.views.coverages import a_coverage

HEAD = """
runbook: small
policy: {on_failure: %s}
inventory: {hosts: {web: {address: 198.51.100.10}}}
steps:
"""
KEPT = """
  - id: kept
    kind: file
    hosts: web
    with: {path: kept, content: "x"}
"""
FORGOTTEN = """
  - id: forgotten
    kind: shell
    hosts: web
    with: {command: echo x >forgotten}
"""
LIAR = """
  - id: liar
    kind: shell
    hosts: web
    with: {command: echo x >liar}
    undo: "true"
"""
MAILED = """
  - id: mailed
    kind: shell
    hosts: web
    with: {command: echo x >>sent}
    undo: {irreversible: the mail is out}
"""
DROPPED = """
  - id: dropped
    kind: shell
    hosts: web
    with: {command: "mv old gone"}
    undo: mv gone old
    point_of_no_return: true
    on_failure: ask
  - id: last
    kind: assert
    hosts: web
    with: {command: test -e gone}
    on_failure: continue
"""
CONFIG = """
time: {scale: 60, longest_wait: 0.1s}
hosts: {web: {files: {old: {text: "old"}}}}
"""


def rehearse(
    folder: Path, steps: str, *options: str, code: int, on_failure: str = "rollback"
) -> dict[str, Any]:
    (folder / "book.yml").write_text(HEAD % on_failure + steps)
    (folder / "sandbox.yml").write_text(CONFIG)
    said = runbook(folder, "rehearse", "book.yml", "--level", "sandbox", "--json", *options,
                   code=code)
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def cells(said: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(cell["step"], cell["column"]): cell for cell in said["cells"]}


def test_a_forgotten_undo_and_one_that_lies_are_found(tmp_path: Path) -> None:
    said = rehearse(tmp_path, KEPT + FORGOTTEN + LIAR, "--faults", "each-step", code=25,
                    on_failure="hold")
    assert (said["ok"], said["undoable"]) == (False, ["kept", "forgotten", "liar"])
    assert said["restored"] == ["kept"]
    rows = {row["step"]: row for row in said["steps"]}
    assert rows["forgotten"]["undo_missing"]
    assert rows["liar"]["touched"] == ["web:liar"]
    played = cells(said)
    assert played["kept", "fail"]["outcome"] == "restored", "nothing after it was done yet"
    liar = played["liar", "fail"]
    assert liar["outcome"] == "not_restored"
    assert (played["forgotten", "fail"]["outcome"], played["forgotten", "fail"]["why"]) == (
        "not_restored", "no undo is given for forgotten")
    assert liar["not_restored"] == ["forgotten", "liar"]
    assert "web:liar appeared" in liar["why"] and "changed by liar" in liar["why"]
    assert len(liar["leftovers"]) == 1, "what has no undo is not laid at the liar's door"
    record = open_store(tmp_path / "state").rehearsals()[0]
    assert (record.level, record.ok, record.data["restored"]) == ("sandbox", False, ["kept"])
    assert (said["only"], record.data["at_steps"]) == ([], [])
    listed = runbook(tmp_path, "rehearsals", "book.yml").stdout
    assert "faults at each step: fail" in listed


def test_what_is_declared_is_named_and_no_failure(tmp_path: Path) -> None:
    junit, page = tmp_path / "c.xml", tmp_path / "c.html"
    said = rehearse(
        tmp_path, KEPT + MAILED + DROPPED, "--faults", "each-step,kill,kill-back",
        "--faults", "disconnect,slow=2x", "--step", "mailed", "--step", "dropped", "--step", "last",
        "--junit", str(junit), "--out", str(page), "--jobs", "2", code=0,
    )
    assert said["ok"], said
    assert (said["irreversible"], said["restored"]) == (["mailed"], ["kept", "dropped"])
    played = cells(said)
    assert played["", "none"]["accepted"] == ["dropped"], "its loss was accepted by name"
    struck = {key: cell["outcome"] for key, cell in played.items() if key[0]}
    assert struck == {
        (step, column): "irreversible" for step in ("mailed", "dropped", "last")
        for column in ("fail", "kill-intent", "kill-effect", "kill-undo", "cut")
        if (step != "last" or column in {"fail", "kill-effect"})
        and (step == "dropped" or column != "kill-undo")
    }, "a check has no intent, sends nothing that could be cut, and has no undo; nor has mail"
    assert all(cell["declared"] == ["web:sent appeared (0644 73cb3858a687)"]
               for cell in played.values()), "once, whatever happened: it was not sent twice"
    store = open_store(tmp_path / "state")
    (record,) = store.rehearsals()
    assert (record.ok, record.run_id, len(store.runs())) == (
        True, played["", "none"]["run"], len(played) + 1)
    kept = json.loads((store.run_directory(record.run_id) / "coverage.json").read_text())
    assert kept == said
    struck_at = "3 of 4 steps (mailed, dropped, last)"
    assert (said["only"], record.data["at_steps"]) == (["mailed", "dropped", "last"],) * 2
    assert f"Faults at {struck_at}" in page.read_text()
    assert "Every fault at every step" not in page.read_text()
    listed = runbook(tmp_path, "rehearsals", "book.yml").stdout
    assert f"faults at {struck_at}: fail, kill-intent" in listed
    shown = runbook(tmp_path, "log", played["dropped", "kill-effect"]["run"]).stdout
    assert "on purpose: the controller is killed after the effect of dropped" in shown
    suites = ElementTree.parse(junit).getroot()
    assert sum(int(s.get("failures", "1")) for s in suites) == 0
    assert sum(len(s.findall("testcase")) for s in suites) == len(played) + 3
    assert "the mail is out" in page.read_text()


def test_a_run_that_fails_by_itself_is_told_and_nothing_more_is_played(tmp_path: Path) -> None:
    broken = "\n  - {id: broken, kind: assert, hosts: web, with: {command: test -e nowhere}}\n"
    said = rehearse(tmp_path, KEPT + broken, "--faults", "each-step", code=25)
    assert len(said["cells"]) == 1
    assert "broken" in said["problems"][0]


@pytest.mark.parametrize(("options", "hint"), [
    (["--faults", "earthquake"], "there are each-step, kill, kill-back, disconnect and slow=3x"),
    (["--faults", "slow=0x"], "how many times as slow"),
    (["--faults", "kill", "--step", "nowhere"], "no step 'nowhere'"),
    (["--faults", "kill", "--fail", "kept"], "without --fail"),
    (["--junit", "x.xml"], "go with --faults"),
    (["--faults", "kill", "--out", "nowhere/x.html"], "nothing was started"),
])
def test_what_cannot_be_played_is_said_before(
    tmp_path: Path, options: list[str], hint: str
) -> None:
    (tmp_path / "book.yml").write_text(HEAD % "hold" + KEPT)
    (tmp_path / "sandbox.yml").write_text(CONFIG)
    said = runbook(tmp_path, "rehearse", "book.yml", "--level", "sandbox", *options, code=None)
    assert said.returncode in ({13} if "nowhere" in options else {2, 11})
    assert hint in re.sub(r"[│\s]+", " ", said.stderr)


def test_faults_are_read_from_words() -> None:
    assert parse_faults(["each-step,kill", "kill", "slow=1.5x"]) == (
        Fault(kind="fail"), Fault(kind="kill", moment="intent"),
        Fault(kind="kill", moment="effect"), Fault(kind="slow", factor=1.5),
    )
    with pytest.raises(typer.BadParameter):
        parse_faults(["slow=1x"])


def test_what_hosts_say_stays_text() -> None:
    told = a_coverage(why="<script>alert(1)</script> \x1b[31m \x00 & ]]>")
    page = render_coverage(told)
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=", page), "one page that needs nothing else"
    root = ElementTree.fromstring(render_junit(told))
    failures = root.findall(".//failure")
    assert len(failures) == 2
    assert any("<script>alert(1)</script>" in str(f.text) for f in failures)
