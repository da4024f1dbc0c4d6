"""Controllers in the lab that carry commands out on its hosts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runbook.model.actions import ActionResult, RunCommand
from runbook.model.inventory import Host, Inventory
from runbook.transports.ssh.pool import SshPool
from tests.lab.lab import MACHINES, Lab
from tests.lab.processes import wait_for
from tests.transports.ssh_lab import key, until

Pools = Callable[..., SshPool]
"""Makes controllers that stand in the control network; see the fixture ``pools``."""

LEDGER = "echo ran >>/root/ledger; "


def inventory(lab: Lab, config: Path) -> Inventory:
    """All hosts of a lab; ``config`` is made, so that no ssh_config of this machine counts."""
    config.write_text("Host *\n  UserKnownHostsFile none\n  GlobalKnownHostsFile none\n")
    return Inventory(
        hosts=tuple(Host(name=name, address=address, user="root", identity=str(lab.login_key))
                    for name, address in MACHINES.items()),
        known_hosts=(str(lab.known_hosts),), ssh_config=str(config),
    )


def ledger(lab: Lab, host: str = "east-web") -> int:
    """How many commands have run on a host since it was asked last."""
    return lab[host].run("cat /root/ledger 2>/dev/null; rm -f /root/ledger").stdout.count("ran")


def ours(lab: Lab, host: str) -> list[str]:
    """Command lines of the processes on a host beside those that it has by itself, connections
    that sshd still has open included."""
    seen = lab[host].run("ps -ww -e -o pid=,ppid=,args=").stdout.splitlines()
    rows = [(int(pid), int(parent), args.strip()) for pid, parent, args in
            (line.split(None, 2) for line in seen)]
    asking = {pid for pid, parent, args in rows if parent == 0 and pid != 1}
    own = ("tini", "sleep infinity", "sshd: /usr/sbin/sshd", "python3 /etc/runbook-lab",
           "/usr/sbin/named", "unbound", "knotd")
    return [args for pid, parent, args in rows
            if not args.startswith(own) and pid not in asking and parent not in asking]


def wait_quiet(lab: Lab, host: str, patience: float = 15.0) -> None:
    """Nothing of a controller's is left among the processes of a host."""
    try:
        wait_for(f"{host} is quiet", lambda: not ours(lab, host), patience)
    except AssertionError as fault:
        raise AssertionError(f"{fault}: {ours(lab, host)}") from fault


class Watched:
    """A command under way in a thread of its own, and the lines it has said."""

    def __init__(self, pool: SshPool, node: str, script: str, host: str = "east-web") -> None:
        self.action = RunCommand(host=host, script=script, ok_codes=(0, 7))
        self.key = key(node)
        self.lines: list[str] = []
        self._threads = ThreadPoolExecutor(1)
        self._task = self._threads.submit(
            pool.perform, self.action, self.key, self.lines.append
        )
        self._threads.shutdown(wait=False)

    def said(self, line: str) -> None:
        until(lambda: line in self.lines or self._task.done())
        assert line in self.lines, self._task.exception() or self._task.result()

    def result(self, patience: float = 60) -> ActionResult:
        return self._task.result(patience)
