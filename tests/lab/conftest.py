"""One lab a module; every test leaves it as it found it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.transports.ssh.jobs import Reconnect
from runbook.transports.ssh.pool import SshPool
from tests.lab.lab import Lab
from tests.lab.network import inside
from tests.lab.remote import Pools, inventory
from tests.transports.ssh_lab import PATIENT, make_pool


@pytest.fixture(scope="module")
def opened() -> Iterator[Lab]:
    with Lab.open() as lab:
        yield lab


@pytest.fixture
def lab(opened: Lab) -> Iterator[Lab]:
    """The module's lab, healed after the test."""
    yield opened
    opened.heal()
    for name, machine in opened.machines.items():
        if machine.supervisor is None:
            machine.start()
        opened.mend_link(name)
    for site in ("east", "west", "control"):
        opened.delay(site, 0)
    for machine in opened.machines.values():
        machine.wait_up()


@pytest.fixture
def pools(lab: Lab, tmp_path: Path) -> Iterator[Pools]:
    """Makes controllers that stand in the control network, each with a state of its own."""
    hosts = inventory(lab, tmp_path / "ssh_config")
    made: list[SshPool] = []

    def make(reconnect: Reconnect = PATIENT, run: str = "move-1", epoch: int = 0) -> SshPool:
        place = tmp_path / f"state-{len(made)}"
        made.append(make_pool(hosts, place, run=run, reconnect=reconnect, epoch=epoch))
        return made[-1]

    with inside(lab.network.namespace("control")):
        yield make
        for pool in made:
            pool.close()
