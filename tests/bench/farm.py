"""A farm of hosts for the SSH benchmarks: loopback addresses, each with a real OpenSSH server.

With a distance the hosts stand in a network namespace of their own, behind a relay that delays
each packet (kernels without netem have no other way); :meth:`Farm.there` puts the calling thread
where they can be reached. Linux, root.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType, TracebackType

from runbook.model.inventory import Host, Inventory
from tests.lab.network import enter, inside
from tests.lab.processes import kill, run
from tests.transports.ssh_lab import SSHD, descendants, free_port, keygen

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_PATIENCE = 20.0
_ROOT = Path(__file__).parents[2]


class Farm:
    """``count`` hosts, each an sshd with its own address, home and configuration. ``far`` is the
    round trip to them in seconds.

    They share one host key and one login key: nothing that is measured depends on it. The servers
    have their own sessions, so that a Ctrl-C at the terminal reaches the benchmark alone, which
    then ends them by their ids.
    """

    user = "root"

    def __init__(self, folder: Path, count: int, *, far: float = 0.0) -> None:
        self.folder = folder
        network = "10.177" if far else "127.77"
        self.addresses = [f"{network}.{n // 250}.{n % 250 + 1}" for n in range(count)]
        self.port = free_port()
        self.identity = folder / "id"
        self.known_hosts = folder / "known_hosts"
        self._far = far
        self._space = f"farm{os.getpid()}"
        self._servers: list[subprocess.Popen[bytes]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Farm:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def there(self) -> AbstractContextManager[None]:
        """Where this thread must stand to reach the hosts."""
        return inside(f"{self._space}c") if self._far else nullcontext()

    def inventory(self, count: int) -> Inventory:
        """For our own pool: hosts ``h0``, ``h1``, …; without the user's ssh_config and
        known_hosts."""
        return Inventory(
            hosts=tuple(
                Host(name=f"h{n}", address=address, port=self.port, user=self.user,
                     identity=str(self.identity))
                for n, address in enumerate(self.addresses[:count])
            ),
            known_hosts=(str(self.known_hosts),), ssh_config=str(self.folder / "ssh_config"),
        )

    def close(self) -> None:
        pids = [server.pid for server in self._servers]
        kill([child for pid in pids for child in descendants(pid)])
        kill(pids)
        for server in self._servers:
            server.wait()
        self._servers.clear()
        self._stack.close()

    def _open(self) -> None:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        keygen(self.folder / "host_key")
        public = keygen(self.identity).with_suffix(".pub").read_text()
        (self.folder / "authorized_keys").write_text(public)
        key = " ".join((self.folder / "host_key.pub").read_text().split()[:2])
        self.known_hosts.write_text(
            "".join(f"[{address}]:{self.port} {key}\n" for address in self.addresses)
        )
        (self.folder / "ssh_config").write_text(
            "Host *\n  UserKnownHostsFile none\n  GlobalKnownHostsFile none\n"
        )
        if self._far:
            self._stack.enter_context(_distance(self._space, self._far, self.addresses))
        with inside(f"{self._space}h") if self._far else nullcontext():
            for number, address in enumerate(self.addresses):
                self._servers.append(self._start(number, address))
        with self.there():
            for address in self.addresses:
                self._listening(address)

    def _start(self, number: int, address: str) -> subprocess.Popen[bytes]:
        home = self.folder / f"home{number}"
        home.mkdir()
        config = self.folder / f"sshd{number}.conf"
        config.write_text("\n".join([
            f"Port {self.port}", f"ListenAddress {address}", f"HostKey {self.folder}/host_key",
            f"AuthorizedKeysFile {self.folder}/authorized_keys", "UsePAM no", "StrictModes no",
            "PidFile none", "PermitRootLogin yes", "PasswordAuthentication no", "UseDNS no",
            "MaxSessions 64", "MaxStartups 100", "Subsystem sftp internal-sftp",
            f"SetEnv HOME={home}", "PrintMotd no", "PrintLastLog no", "",
        ]))
        assert SSHD is not None
        return subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )

    def _listening(self, address: str) -> None:
        end, pause = time.monotonic() + _PATIENCE, threading.Event()
        while True:
            try:
                socket.create_connection((address, self.port), timeout=2).close()
                return
            except OSError:
                assert time.monotonic() < end, f"no sshd at {address}"
                pause.wait(0.02)


@contextmanager
def _distance(name: str, round_trip: float, addresses: list[str]) -> Iterator[None]:
    """Two namespaces: NAMEh with all addresses, NAMEc for the client, and the way between."""
    hosts, client = f"{name}h", f"{name}c"
    with ExitStack() as stack:
        for space in (hosts, client):
            run("ip", "netns", "add", space)
            stack.callback(run, "ip", "netns", "del", space)
            run("ip", "-n", space, "link", "set", "lo", "up")
        relay = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.farm", hosts, client, str(round_trip / 2)],
            stdout=subprocess.PIPE, start_new_session=True, cwd=_ROOT,
        )
        assert relay.stdout is not None
        stack.callback(relay.stdout.close)
        stack.callback(relay.wait)
        stack.callback(kill, [relay.pid])
        assert relay.stdout.readline() == b"ready\n"
        lines = "".join(f"addr add {address}/32 dev lo\n" for address in addresses)
        run("ip", "-n", hosts, "-batch", "-", input=lines)
        for space, own, other in ((hosts, "10.176.0.1/32", "10.176.0.2/32"),
                                  (client, "10.176.0.2/32", "10.177.0.0/16")):
            run("ip", "-n", space, "addr", "add", own, "dev", "far")
            run("ip", "-n", space, "link", "set", "far", "up", "mtu", "1500", "txqueuelen", "10000")
            run("ip", "-n", space, "route", "add", other, "dev", "far")
        yield


def _relay(one: str, other: str, seconds: float) -> None:
    """Pass packets between a TUN device of either namespace, each so much later."""
    tuns = []
    for space in (one, other):
        enter(os.open(f"/run/netns/{space}", os.O_RDONLY))
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH", b"far", _IFF_TUN | _IFF_NO_PI))
        tuns.append(tun)
    across = dict(zip(tuns, reversed(tuns), strict=True))
    waiting: deque[tuple[float, int, bytes]] = deque()
    print("ready", flush=True)
    while True:
        left = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for tun in select.select(tuns, [], [], left)[0]:
            _take(tun, across[tun], time.monotonic() + seconds, waiting)
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, target, packet = waiting.popleft()
            # A device that is not up yet drops packets, as any network does.
            with suppress(OSError):
                os.write(target, packet)


def _take(tun: int, target: int, due: float, waiting: deque[tuple[float, int, bytes]]) -> None:
    while True:
        try:
            waiting.append((due, target, os.read(tun, 65536)))
        except BlockingIOError:
            return


def unwind_on_signals(*further: signal.Signals) -> None:
    """SIGTERM and SIGHUP unwind as Ctrl-C does, so that whatever was started is ended."""
    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP, *further):
        signal.signal(number, leave)


def program(name: str) -> str | None:
    """Where a program is: beside this Python, or on the PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


if __name__ == "__main__":
    _relay(sys.argv[1], sys.argv[2], float(sys.argv[3]))
