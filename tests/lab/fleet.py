"""Many more hosts in a lab: enough for a step that goes to all of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.lab.lab import Lab
from tests.lab.machine import Machine
from tests.transports.ssh_lab import keygen

_SITES = (("198.51.100", range(100, 250)), ("203.0.113", range(100, 250)))


@contextmanager
def fleet(lab: Lab, count: int) -> Iterator[dict[str, str]]:
    """``count`` hosts, up, with an sshd each; their addresses by name. They have one host key."""
    places = [f"{prefix}.{number}" for prefix, numbers in _SITES for number in numbers][:count]
    folder = lab.folder / "fleet"
    folder.mkdir()
    private = keygen(folder / "host_key")
    key = private.read_text(), private.with_suffix(".pub").read_text()
    login = lab.login_key.read_text(), lab.login_key.with_name("login.pub").read_text()
    hosts = {f"node{number:03}": address for number, address in enumerate(places)}

    def make(name: str) -> Machine:
        machine = Machine(name, hosts[name], folder / name, lab.network, disk_size="32m")
        machine.install(lab._common(name, hosts[name], {name: key, "": login}))
        machine.start()
        return machine

    with ThreadPoolExecutor(8) as threads:
        machines = list(threads.map(make, hosts))
        try:
            list(threads.map(lambda machine: machine.wait_up(90), machines))
            (folder / "known_hosts").write_text(
                "".join(f"{address} {key[1]}" for address in hosts.values())
            )
            yield hosts
        finally:
            list(threads.map(Machine.stop, machines))
