"""``rehearse --level staging``, on real SSH servers: one is production, others are staging."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.journal import open_store
from tests.cli.running import InProcess
from tests.transports.ssh_lab import Sshd, needs_sshd

pytestmark = needs_sshd

BOOK = """\
runbook: shop
policy: {on_failure: rollback, rehearsal: {required: staging}}
window: {start: 2009-09-12 01:00, timezone: UTC, duration: 2h}
inventory: live.yml
vars: {new: two}
staging:
  inventory: stage.yml
  invert: {hosts: [[one, two]]}
  FAULTS
steps:
  - {id: early, kind: notify.log, at: window.start - 48h, with: {message: "{{ window.start }}"}}
  - {id: go, kind: gate.approve, with: {question: Go?, roles: [lead]}}
  - {id: note, kind: file, hosts: "{{ new }}", with: {path: note, content: "moved to {{ new }}"}}
  - id: mark
    kind: shell
    hosts: "{{ new }}"
    with: {command: "touch mark", creates: mark}
    undo: rm mark
"""


class Place:
    """Two hosts of production and two of staging, of which those that are wanted are started."""

    def __init__(self, folder: Path, command: InProcess) -> None:
        self.folder = folder
        self.command = command
        self.live = [Sshd.make(folder / f"live-{n}", address=f"127.0.0.{n}") for n in (1, 2)]
        self.stage = [Sshd.make(folder / f"stage-{n}", address=f"127.0.0.{n}") for n in (3, 4)]
        self.write("live.yml", *self.live)
        self.write("stage.yml", *self.stage)
        self.book("faults: true")

    def book(self, faults: str) -> None:
        (self.folder / "book.yml").write_text(BOOK.replace("  FAULTS\n", f"  {faults}\n"))

    def write(self, name: str, *servers: Sshd, addresses: dict[str, str] | None = None) -> None:
        """An inventory of servers, whose host keys are known."""
        known = self.folder / f"{name}.known_hosts"
        known.write_text("".join(one.known_hosts.read_text() for one in servers))
        config = self.folder / "ssh_config"
        config.write_text("Host *\n  UserKnownHostsFile none\n  GlobalKnownHostsFile none\n")
        hosts = {
            host: {"address": (addresses or {}).get(host, one.address), "port": one.port,
                   "user": "root", "identity": str(one.folder / "id")}
            for host, one in zip(("one", "two"), servers, strict=True)
        }
        (self.folder / name).write_text(json.dumps(
            {"hosts": hosts, "known_hosts": [str(known)], "ssh_config": str(config)}))

    def start(self, *servers: Sshd) -> None:
        for one in servers:
            one.start()

    def stop(self) -> None:
        for one in (*self.live, *self.stage):
            one.stop()

    def rehearse(self, *options: str, code: int = 0) -> str:
        return self.command("rehearse", "book.yml", "--level", "staging", *options, code=code)

    def untouched(self, *servers: Sshd) -> bool:
        return not any([*one.home.iterdir(), *one.folder.glob("touched")] for one in servers)


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Place]:
    found = Place(tmp_path, InProcess(tmp_path, monkeypatch, capsys))
    yield found
    found.stop()


def test_production_by_another_name_or_at_another_address_is_refused(place: Place) -> None:
    """One host of staging is production's address under another name, the other a machine with
    another address that shows the host key of one of production's."""
    live, (clone, _) = place.live, place.stage
    for end in ("host_key", "host_key.pub"):
        shutil.copy(live[1].folder / end, clone.folder / end)
    clone.write_known_hosts()
    place.start(live[0], clone)
    place.write("stage.yml", live[0], clone, addresses={"one": "localhost"})
    said = place.rehearse("--yes", code=11)
    assert "staging reaches into production; nothing was started" in said
    assert f"staging's one (localhost:{live[0].port}, " in said
    assert f"is production's one (127.0.0.1:{live[0].port}): it shows the same host key" in said
    assert f"staging's two (127.0.0.3:{clone.port}) is production's two " in said
    # And with a host key of its own, the address is still production's.
    (place.folder / "live.yml.known_hosts").write_text(
        live[1].known_hosts.read_text() + f"[127.0.0.1]:{live[0].port} {place.stage[1].key_line()}")
    said = place.rehearse("--yes", code=11)
    assert "it has the same address, 127.0.0.1" in said
    assert place.untouched(*live, clone)
    for one in (live[0], clone):
        assert "Accepted" not in (one.folder / "log").read_text()
    assert open_store(place.folder / "state").runs() == []


def test_a_host_that_is_down_is_refused(place: Place) -> None:
    place.start(place.stage[0])
    said = place.rehearse("--yes", code=11)
    assert "nobody can tell whether staging is apart from production" in said
    assert f"staging's two (127.0.0.4:{place.stage[1].port})" in said
    assert place.untouched(*place.stage)


def test_a_move_is_rehearsed_recorded_and_taken_back(place: Place) -> None:
    place.start(*place.stage)
    _, two = place.stage
    assert "demands a staging rehearsal" in place.command("run", "book.yml", "--yes", code=11)
    assert "there is nobody to ask" in place.rehearse(code=11)
    assert place.untouched(*place.stage)
    told = json.loads(place.rehearse("--yes", "--json"))
    assert (told["ok"], told["phase"], told["apart"]["hosts"]) == (True, "done", 2)
    assert (two.home / "note").read_text() == "moved to two"
    # What is recorded is of the plan that is to run live, though no host of it was needed.
    listed = json.loads(place.command("rehearsals", "book.yml", "--json"))
    assert (listed["may_start"], listed["required"]) == (True, ["staging"])
    row = listed["rehearsals"][0]
    assert (row["digest"], row["level"], row["run"]) == (
        listed["digest"], "staging", told["run"])
    assert row["data"]["staging_digest"] == told["staging_digest"] != listed["digest"]
    store = open_store(place.folder / "state")
    plan, events = store.load(told["run"])
    assert plan.window is not None
    assert abs(plan.window.start - events[0].ts) < 60  # Moved to now.
    answers = [e.data["who"] for e in events if e.kind == "decision"]
    assert answers == ["rehearsal-lead"]
    # A rehearsal is no place for an edited runbook: its hosts are production's.
    assert "is a rehearsal in staging" in place.command(
        "amend", told["run"], "book.yml", "--why", "x", "--yes", code=11)
    place.command("rollback", told["run"], "--plain", "--yes", code=21)
    assert not (two.home / "note").exists()
    assert not (two.home / "mark").exists()


def test_who_takes_it_up_looks_again(place: Place) -> None:
    place.start(*place.stage)
    run = json.loads(place.rehearse("--yes", "--json"))["run"]
    one, two = place.stage
    known = place.folder / "live.yml.known_hosts"
    before = known.read_text()
    # The host that was staging's second is production's first by now.
    known.write_text(f"[127.0.0.1]:{place.live[0].port} {two.key_line()}\n" + before)
    said = place.command("rollback", run, "--yes", code=11)
    assert "it shows the same host key" in said
    assert (two.home / "mark").exists()
    # One that is down is no reason to leave the others as they are.
    known.write_text(before)
    one.stop()
    place.command("rollback", run, "--yes", code=21)
    assert not (two.home / "mark").exists()


def test_a_step_fails_there_where_that_is_allowed(place: Place) -> None:
    place.start(*place.stage)
    place.book("faults: false")
    assert "does not allow faults in staging" in place.rehearse("--yes", "--fail", "mark", code=11)
    place.book("faults: true")
    # A policy that holds: then the rehearsal orders the way back.
    book = place.folder / "book.yml"
    book.write_text(book.read_text().replace("on_failure: rollback", "on_failure: hold"))
    said = place.rehearse("--yes", "--fail", "mark")
    assert "Rehearsal passed" in said
    assert "rolled back: everything this run changed was put back" in said
    assert not (place.stage[1].home / "note").exists()
    shown = place.command("rehearsals")
    assert "rolled back; made to fail: mark" in shown


def test_faults_at_each_step_one_after_the_other(place: Place) -> None:
    place.start(*place.stage)
    place.book("faults: false")
    assert "does not allow faults in staging" in place.rehearse(
        "--yes", "--faults", "each-step", code=11)
    place.book("faults: true")
    told = json.loads(place.rehearse("--yes", "--json", "--faults", "each-step", "--step", "mark"))
    assert told["problems"] == []
    assert (told["undoable"], told["restored"]) == (["note", "mark"], ["note", "mark"])
    played = [(cell["column"], cell["step"], cell["outcome"]) for cell in told["cells"]]
    assert played == [("none", "", "restored"), ("fail", "mark", "restored")]
    for one in place.stage:
        assert [found.name for found in one.home.iterdir()] in ([], [".runbook"])
    listed = json.loads(place.command("rehearsals", "book.yml", "--json"))
    assert listed["may_start"]
    assert listed["rehearsals"][0]["data"]["faults"] == ["fail"]


def test_where_it_is_not_as_before_nothing_further_is_played(place: Place) -> None:
    place.start(*place.stage)
    book = place.folder / "book.yml"
    book.write_text(book.read_text().replace("undo: rm mark", "undo: {irreversible: it stays}"))
    told = json.loads(place.rehearse("--yes", "--json", "--faults", "each-step", code=25))
    (problem,) = told["problems"]
    assert problem.startswith("it is not known to be as it was before, after the move without")
    (cell,) = told["cells"]
    assert cell["outcome"] == "irreversible"
    assert cell["declared"][0].startswith("mark@two finds something else: it would do [")
    assert cell["declared"][0].endswith("and now nothing")


def test_what_was_held_and_went_on_counts_and_what_was_left_out_does_not(place: Place) -> None:
    place.start(*place.stage)
    book = place.folder / "book.yml"
    book.write_text(book.read_text().replace("on_failure: rollback", "on_failure: hold").replace(
        "touch mark", "test -e ready && touch mark"))
    told = json.loads(place.rehearse("--yes", "--json", code=25))
    assert (told["ok"], told["phase"]) == (False, "held")
    (place.stage[1].home / "ready").touch()
    place.command("resume", told["run"])

    def rows() -> list[tuple[bool, list[str]]]:
        listed = json.loads(place.command("rehearsals", "--json"))["rehearsals"]
        return [(row["ok"], row["data"]["by_hand"]) for row in listed]

    assert rows() == [(True, []), (False, [])]
    for name in ("ready", "mark"):
        (place.stage[1].home / name).unlink()
    again = json.loads(place.rehearse("--yes", "--json", code=25))["run"]
    place.command("skip", again, "mark", "--why", "it would not")
    place.command("resume", again)
    assert rows()[0] == (False, ["mark"])


def test_what_is_wrong_in_staging_is_told_offline(place: Place) -> None:
    assert "ok in staging: 4 nodes, 2 hosts" in place.command("validate", "book.yml")
    assert "moved to one" in place.command(
        "plan", "book.yml", "--staging", "--invert", "--var", "new=one")
    book = place.folder / "book.yml"
    book.write_text(book.read_text().replace('hosts: "{{ new }}"', 'hosts: "{{ new }} and web"')
                    .replace("hosts: [[one, two]]", "hosts: [[one, three]]"))
    said = place.command("validate", "book.yml", code=10)
    # What is wrong in production as well is told once.
    assert said.count("'web' is no host") == 2
    assert "error: in staging, inverted: there is no host `three` in staging" in said
    assert "book.yml:8:26: " in said


def test_there_and_back_in_the_other_direction(place: Place) -> None:
    place.start(*place.stage)
    told = json.loads(place.rehearse("--yes", "--json", "--invert", "--back"))
    assert (told["ok"], told["phase"], told["inverted"], told["back"]) == (
        True, "rolled_back", True, True)
    store = open_store(place.folder / "state")
    _, events = store.load(told["run"])
    kinds = [event.kind for event in events]
    assert kinds.index("rollback_started") > kinds.index("verified")
    # What is called two there is the machine that was one.
    plan, _ = store.load(told["run"])
    assert {h.name: h.address for h in plan.inventory.hosts} == {
        "one": "127.0.0.4", "two": "127.0.0.3"}
    opened = [event.data["host"] for event in events if event.kind == "host_opened"]
    assert set(opened) == {"two"}
