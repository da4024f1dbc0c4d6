"""One step on two hundred hosts."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.cli.session import Order, Show, start, take_up
from runbook.cli.wiring import load_plan
from runbook.engine.driver import Driven
from runbook.errors import ExitCode
from runbook.journal import open_store
from runbook.model.folding import fold
from runbook.model.runstate import RunState
from runbook.model.state import NodeState, RunPhase
from tests.lab.fleet import fleet
from tests.lab.lab import Lab
from tests.lab.needs import marks
from tests.lab.network import inside

pytestmark = [*marks, pytest.mark.slow]

COUNT = 200


@pytest.fixture(scope="module")
def many() -> Iterator[tuple[Lab, dict[str, str]]]:
    with Lab.open() as lab, fleet(lab, COUNT) as hosts:
        yield lab, hosts


class Fan:
    """Runs over the fleet, driven by this process: what it uses can be measured."""

    def __init__(self, lab: Lab, hosts: dict[str, str], folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        config = folder / "ssh_config"
        config.write_text("Host *\n  UserKnownHostsFile none\n  GlobalKnownHostsFile none\n")
        self.head = (
            f"runbook: fan-out\ninventory:\n  ssh_config: {config}\n"
            f"  known_hosts: [{lab.folder / 'fleet' / 'known_hosts'}]\n  hosts:\n"
            + "".join(f"    {name}: {{address: {address}, user: root, roles: [node], "
                      f"identity: {lab.login_key}}}\n" for name, address in hosts.items())
        )

    def run(self, steps: str) -> tuple[Driven, RunState]:
        file = self.folder / "runbook.yml"
        file.write_text(self.head + "steps:\n" + steps)
        store = open_store(self.folder / "state")
        with inside(self.lab.network.namespace("control")):
            run_id, driven = start(load_plan(file, []), store, show=Show.NOTHING)
        plan, events = store.load(run_id)
        store.close()
        return driven, fold(run_id, plan, events)

    def back(self, run: str) -> tuple[Driven, RunState]:
        store = open_store(self.folder / "state")
        with inside(self.lab.network.namespace("control")):
            driven = take_up(store, run, show=Show.NOTHING, order=Order(
                "rollback", {"why": "", "to": None, "accept_loss": [], "accept_drift": []}
            ))
        plan, events = store.load(run)
        store.close()
        return driven, fold(run, plan, events)


class Most:
    """The greatest number of threads, and how much this process grew, inside a ``with``."""

    def __enter__(self) -> Most:
        self.threads = 0
        self._before = _resident()
        self.grown = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.threads = max(self.threads, threading.active_count())
            self.grown = max(self.grown, _resident() - self._before)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _resident() -> float:
    """MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_a_command_and_a_file_on_two_hundred_hosts_and_back(
    many: tuple[Lab, dict[str, str]], tmp_path: Path
) -> None:
    lab, hosts = many
    fan = Fan(lab, hosts, tmp_path)
    with Most() as most:
        driven, state = fan.run(
            "  - {id: all, kind: shell, hosts: node, undo: rm /root/ran, "
            "with: {command: 'echo $(hostname) >>/root/ran'}}\n"
            "  - {id: file, kind: file, hosts: node, batch: [1, 10%, 50%], max_failures: 5%,"
            " with: {path: /root/file, content: hello}}\n"
        )
    assert driven.exit_code is ExitCode.OK, driven.why
    assert sum(node.state is NodeState.VERIFIED for node in state.nodes.values()) == 2 * COUNT
    print(f"\n{COUNT} hosts: at most {most.threads} threads, {most.grown:.0f} MiB more")
    # One thread a connection reads it; besides them there are as many as may work at once.
    assert most.threads <= COUNT + 120
    assert most.grown < 200
    name = next(reversed(hosts))
    log = (lab.folder / "fleet" / name / "disk/upper/var/log/sshd.log").read_text()
    assert log.count("Accepted publickey") == 1, "one connection for the whole run"
    driven, state = fan.back(state.run_id)
    assert (driven.exit_code, state.phase) == (ExitCode.ROLLED_BACK, RunPhase.ROLLED_BACK)
    for place in (lab.folder / "fleet" / one / "disk/upper/root" for one in hosts):
        assert not (place / "file").exists() and not (place / "ran").exists()


def test_some_of_them_fail(many: tuple[Lab, dict[str, str]], tmp_path: Path) -> None:
    """As many as are tolerated do not stop the others; one more does, and what is left is done
    later, on those hosts alone."""
    lab, hosts = many
    fan = Fan(lab, hosts, tmp_path)
    bad = "case $(hostname) in node00[1-3]) exit 3;; esac"
    driven, state = fan.run(
        f"  - {{id: some, kind: shell, hosts: node, max_failures: 3, undo: 'true', "
        f"with: {{command: \"{bad}\"}}}}\n"
    )
    assert driven.exit_code is ExitCode.OK, driven.why
    assert sum(n.state is NodeState.FAILED for n in state.nodes.values()) == 3
    driven, state = fan.run(
        f"  - {{id: some, kind: shell, hosts: node, batch: 50, max_failures: 1%, undo: 'true', "
        f"with: {{command: \"{bad}\"}}}}\n"
    )
    assert driven.exit_code is ExitCode.HELD
    assert sum(n.state is NodeState.PENDING for n in state.nodes.values()) == COUNT - 50
