"""The shop of examples/shop-2009 on the hosts of the lab, its customers, and its move."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import ClassVar

from runbook.journal import Store, open_store
from runbook.model.events import GENESIS
from runbook.model.folding import apply
from runbook.model.runstate import RunState
from tests.lab.lab import Lab
from tests.lab.names import PRIMARY, SECONDARY, TSIG
from tests.lab.processes import kill, wait_for

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "shop-2009"
EAST, WEST = "198.51.100.10", "203.0.113.10"
_UNIT = "exec python3 shop/shop.py\n"

# Real name servers and caches take real time: minutes become seconds. Nothing else of the
# example's runbook is changed.
SHORTER = {
    "low_ttl: 60": "low_ttl: 2",
    'ttl: "{{ low_ttl }}"}\n\n': 'ttl: "{{ low_ttl }}", skew: 1s}\n\n',
    "with: {of: lower-ttl}\n\n": "with: {of: lower-ttl, skew: 1s}\n\n",
    "with: {of: flip}": "with: {of: flip, skew: 1s}",
    "with: {for: 10m}": "with: {for: 1s}",
    "poll: {every: 5s, timeout: 3m, stable: 2}": "poll: {every: 500ms, timeout: 1m, stable: 2}",
}

# For many moves in a row: still real time, and as little of it as there can be.
HURRIED = {
    "low_ttl: 2": "low_ttl: 1",
    "skew: 1s}": "skew: 200ms}",
    "with: {for: 1s}": "with: {for: 100ms}",
    "poll: {every: 1s, timeout: 30s}": "poll: {every: 200ms, timeout: 30s}",
    "poll: {every: 500ms, timeout: 1m, stable: 2}": "poll: {every: 100ms, timeout: 1m, stable: 2}",
}


def hurried(text: str) -> str:
    """A change for :class:`Move`."""
    for old, new in HURRIED.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def zone(ttl: int = 6) -> str:
    """The example's zone with a secondary, and TTLs of seconds."""
    text = (EXAMPLE / "shop.example.zone").read_text()
    text = text.replace("$TTL 3600", f"$TTL {ttl}").replace(" 300 IN", f" {max(2, ttl - 2)} IN")
    second = f"@ IN NS ns2.shop.example.\nns2 IN A {SECONDARY}\n"
    assert f"$TTL {ttl}" in text
    return text + second


def files() -> dict[str, dict[str, str]]:
    """What the web hosts have on their disks before the move."""
    app = EXAMPLE / "app"
    code = {
        f"/root/shop/{path.relative_to(app)}": path.read_text()
        for path in sorted(app.rglob("*")) if path.suffix in {".py", ".html", ".css", ".js"}
    }
    unit = {"/etc/runbook-lab/units/shop": _UNIT}
    return {
        "east-web": {**unit, **code, "/root/shop.conf": "SITE=east\n", "/root/data/.keep": "",
                     "/etc/runbook-lab/enabled/shop": ""},
        "west-web": unit,
    }


@dataclass
class Move:
    """One move of the shop. ``change`` edits the runbook's text before it is planned.

    Moves of other examples say what is theirs: where it is, what is shorter, zone and secrets."""

    example: ClassVar[Path] = EXAMPLE
    shorter: ClassVar[dict[str, str]] = SHORTER
    secrets: ClassVar[dict[str, str]] = {"SHOP_TSIG": TSIG}

    lab: Lab
    folder: Path
    change: Callable[[str], str] = str
    fail: str = ""
    """The step that fails right after it took effect."""
    controller: subprocess.Popen[bytes] | None = None
    shopper: subprocess.Popen[bytes] | None = None
    _store: Store | None = field(default=None)
    _folded: RunState | None = field(default=None)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        place = self.folder / "runbook"
        shutil.copytree(self.example, place)
        text = (place / "runbook.yml").read_text()
        for old, new in self.shorter.items():
            assert text.count(old) == 1, (old, text.count(old))
            text = text.replace(old, new)
        (place / "runbook.yml").write_text(self.change(text))
        (place / "shop.example.zone").write_text(self.zone())
        config = self.folder / "ssh_config"
        config.write_text(
            "Host *\n  UserKnownHostsFile none\n  GlobalKnownHostsFile none\n  User root\n"
            f"  IdentityFile {self.lab.login_key}\n"
        )
        inventory = (place / "inventory.yml").read_text()
        (place / "inventory.yml").write_text(
            f"ssh_config: {config}\nknown_hosts: [{self.lab.known_hosts}]\n{inventory}"
        )

    def zone(self) -> str:
        """What the name servers have before the move."""
        return zone()

    # -- the customers -------------------------------------------------------------------------

    @property
    def records(self) -> Path:
        return self.folder / "orders"

    def acknowledged(self) -> set[str]:
        return set(self.records.read_text().split()) if self.records.exists() else set()

    def open_for_orders(self) -> None:
        """Customers begin to order; returns when some have been acknowledged."""
        self.shopper = self.lab.start(
            "client", sys.executable, str(Path(__file__).with_name("shopper.py")),
            "http://shop.example", str(self.records),
        )
        wait_for("the first orders are taken", lambda: len(self.acknowledged()) >= 5)

    def pages_failed(self) -> list[str]:
        """When and why a page did not load for a visitor."""
        return self.records.with_name(f"{self.records.name}.pages").read_text().splitlines()

    def orders_at(self, host: str) -> set[str]:
        """What the database of a side holds."""
        script = ("import sqlite3; [print(r[0]) for r in sqlite3.connect"
                  "('data/orders.db').execute('SELECT id FROM orders')]")
        return set(self.lab[host].run(f'python3 -c "{script}"').stdout.split())

    # -- the controller ------------------------------------------------------------------------

    @property
    def state_folder(self) -> Path:
        return self.folder / "state"

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        self._control(
            sys.executable, "-m", "tests.lab.controller", str(self.state_folder),
            str(self.folder / "runbook" / "runbook.yml"), self.fail,
        )
        wait_for("the run has begun", lambda: self._begun() or self._ended(), 30)

    def resume(self) -> None:
        self._control(
            sys.executable, "-m", "runbook", "resume", self.run_id, "--plain",
            "--state", str(self.state_folder),
        )

    def rollback(self) -> None:
        self._control(
            sys.executable, "-m", "runbook", "rollback", self.run_id, "--plain", "--yes",
            "--why", "the test wants it", "--state", str(self.state_folder),
        )

    def _control(self, *command: str) -> None:
        assert self.controller is None
        with (self.folder / "log").open("ab") as log:
            self.controller = self.lab.start(
                "control", *command, output=log,
                env=self._environment(),
            )

    def _environment(self) -> dict[str, str]:
        return {**self.secrets, "PYTHONPATH": str(ROOT), "HOME": str(self.folder),
                "RUNBOOK_USER": "operator", "PATH": os.environ["PATH"], "COLUMNS": "200"}

    def kill(self) -> None:
        """SIGKILL for the controller."""
        assert self.controller is not None
        kill([self.controller.pid])
        self.controller.wait()
        self.controller = None

    def freeze(self, seconds: float) -> None:
        """SIGSTOP for the controller, and SIGCONT so much later."""
        if self.controller is not None and self.controller.poll() is None:
            self.controller.send_signal(signal.SIGSTOP)
            try:
                Event().wait(seconds)
            finally:
                self.controller.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> str:
        """What a command of Runbook's says at the operator's desk. It must not fail."""
        return self.lab.run(
            "control", sys.executable, "-m", "runbook", *words, "--state", str(self.state_folder),
            env=self._environment(),
        ).stdout

    def to_its_end(self, patience: float = 120, during: Callable[[], None] = lambda: None) -> int:
        """Follow the controller, answering go-or-no-go; its exit code."""
        assert self.controller is not None
        end = time.monotonic() + patience
        while (code := self.controller.poll()) is None:
            assert time.monotonic() < end, f"the controller does not end\n{self.log}"
            self.answer()
            during()
            try:
                self.controller.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        self.controller = None
        return code

    def _ended(self) -> bool:
        return self.controller is None or self.controller.poll() is not None

    def _begun(self) -> bool:
        if not (self.state_folder / "journal.db").exists():
            return False
        return self.store.latest_run_id() is not None and bool(self.store.load(self.run_id)[1])

    # -- the journal ---------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = open_store(self.state_folder)
        return self._store

    @property
    def run_id(self) -> str:
        found = self.store.latest_run_id()
        assert found is not None, self.log
        return found

    def state(self) -> RunState:
        """As the journal has it now; only what is new is read."""
        if self._folded is None:
            plan, _ = self.store.load(self.run_id)
            self._folded = RunState.empty(self.run_id, plan)
        known = self._folded
        for event in self.store.events(
            self.run_id, after=known.last_seq, prev_hash=known.last_hash or GENESIS
        ):
            apply(known, event)
        return known

    def answer(self) -> None:
        """Lead and database administrator say yes, once they are asked."""
        status = self.state().nodes["go"]
        said = {d.role for d in self.state().decisions if d.node == "go"}
        waiting = {str(m.data.get("role")) for m in self.store.inbox(self.run_id)}
        if status.question:
            for role in {"lead", "dba"} - said - waiting:
                self.store.post(self.run_id, "approve", who=f"the {role}", now=time.time(),
                                node="go", data={"role": role, "why": "", "evidence": ""})

    def close_shopper(self) -> None:
        """No more orders: what was acknowledged can be counted."""
        if self.shopper is not None:
            kill([self.shopper.pid])
            self.shopper.wait()
            self.shopper = None

    def close(self) -> None:
        self.close_shopper()
        if self.controller is not None:
            kill([self.controller.pid])
            self.controller.wait()
        if self._store is not None:
            self._store.close()
            self._store = None


def records_of(lab: Lab, server: str = PRIMARY) -> list[str]:
    """The zone at a server, without what every update changes (the SOA's serial)."""
    key = ("-y", "hmac-sha256:" + TSIG.replace(":hmac-sha256", "")) if server == PRIMARY else ()
    lines = lab.run(
        "control", "dig", "+noall", "+answer", "+onesoa", *key, f"@{server}", "shop.example",
        "AXFR",
    ).stdout.splitlines()
    return sorted(
        re.sub(r"\s+", " ", line) for line in lines
        if not re.search(r"\s(SOA|TSIG)\s", line)
    )
