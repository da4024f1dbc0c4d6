"""Staging beside production, on the lab's real servers: sshd's, BIND, and names that resolve.

The east is production, the west is staging. A staging that reaches into production by mistake is
refused by what its names lead to; one that is apart is rehearsed, with every fault."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook.errors import ExitCode
from tests.lab import postgres
from tests.lab.lab import DEFAULT_ZONE, MACHINES, Lab
from tests.lab.names import PRIMARY, TSIG, Served
from tests.lab.needs import marks
from tests.lab.switchover import PASSWORD

pytestmark = [*marks, pytest.mark.skipif(not postgres.programs(), reason="no PostgreSQL")]

EAST, WEST = MACHINES["east-web"], MACHINES["west-web"]
OLD, NEW = "203.0.113.77", "203.0.113.78"
"""Where staging's zone leads to, before the move and after it."""
DATABASE = "{engine: postgres, host: web, user: postgres, password: password}"
STAGE = DEFAULT_ZONE.replace("shop.example", "stage.example").replace(EAST, OLD)
BOOK = """\
runbook: move
policy: {on_failure: rollback}
secrets: {tsig: {env: LAB_TSIG}, password: {env: LAB_PASSWORD}}
inventory: live.yml
vars: {zone: shop.example, old: EAST, new: 203.0.113.99}
zones: {shop.example: {servers: [PRIMARY], key: tsig}}
databases: {main: DATABASE}
staging:
  inventory: stage.yml
  vars: {zone: STAGED, old: OLD, new: NEW}
  zones: {STAGED: ZONE}
  databases: {main: STORE}
  faults: true
steps:
  - {id: lower, kind: dns.ttl, with: {zone: "{{ zone }}", points_at: "{{ old }}", ttl: 1}}
  - {id: freeze, kind: postgres.freeze, with: {database: main}}
  - id: mark
    kind: shell
    hosts: web
    with: {command: "touch /srv/moved", creates: /srv/moved}
    undo: rm /srv/moved
  - {id: flip, kind: dns.flip, with: {zone: "{{ zone }}", from: "{{ old }}", to: "{{ new }}"}}
"""


@pytest.fixture(scope="module")
def opened() -> Iterator[Lab]:
    with Lab.open(more_zones=[Served("stage.example", STAGE)]) as lab:
        for host in ("east-web", "west-web"):
            postgres.make_primary(lab, host)
        yield lab


class Desk:
    """The control desk, with a runbook and its two inventories."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.env = {"LAB_TSIG": TSIG, "LAB_PASSWORD": PASSWORD,
                    "RUNBOOK_STATE": str(folder / "state")}
        config = folder / "ssh_config"
        config.write_text("Host *\n  UserKnownHostsFile none\n  GlobalKnownHostsFile none\n")
        self.inventory("live.yml", EAST)
        self.inventory("stage.yml", WEST)
        self.book()

    def inventory(self, name: str, address: str) -> None:
        (self.folder / name).write_text(json.dumps({
            "hosts": {"web": {"address": address, "user": "root",
                              "identity": str(self.lab.login_key)}},
            "known_hosts": [str(self.lab.known_hosts)],
            "ssh_config": str(self.folder / "ssh_config"),
        }))

    def book(
        self, zone: str = "stage.example", told: str = f"{{servers: [{PRIMARY}], key: tsig}}",
        database: str = DATABASE,
    ) -> None:
        text = BOOK
        for word, what in {"STAGED": zone, "ZONE": told, "STORE": database, "DATABASE": DATABASE,
                           "OLD": OLD, "NEW": NEW, "PRIMARY": PRIMARY, "EAST": EAST}.items():
            text = text.replace(word, what)
        (self.folder / "book.yml").write_text(text)

    def rehearse(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.lab.run(
            "control", sys.executable, "-m", "runbook", "rehearse", str(self.folder / "book.yml"),
            "--level", "staging", "--yes", *words, check=False, timeout=300,
            env=self.env,
        )

    def world(self) -> dict[str, list[str]]:
        """What both zones say, what both hosts have, and whether their databases take writes."""
        return {
            **{zone: self.lab.dig(f"@{PRIMARY}", zone, "A")
               for zone in ("shop.example", "stage.example")},
            **{host: self.lab[host].run("ls /srv").stdout.split()
               for host in ("east-web", "west-web")},
            **{f"{host} frozen": [postgres.ask(
                self.lab, host, "SHOW default_transaction_read_only")]
               for host in ("east-web", "west-web")},
        }

    def serial(self, zone: str) -> list[str]:
        return self.lab.dig(f"@{PRIMARY}", zone, "SOA")


@pytest.fixture
def desk(opened: Lab, tmp_path: Path) -> Desk:
    return Desk(opened, tmp_path)


@pytest.mark.parametrize(("changes", "told"), [
    # The host, by a name that leads to it.
    ({"stage": "shop.example"}, f"(shop.example:22, {EAST}) is production's web ({EAST}:22)"),
    # The zone, found by its own NS records where no server is written.
    ({"zone": "shop.example", "told": "{key: tsig}"},
     f"changes would go to a server of production: {PRIMARY}"),
    # The database, by a name that leads to its address.
    ({"database": DATABASE.replace("host: web", "host: web, address: shop.example")},
     f"staging's database main is production's main: {EAST} port 5432"),
])
def test_what_leads_into_production_is_refused(
    desk: Desk, changes: dict[str, Any], told: str
) -> None:
    if "stage" in changes:
        desk.inventory("stage.yml", changes["stage"])
    desk.book(**{name: text for name, text in changes.items() if name != "stage"})
    before, serial = desk.world(), desk.serial("shop.example")
    done = desk.rehearse()
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == ExitCode.REFUSED, said
    assert "staging reaches into production; nothing was started" in said
    assert told in said
    assert (desk.world(), desk.serial("shop.example")) == (before, serial)


def test_it_moves_and_goes_back_and_production_is_as_it_was(desk: Desk) -> None:
    before, serial = desk.world(), desk.serial("shop.example")
    done = desk.rehearse("--json")
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    assert json.loads(done.stdout)["apart"] == {
        "hosts": 1, "zones": 1, "databases": 1, "shared": []}
    moved = desk.world()
    assert moved["stage.example"] == [NEW]
    assert moved["west-web"] == sorted([*before["west-web"], "moved"])
    assert (moved["east-web frozen"], moved["west-web frozen"]) == (["off"], ["on"])
    back = desk.lab.run(
        "control", sys.executable, "-m", "runbook", "rollback", json.loads(done.stdout)["run"],
        "--plain", "--yes", "--why", "home again", check=False, timeout=120,
        env=desk.env)
    assert back.returncode == ExitCode.ROLLED_BACK, back.stdout + back.stderr
    assert desk.world() == before
    assert desk.serial("shop.example") == serial


@pytest.mark.slow
def test_every_fault_is_played_there(desk: Desk) -> None:
    """Each step fails; the controller is killed around each effect, and while it is undone; SSH is
    cut behind each command; and everything takes twice as long."""
    before, serial = desk.world(), desk.serial("shop.example")
    done = desk.rehearse("--faults", "each-step,kill,kill-back,disconnect,slow=2x", "--json")
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    told = json.loads(done.stdout)
    steps = ["lower", "freeze", "mark", "flip"]
    assert told["restored"] == told["undoable"] == steps
    played = {(cell["column"], cell["step"]) for cell in told["cells"]}
    assert played >= {(column, step) for step in steps
                      for column in ("fail", "kill-intent", "kill-effect", "kill-undo")}
    # What speaks to no host over SSH has nothing to be cut.
    assert {("cut", "mark"), ("slow-2x", "")} <= played
    assert {cell["outcome"] for cell in told["cells"]} == {"restored"}
    assert desk.world() == before
    assert desk.serial("shop.example") == serial
