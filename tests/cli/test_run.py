"""Runs as a user makes them: separate processes, signals, two terminals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook.journal import Store, open_store
from runbook.model.folding import fold
from runbook.model.runstate import RunState
from runbook.model.state import NodeState, RunPhase
from tests.cli.running import InProcess, command, environment, runbook


class Place:
    """A folder with a runbook, and the controllers started there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[subprocess.Popen[str]] = []

    def write(self, text: str) -> None:
        (self.directory / "book.yml").write_text(text.replace("HERE", str(self.directory)))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            command(*arguments), cwd=self.directory, env=environment(self.directory), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )
        self.started.append(child)
        return child

    def run(self) -> subprocess.Popen[str]:
        return self.start("run", "book.yml", "--yes")

    @property
    def store(self) -> Store:
        return open_store(self.directory / "state")

    @property
    def state(self) -> RunState:
        store = self.store
        run_id = store.latest_run_id()
        assert run_id is not None
        return fold(run_id, *store.load(run_id))

    def until(self, holds: Callable[[], bool], child: subprocess.Popen[str]) -> None:
        """Wait for something a running controller will bring about."""
        tick = threading.Event()
        for _ in range(600):
            if holds():
                return
            assert child.poll() is None, child.stdout and child.stdout.read()
            tick.wait(0.05)
        raise AssertionError("it did not come about in 30 s")


@pytest.fixture
def place(tmp_path: Path) -> object:
    found = Place(tmp_path)
    yield found
    for child in found.started:
        if child.poll() is None:
            child.kill()
        child.communicate()


LONG = """
runbook: long
steps:
  - id: long
    kind: shell
    with:
      command: |
        echo begun >> HERE/ledger
        for i in 1 2 3; do echo "line $i"; done
        until test -e HERE/go; do sleep 0.05; done
        echo "last line"; exit 7
      ok_codes: [7]
"""


def test_the_readme_runbook_runs_and_comes_back(place: Place, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    book = re.search(r"```yaml\n(runbook: hello\n.*?)```", readme, re.DOTALL)
    assert book is not None
    assert len(book.group(1).strip().splitlines()) <= 10
    (tmp_path / "hello.yml").write_text(book.group(1))
    note = tmp_path / "home" / "runbook-hello.txt"
    runbook(tmp_path, "plan", "hello.yml")
    runbook(tmp_path, "rehearse", "hello.yml", "--level", "probe")
    assert not note.exists()
    runbook(tmp_path, "run", "hello.yml", "--yes")
    assert note.read_text() == "hello\n"
    run_id = json.loads(runbook(tmp_path, "status", "--json").stdout)["run_id"]
    refused = runbook(tmp_path, "rollback", run_id, code=11)
    assert "no terminal to ask at" in refused.stderr
    assert note.read_text() == "hello\n"
    runbook(tmp_path, "rollback", run_id, "--yes", code=21)
    assert not note.exists()


def test_a_finished_run_gives_back_the_file_that_was_there(place: Place, tmp_path: Path) -> None:
    note = tmp_path / "home" / "note.txt"
    note.parent.mkdir(exist_ok=True)
    note.write_text("mine\n")
    place.write("""
runbook: note
steps:
  - {id: note, kind: file, with: {path: note.txt, content: theirs}}
""")
    runbook(tmp_path, "run", "book.yml", "--yes")
    assert note.read_text() == "theirs"
    runbook(tmp_path, "rollback", place.state.run_id, "--yes", code=21)
    assert note.read_text() == "mine\n"


def test_any_terminal_sees_what_a_long_command_says(place: Place, tmp_path: Path) -> None:
    place.write(LONG)
    child = place.run()

    def said() -> object:
        return json.loads(runbook(tmp_path, "status", "--json").stdout)["output"]

    place.until((tmp_path / "ledger").exists, child)
    place.until(lambda: said() == [{"node": "long", "line": "line 3"}], child)
    assert "long │ line 3" in runbook(tmp_path, "status").stdout
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert said() == [], "nobody hears what it says now"
    (tmp_path / "go").touch()
    runbook(tmp_path, "resume")
    assert said() == []


def test_a_killed_controller_is_resumed_and_learns_the_true_end(
    place: Place, tmp_path: Path
) -> None:
    place.write(LONG)
    child = place.run()
    place.until((tmp_path / "ledger").exists, child)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert place.state.nodes["long"].state is NodeState.STARTED
    (tmp_path / "go").touch()
    runbook(tmp_path, "resume")
    status = place.state.nodes["long"]
    assert status.state is NodeState.VERIFIED
    assert status.results[0]["data"]["exit_code"] == 7
    assert (tmp_path / "ledger").read_text() == "begun\n"
    output = runbook(tmp_path, "log", "--output").stdout
    assert "line 1\nline 2\nline 3\nlast line\n" in output


def test_a_second_controller_is_refused_and_told_who_holds_the_run(
    place: Place, tmp_path: Path
) -> None:
    place.write(LONG)
    child = place.run()
    place.until((tmp_path / "ledger").exists, child)
    refused = runbook(tmp_path, "resume", code=12)
    assert f"ada on {os.uname().nodename} (process {child.pid})" in refused.stderr
    (tmp_path / "go").touch()
    assert child.wait(30) == 0
    assert (tmp_path / "ledger").read_text() == "begun\n"


def test_ctrl_c_stops_at_a_checkpoint_and_resume_goes_on(place: Place, tmp_path: Path) -> None:
    place.write(LONG + """
  - id: after
    kind: shell
    with: {command: echo after >> HERE/ledger}
""")
    child = place.run()
    place.until((tmp_path / "ledger").exists, child)
    child.send_signal(signal.SIGINT)
    tick = threading.Event()
    tick.wait(0.5)
    assert child.poll() is None, "the step under way is finished first"
    (tmp_path / "go").touch()
    assert child.wait(30) == 24
    assert place.state.nodes["long"].state is NodeState.VERIFIED
    assert place.state.nodes["after"].state is NodeState.PENDING
    runbook(tmp_path, "resume")
    assert (tmp_path / "ledger").read_text() == "begun\nafter\n"


def test_a_second_ctrl_c_detaches_and_the_work_goes_on(place: Place, tmp_path: Path) -> None:
    place.write(LONG)
    child = place.run()
    place.until((tmp_path / "ledger").exists, child)
    child.send_signal(signal.SIGINT)
    assert child.stdout is not None
    for line in child.stdout:
        if "stopping" in line:
            break
    child.send_signal(signal.SIGINT)
    assert child.wait(10) == 24
    (tmp_path / "go").touch()
    runbook(tmp_path, "resume")
    assert place.state.nodes["long"].results[0]["data"]["exit_code"] == 7
    assert (tmp_path / "ledger").read_text() == "begun\n"


GATE = """
runbook: gate
steps:
  - id: go
    kind: gate.approve
    with: {question: Start?, roles: [lead, dba], quorum: 2}
  - id: done
    kind: shell
    with: {command: echo done >> HERE/ledger}
"""


def test_a_gate_is_answered_from_other_terminals(place: Place, tmp_path: Path) -> None:
    place.write(GATE)
    child = place.run()
    place.until(lambda: bool(place.store.latest_run_id() and place.state.nodes
                             and place.state.nodes["go"].question), child)
    run = place.state.run_id
    runbook(tmp_path, "approve", run, "go", "--role", "lead")
    again = {"RUNBOOK_USER": "bob"}
    assert not (tmp_path / "ledger").exists()
    runbook(tmp_path, "approve", run, "go", "--role", "dba", env=again)
    assert child.wait(30) == 0
    assert [(d.who, d.role, d.verb) for d in place.state.decisions] == [
        ("ada", "lead", "approve"), ("bob", "dba", "approve")]


def test_one_person_is_no_quorum_of_two(place: Place, tmp_path: Path) -> None:
    place.write(GATE)
    child = place.run()
    place.until(lambda: bool(place.store.latest_run_id() and place.state.nodes
                             and place.state.nodes["go"].question), child)
    run = place.state.run_id
    runbook(tmp_path, "approve", run, "go", "--role", "lead")
    runbook(tmp_path, "approve", run, "go", "--role", "dba")
    place.until(lambda: len(place.state.decisions) == 2, child)
    assert place.state.nodes["go"].state is NodeState.STARTED
    runbook(tmp_path, "reject", run, "go", "--why", "not tonight")
    assert child.wait(30) == 20
    assert "not tonight" in place.state.nodes["go"].detail


def test_pause_continue_and_skip(place: Place, tmp_path: Path) -> None:
    place.write(LONG + """
  - id: after
    kind: shell
    with: {command: echo after >> HERE/ledger}
""")
    child = place.run()
    place.until((tmp_path / "ledger").exists, child)
    run = place.state.run_id
    runbook(tmp_path, "pause", run)
    runbook(tmp_path, "skip", run, "after", "--why", "no need")
    place.until(lambda: place.state.nodes["after"].state is NodeState.SKIPPED, child)
    (tmp_path / "go").touch()
    place.until(lambda: place.state.nodes["long"].state is NodeState.VERIFIED, child)
    assert place.state.phase is RunPhase.PAUSED
    assert child.poll() is None
    runbook(tmp_path, "continue", run)
    assert child.wait(30) == 0
    assert (tmp_path / "ledger").read_text() == "begun\n"


WAITS = """
runbook: waits
steps:
  - id: later
    kind: shell
    with: {command: "echo later >> HERE/ledger"}
    not_before: 2100-01-01T00:00Z
  - {id: soak, kind: wait, with: {for: 2h}}
  - id: flaky
    kind: shell
    with: {command: "test -e HERE/mended"}
    retry: {times: 5, wait: 1h}
  - {id: last, kind: shell, with: {command: "echo last >> HERE/ledger"}}
"""


def test_orders_to_what_waits_are_carried_out_at_once(place: Place, tmp_path: Path) -> None:
    place.write(WAITS)
    child = place.run()
    place.until(lambda: bool(place.store.latest_run_id()), child)
    run = place.store.latest_run_id() or ""
    runbook(tmp_path, "skip", run, "later", "--why", "not tonight")
    place.until(lambda: place.state.nodes["soak"].state is NodeState.STARTED, child)
    runbook(tmp_path, "skip", run, "soak", "--why", "long enough")
    place.until(lambda: place.state.nodes["flaky"].state is NodeState.FAILED, child)
    (tmp_path / "mended").touch()
    runbook(tmp_path, "retry", run, "flaky")
    assert child.wait(30) == 0
    assert (tmp_path / "ledger").read_text() == "last\n"
    late = runbook(tmp_path, "pause", run, code=11)
    assert f"pause means nothing now: run {run} has ended: done" in late.stderr


def test_a_live_run_can_demand_a_rehearsal_of_this_very_plan(
    place: Place, tmp_path: Path
) -> None:
    book = "runbook: r\npolicy: {rehearsal: {required: probe}}\nsteps:\n" \
           "  - {id: a, kind: shell, with: {command: echo WORD >> HERE/ledger}}\n"
    place.write(book.replace("WORD", "one"))
    refused = runbook(tmp_path, "run", "book.yml", "--yes", code=11)
    assert "demands a probe rehearsal of this very plan" in refused.stderr
    runbook(tmp_path, "rehearse", "book.yml", "--level", "probe")
    runbook(tmp_path, "run", "book.yml", "--yes")
    place.write(book.replace("WORD", "two"))
    runbook(tmp_path, "run", "book.yml", "--yes", code=11)
    assert (tmp_path / "ledger").read_text() == "one\n"


def test_a_local_source_is_found_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "a.txt").write_text("from the runbook's folder\n")
    (tmp_path / "books" / "b.yml").write_text(
        "runbook: r\nsteps:\n"
        f"  - {{id: a, kind: file, with: {{path: {tmp_path}/out.txt, source: a.txt}}}}\n")
    runbook(tmp_path, "run", "books/b.yml", "--yes")
    assert (tmp_path / "out.txt").read_text() == "from the runbook's folder\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user without a password "
                    "needs root here")
def test_a_step_reads_as_the_user_it_acts_as(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text(
        "runbook: r\nsteps:\n"
        "  - {id: a, kind: shell, run_as: nobody, with: {command: 'true', "
        "done_when: 'test \"$(id -un)\" = nobody'}}\n")
    runbook(tmp_path, "run", "b.yml", "--yes")
    assert "already" in runbook(tmp_path, "log").stdout


def test_one_dead_host_does_not_keep_the_others_from_going_back(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text(
        "runbook: r\ninventory: {hosts: {web: {address: 127.0.0.1, port: 1}}}\nsteps:\n"
        f"  - {{id: a, kind: file, with: {{path: {tmp_path}/out.txt, content: x}}}}\n"
        "  - {id: gate, kind: gate.approve, with: {question: go?}}\n"
        "  - {id: b, kind: shell, hosts: web, with: {command: 'true'}}\n")
    held = runbook(tmp_path, "run", "b.yml", "--yes", code=30)
    assert "could not be opened" in held.stdout or "could be opened" in held.stdout
    assert not (tmp_path / "out.txt").exists()
    runbook(tmp_path, "rollback", open_store(tmp_path / "state").latest_run_id() or "", code=21)


def test_a_long_output_is_taken_whole(place: Place, tmp_path: Path) -> None:
    place.write(r"""
runbook: big
steps:
  - id: list
    kind: shell
    with: {command: "seq 1 20000; echo LAST"}
    outputs: {all: stdout}
  - id: parse
    kind: shell
    with: {command: "printf '{\"pad\": \"%070000d\", \"count\": 5}' 0"}
    outputs: {n: {take: json, pattern: count, type: int}}
  - id: use
    kind: file
    with: {path: HERE/out, content: "{{ outputs.list.all }} {{ outputs.parse.n }}"}
""")
    runbook(tmp_path, "run", "book.yml", "--yes")
    assert (tmp_path / "out").read_text().split()[-3:] == ["20000", "LAST", "5"]
    assert len((tmp_path / "out").read_text().split()) == 20002


def test_what_was_never_sent_is_no_doubt(place: Place, tmp_path: Path) -> None:
    place.write(r"""
runbook: nul
steps:
  - id: find
    kind: shell
    with: {command: "printf 'a\\0b'"}
    outputs: {name: stdout}
  - id: use
    kind: shell
    with: {command: "echo {{ outputs.find.name }} >HERE/out"}
    on_failure: hold
""")
    held = runbook(tmp_path, "run", "book.yml", "--yes", code=20)
    assert "a NUL byte cannot be given to a shell" in held.stdout
    assert not (tmp_path / "out").exists()


def test_a_second_run_does_not_start_while_the_first_is_not_finished(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A lost terminal, and `run` typed in place of `resume`."""
    place.write(LONG)
    child = place.run()
    place.until((tmp_path / "ledger").exists, child)
    run = place.state.run_id
    here = InProcess(tmp_path, monkeypatch, capsys)
    busy = here("run", "book.yml", "--yes", code=11)
    assert f"run {run} of {place.state.plan.runbook} is at work: ada on " in busy
    child.send_signal(signal.SIGKILL)
    child.wait()
    lost = here("run", "book.yml", "--yes", code=11)
    assert "is running, and what it has changed so far stands" in lost
    assert f"`runbook resume {run}`" in lost
    assert f"`runbook rollback {run}`" in lost
    assert [one.run_id for one in place.store.runs()] == [run]
    (tmp_path / "go").touch()
    here("run", "book.yml", "--yes", "--another")
    assert len(place.store.runs()) == 2
