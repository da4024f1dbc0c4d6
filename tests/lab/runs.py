"""Runs of small runbooks in the lab, as controllers of their own processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runbook.journal import open_store
from runbook.model.events import Event
from runbook.model.folding import fold
from runbook.model.runstate import NodeStatus, RunState
from tests.lab.lab import MACHINES, Lab

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"


class Runs:
    """Runbooks over the two web hosts and their databases, driven at the control desk.

    ``databases`` is that section of the runbook, with its secrets."""

    def __init__(self, lab: Lab, folder: Path, databases: str, **env: str) -> None:
        self.lab = lab
        self.folder = folder
        self.env = {**env, "RUNBOOK_PLAYBOOKS": str(PLAYBOOKS),
                    "RUNBOOK_STATE": str(folder / "state")}
        hosts = "".join(
            f"    {name}: {{address: {MACHINES[name]}, user: root, identity: {lab.login_key}}}\n"
            for name in ("east-web", "west-web")
        )
        config = folder / "ssh_config"
        config.write_text("Host *\n  UserKnownHostsFile none\n  GlobalKnownHostsFile none\n")
        self.head = (
            "runbook: move\ninventory:\n"
            f"  ssh_config: {config}\n  known_hosts: [{lab.known_hosts}]\n  hosts:\n{hosts}"
            + databases
        )

    def run(
        self, steps: str, *, head: str = "", fail: str = "", patience: float = 90
    ) -> tuple[int, RunState, str]:
        file = self.folder / "runbook.yml"
        file.write_text(self.head + head + "steps:\n" + steps)
        done = self.lab.run(
            "control", sys.executable, "-m", "tests.lab.controller", str(self.folder / "state"),
            str(file), *([fail] if fail else []), env=self.env, check=False, timeout=patience,
        )
        return done.returncode, self.state(), done.stdout + done.stderr

    def start(self, steps: str) -> subprocess.Popen[bytes]:
        """A controller of its own process; its process id is its own, too."""
        file = self.folder / "runbook.yml"
        file.write_text(self.head + "steps:\n" + steps)
        return self.lab.start(
            "control", sys.executable, "-m", "tests.lab.controller", str(self.folder / "state"),
            str(file), env=self.env,
        )

    def probe(self, steps: str) -> tuple[int, str]:
        """`runbook rehearse --level probe`: its exit code, and all it says, in one line."""
        file = self.folder / "runbook.yml"
        file.write_text(self.head + "steps:\n" + steps)
        done = self.lab.run(
            "control", sys.executable, "-m", "runbook", "rehearse", str(file), "--level", "probe",
            "--json", env=self.env, check=False, timeout=90,
        )
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    def probed(self, steps: str) -> tuple[int, dict[str, Any]]:
        """The same, read."""
        code, text = self.probe(steps)
        told: dict[str, Any] = json.loads(text)
        return code, told

    def begun(self, node: str) -> bool:
        """Whether a node of the latest run has begun to act."""
        if not (self.folder / "state" / "journal.db").exists():
            return False
        store = open_store(self.folder / "state")
        return store.latest_run_id() is not None and self.state().nodes[node].intended

    def asked(self) -> bool:
        """Whether a question is open."""
        return any(node.question for node in self.nodes().values())

    def rollback(self, *more: str) -> tuple[int, RunState, str]:
        return self.command("rollback", "--plain", "--yes", "--why", "the test wants it", *more)

    def command(self, verb: str, *words: str) -> tuple[int, RunState, str]:
        """`runbook VERB RUN WORDS`."""
        done = self.lab.run(
            "control", *self.words(verb, *words), env=self.env, check=False, timeout=90,
        )
        return done.returncode, self.state(), done.stdout + done.stderr

    def words(self, verb: str, *words: str) -> list[str]:
        """The same as a command line."""
        return [sys.executable, "-m", "runbook", verb, self.state().run_id, *words]

    def state(self) -> RunState:
        store = open_store(self.folder / "state")
        run = store.latest_run_id()
        assert run is not None
        plan, events = store.load(run)
        return fold(run, plan, events)

    def nodes(self) -> Mapping[str, NodeStatus]:
        """Of the latest run; empty before there is one."""
        if not (self.folder / "state" / "journal.db").exists() or (
            open_store(self.folder / "state").latest_run_id() is None
        ):
            return {}
        return self.state().nodes

    def events(self, kind: str) -> list[Event]:
        store = open_store(self.folder / "state")
        return [e for e in store.events(self.state().run_id) if e.kind == kind]
