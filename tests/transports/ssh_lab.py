"""A real OpenSSH server as an ordinary process on a free loopback port, and pools onto it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runbook.model.actions import ActionKey
from runbook.model.inventory import Host, Inventory
from runbook.model.secrets import Redactor, SecretRef
from runbook.transports.clock import SystemClock
from runbook.transports.secrets import SecretStore
from runbook.transports.ssh.connection import Timeouts
from runbook.transports.ssh.jobs import Reconnect
from runbook.transports.ssh.pool import SshPool

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")

needs_sshd = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh-keygen") is None,
    reason="OpenSSH's sshd and ssh-keygen are not installed",
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
needs_sudo = pytest.mark.skipif(shutil.which("sudo") is None, reason="sudo is not installed")

QUICK = Timeouts(connect=5, auth=5, channel=5)
PATIENT = Reconnect(patience=15, first=0.05, longest=0.5)
HASTY = Reconnect(patience=0.3, first=0.1, longest=0.1)


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def keygen(path: Path, kind: str = "ed25519") -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "lab", "-f", str(path)], check=True
    )
    return path


@dataclass
class Sshd:
    """One server: its folder holds the keys, the log, and the home of who logs in."""

    folder: Path
    port: int
    options: tuple[str, ...] = ()
    path: str = ""
    """Folder put before the PATH of a login."""
    address: str = "127.0.0.1"
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def make(cls, folder: Path, *options: str, address: str = "127.0.0.1") -> Sshd:
        folder.mkdir(parents=True)
        (folder / "home").mkdir()
        keygen(folder / "host_key")
        public = keygen(folder / "id").with_suffix(".pub").read_text()
        (folder / "authorized_keys").write_text(public)
        server = cls(folder, free_port(address), options, address=address)
        server.write_known_hosts()
        return server

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def key_line(self) -> str:
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    def write_known_hosts(self) -> None:
        self.known_hosts.write_text(f"[{self.address}]:{self.port} {self.key_line()}\n")

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.folder / "sshd_config"
        path = f" PATH={self.path}:/usr/sbin:/usr/bin:/sbin:/bin" if self.path else ""
        config.write_text("\n".join([
            f"Port {self.port}", f"ListenAddress {self.address}", f"HostKey {self.folder}/host_key",
            f"AuthorizedKeysFile {self.folder}/authorized_keys", "UsePAM no", "StrictModes no",
            "PidFile none", "PermitRootLogin yes", "PasswordAuthentication no",
            "Subsystem sftp internal-sftp", f"SetEnv HOME={self.home}{path}", *self.options, "",
        ]))
        assert SSHD is not None
        self.process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=(self.folder / "log").open("wb"),
        )
        pause = threading.Event()
        for _ in range(200):
            try:
                socket.create_connection((self.address, self.port), timeout=1).close()
                return
            except OSError:
                pause.wait(0.02)
        raise AssertionError((self.folder / "log").read_text())

    def children(self) -> list[int]:
        assert self.process is not None
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def cut(self) -> int:
        """Kill the server's processes of every connection; how many there were."""
        found = self.children()
        for pid in found:
            for child in [*descendants(pid), pid]:
                if _name(child).startswith("sshd"):
                    _kill(child)
        return len(found)

    def stop(self) -> None:
        if self.process is not None:
            self.cut()
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def host(self, name: str = "web1", **changes: Any) -> Host:
        return Host(**{
            "name": name, "address": self.address, "port": self.port, "user": "root",
            "identity": str(self.folder / "id"), **changes,
        })

    def inventory(self, *hosts: Host, known_hosts: Iterable[Path] | None = None) -> Inventory:
        """Without the user's or the system's ssh_config and known_hosts."""
        config = self.folder / "ssh_config"
        config.write_text("Host *\n  UserKnownHostsFile none\n  GlobalKnownHostsFile none\n")
        files = [self.known_hosts] if known_hosts is None else known_hosts
        return Inventory(
            hosts=hosts or (self.host(),), known_hosts=tuple(map(str, files)),
            ssh_config=str(config),
        )


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [found for child in map(int, listed) for found in (*descendants(child), child)]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def make_pool(
    inventory: Inventory, state: Path, *, run: str = "move-1",
    secrets: dict[str, str] | None = None, reconnect: Reconnect = PATIENT, **options: Any,
) -> SshPool:
    """A pool whose secrets are environment variables made up here."""
    values = secrets or {}
    redactor = Redactor()
    store = SecretStore(
        [SecretRef(name=name, source="env", argument=name) for name in values],
        directory=state, redactor=redactor, environ=values,
    )
    return SshPool(
        inventory, run_id=run, state_dir=state, secrets=store, redactor=redactor,
        clock=SystemClock(), timeouts=QUICK, reconnect=reconnect, **options,
    )


def key(node: str = "step@web1", *, attempt: int = 1, index: int = 0, epoch: int = 0) -> ActionKey:
    return ActionKey(
        run="move-1", node=node, op="do", attempt=attempt, index=index, epoch=epoch
    )


def until(condition: Callable[[], bool], patience: float = 10.0) -> None:
    """Wait for a fact about the outside."""
    pause = threading.Event()
    for _ in range(round(patience / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("it did not come to be so in time")


def silent(line: str) -> None:
    """Progress that nobody watches."""
