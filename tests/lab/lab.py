"""The lab: two sites, a control network, real daemons, and faults at one call each.

    control 192.0.2.0/24      router .1   ns1 .53 (BIND)   ns2 .54 (Knot)   client .80
                              control .10
    east    198.51.100.0/24   router .1   east-web .10   east-resolver .53 (unbound)  east-probe .90
    west    203.0.113.0/24    router .1   west-web .10   west-resolver .53 (unbound)  west-probe .90

Every machine is a tree of namespaces with its own file system over that of the machine below,
its own process 1, sshd and host key. `control` and `client` are desks: a network namespace, with
the file system and the processes of the machine below.
"""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.lab import leftovers, names
from tests.lab.machine import DISK_SIZE, Machine
from tests.lab.needs import find
from tests.lab.network import SITES, Network, site_of
from tests.lab.processes import ENVIRONMENT, start_time, wait_for

ZONE = "shop.example"
MACHINES = {
    "ns1": names.PRIMARY, "ns2": names.SECONDARY,
    "east-web": "198.51.100.10", "east-resolver": "198.51.100.53", "east-probe": "198.51.100.90",
    "west-web": "203.0.113.10", "west-resolver": "203.0.113.53", "west-probe": "203.0.113.90",
}
DESKS = {"control": "192.0.2.10", "client": "192.0.2.80"}
ADDRESSES = {**MACHINES, **DESKS}
RESOLVERS = {"east": "198.51.100.53", "west": "203.0.113.53"}

DEFAULT_ZONE = f"""\
$ORIGIN {ZONE}.
$TTL 8
@     IN SOA ns1 hostmaster 1 30 2 3600 2
@     IN NS  ns1
@     IN NS  ns2
ns1   IN A   {names.PRIMARY}
ns2   IN A   {names.SECONDARY}
@     IN A   198.51.100.10
www   IN CNAME {ZONE}.
"""

_SSHD = """\
Port 22
HostKey /etc/ssh/lab_host_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile /run/sshd.pid
MaxStartups 100
Subsystem sftp internal-sftp
"""

_AT_DESK = """\
mount --make-rprivate /
for f in resolv.conf hosts nsswitch.conf; do mount --bind "$1/$f" "/etc/$f" || exit 1; done
shift
exec "$@"
"""


class Lab:
    """Open one with ``with Lab.open() as lab``. It sweeps what dead labs left behind first."""

    def __init__(self, lab_id: str, folder: Path) -> None:
        self.id = lab_id
        self.folder = folder
        self.network = Network(lab_id)
        self.machines: dict[str, Machine] = {}
        self._desks: list[str] = []
        self._clocks: set[str] = set()

    # -- opening and closing -------------------------------------------------------------------

    @classmethod
    def open(
        cls, zone: str = DEFAULT_ZONE, *, files: Mapping[str, Mapping[str, str]] | None = None,
        disk: Mapping[str, str] | None = None, keep: bool = False,
        more_zones: Sequence[names.Served] = (),
    ) -> Lab:
        """All of it, up. ``zone``: text of ZONE; ``more_zones`` are served beside it; ``files``:
        more files by host and absolute path; ``disk``: sizes of disks other than DISK_SIZE;
        ``keep``: it outlives this process, see ``make lab-down``."""
        leftovers.sweep()
        lab_id = f"{leftovers.PREFIX}{secrets.token_hex(3)}"
        new = Path(tempfile.mkdtemp(prefix=".lab-", dir=leftovers.base()))
        owner = leftovers.KEPT if keep else f"{os.getpid()} {start_time(os.getpid())}"
        (new / "owner").write_text(owner)
        new.chmod(0o755)
        lab = cls(lab_id, new.rename(leftovers.base() / lab_id))
        try:
            lab._build(zone, files or {}, disk or {}, more_zones)
        except BaseException:
            lab.close()
            raise
        return lab

    def close(self) -> None:
        """Nothing is left: no process, no mount, no namespace, no folder."""
        self.network.close()
        for machine in self.machines.values():
            machine.stop()
        leftovers.remove(self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _build(
        self, zone: str, files: Mapping[str, Mapping[str, str]], disk: Mapping[str, str],
        more_zones: Sequence[names.Served],
    ) -> None:
        self.network.open()
        keys = self._keys()
        public = dict.fromkeys((ZONE, *(one.zone for one in more_zones if not one.view)))
        roles = {
            "ns1": names.primary(ZONE, zone, more_zones), "ns2": names.secondary(*public),
            "east-resolver": names.resolver(RESOLVERS["east"], *public),
            "west-resolver": names.resolver(RESOLVERS["west"], *public),
        }
        for name, address in MACHINES.items():
            role = roles.get(name, {})
            machine = Machine(
                name, address, self.folder / name, self.network,
                frozenset({22, 53} if role else {22}),
                disk.get(name, DISK_SIZE),
            )
            self.machines[name] = machine
            machine.install({
                **self._common(name, address, keys), **role, **files.get(name, {}),
            })
            machine.start()
        for name, address in DESKS.items():
            self.network.attach(name, address)
            self._desks.append(name)
            desk = self.folder / name
            desk.mkdir()
            for path, text in self._naming(address).items():
                (desk / Path(path).name).write_text(text)
        for machine in self.machines.values():
            machine.wait_up()
        # Up is not yet of use: the secondary has to have the zones.
        wait_for("ns2 serves every zone", lambda: all(
            self.dig("@" + names.SECONDARY, one, "SOA") for one in public
        ))

    def _keys(self) -> dict[str, tuple[str, str]]:
        """(private, public) by host; that of ``""`` is for logging in, from and to anywhere."""
        place = self.folder / "keys"
        place.mkdir(mode=0o700)
        found = {}
        makers = []
        for name in ("", *MACHINES):
            path = place / (name or "login")
            found[name] = path
            makers.append(subprocess.Popen(
                [find("ssh-keygen") or "", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f",
                 str(path)], env=ENVIRONMENT,
            ))
        for maker in makers:
            assert maker.wait(20) == 0
        keys = {
            name: (path.read_text(), path.with_name(path.name + ".pub").read_text())
            for name, path in found.items()
        }
        self.known_hosts.write_text("".join(
            f"{name},{address} {keys[name][1]}" for name, address in MACHINES.items()
        ))
        return keys

    def _common(
        self, name: str, address: str, keys: Mapping[str, tuple[str, str]]
    ) -> dict[str, str]:
        return {
            **self._naming(address),
            "/etc/ssh/sshd_config": _SSHD,
            "/etc/ssh/lab_host_key": keys[name][0],
            "/etc/ssh/ssh_known_hosts": self.known_hosts.read_text(),
            "/root/.ssh/authorized_keys": keys[""][1],
            "/root/.ssh/id_ed25519": keys[""][0],
            "/etc/hostname": name + "\n",
        }

    def _naming(self, address: str) -> dict[str, str]:
        """How names are resolved at a place: hosts by /etc/hosts, all else by its resolver."""
        site = site_of(address)
        servers = [RESOLVERS[site]] if site in RESOLVERS else list(RESOLVERS.values())
        hosts = "".join(f"{a} {n}\n" for n, a in ADDRESSES.items())
        return {
            # A machine knows its own name; desks have that of the machine below.
            "/etc/hosts": f"127.0.0.1 localhost {socket.gethostname()}\n{hosts}",
            "/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
            "/etc/resolv.conf": "".join(f"nameserver {s}\n" for s in servers)
            + "options timeout:1 attempts:2\n",
        }

    # -- using it ------------------------------------------------------------------------------

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def login_key(self) -> Path:
        return self.folder / "keys" / "login"

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def at(self, desk: str, *command: str) -> list[str]:
        """A command line that runs a command at a desk. It becomes that command: same pid."""
        return [
            "nsenter", f"--net=/run/netns/{self.network.namespace(desk)}",
            "unshare", "-m", "sh", "-c", _AT_DESK, "runbook-desk", str(self.folder / desk),
            *command,
        ]

    def start(
        self, desk: str, *command: str, env: Mapping[str, str] | None = None,
        output: IO[Any] | int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """A process at a desk; the caller ends it, by its pid."""
        return subprocess.Popen(
            self.at(desk, *command), env={**ENVIRONMENT, **(env or {})}, stdout=output,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
        )

    def run(
        self, desk: str, *command: str, timeout: float = 30, check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program at a desk to its end. Raises AssertionError when it must not fail."""
        done = subprocess.run(
            self.at(desk, *command), env={**ENVIRONMENT, **(env or {})}, capture_output=True,
            text=True, timeout=timeout, check=False,
        )
        if check:
            assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done

    def ssh(
        self, desk: str, host: str, command: str, *, known_hosts: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """OpenSSH's own client, strict host keys, none of this machine's configuration."""
        known = known_hosts or self.known_hosts
        return self.run(
            desk, "ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
            "-o", f"UserKnownHostsFile={known}", "-o", "GlobalKnownHostsFile=none",
            "-o", "ConnectTimeout=3", "-o", "IdentityAgent=none", "-i", str(self.login_key),
            f"root@{host}", command, check=False,
        )

    def dig(self, *question: str, desk: str = "control") -> list[str]:
        """Lines of the answer; none when nobody answers."""
        done = self.run(
            desk, "dig", "+short", "+tries=1", "+time=2", *question, check=False
        )
        return [line for line in done.stdout.splitlines() if not line.startswith(";")]

    # -- faults --------------------------------------------------------------------------------

    def power_cut(self, host: str) -> None:
        """Off, at once. What was on its disk stays."""
        self[host].stop()

    def power_on(self, host: str) -> None:
        """Returns when the host is up."""
        self[host].start()
        self[host].wait_up()

    def reboot(self, host: str) -> None:
        """From inside, with reboot(2); returns when the host is up again."""
        machine = self[host]
        before = machine.init
        machine.run("exec /usr/sbin/reboot", check=False)
        wait_for(f"{host} goes down", lambda: machine.init != before)
        machine.wait_up()

    def cut_link(self, host: str) -> None:
        """Pull the cable. The sockets on both sides do not notice."""
        self.network.link(host, up=False)

    def mend_link(self, host: str) -> None:
        self.network.link(host, up=True)

    def partition(self, site_a: str, site_b: str) -> None:
        """Nothing passes between two sites, in silence."""
        self.network.drop(site_a, site_b)
        self.network.drop(site_b, site_a)

    def one_way_loss(self, source: str, target: str, percent: int = 100) -> None:
        """Packets from one site to another are lost; those of the way back are not."""
        self.network.drop(source, target, percent)

    def heal(self) -> None:
        """Lift every partition and loss."""
        self.network.heal()

    def delay(self, site: str, milliseconds: float) -> None:
        """So much longer each way between a site and the others; 0 lifts it."""
        self.network.delay(site, milliseconds / 1000)

    def slow(self, host: str, kbit: int | None = 256) -> None:
        """A thin line; None lifts it."""
        self.network.slow(host, kbit)

    def wrong_clock(self, host: str, offset: str = "+3d") -> None:
        """sshd, and all that is done over SSH, sees another time (libfaketime), restarts
        included; ``""`` puts it right. Connections that are open stay as they are."""
        mark = "/etc/runbook-lab/clock"
        change = f"echo '{offset}' >{mark}" if offset else f"rm -f {mark}"
        self[host].run(f"{change}; sh /etc/runbook-lab/sshd")
        wait_for(f"sshd of {host} is back", lambda: self[host].up)

    def fill_disk(self, host: str, leave: int = 0) -> None:
        self[host].fill_disk(leave)

    def free_disk(self, host: str) -> None:
        self[host].free_disk()

    def slow_disk(self, host: str, seconds: float | None) -> None:
        """What is asked to be on disk is there so much later: the program ``sync`` pauses before
        it does its work. Reads, writes, and fsync(2) by other programs are as fast as before.
        None lifts it."""
        place = "/usr/local/bin/sync"
        self[host].run(f"rm -f {place}" if seconds is None else (
            f"printf '#!/bin/sh\\nsleep {seconds}\\nexec /usr/bin/sync \"$@\"\\n' >{place}; "
            f"chmod 755 {place}"
        ))


def describe(lab: Lab) -> Sequence[str]:
    """How to enter the hosts of a lab."""
    lines = [f"lab {lab.id}, sites {', '.join(SITES)}; a shell on"]
    lines += [
        f"  {name:<14} {machine.address:<15} {' '.join(machine.enter())} sh -l"
        for name, machine in lab.machines.items()
    ]
    for name, address in DESKS.items():
        space = lab.network.namespace(name)
        lines.append(f"  {name:<14} {address:<15} ip netns exec {space} sh -l")
    lines.append(
        f"  over SSH: ip netns exec {lab.network.namespace('control')} ssh -i {lab.login_key} "
        f"-o UserKnownHostsFile={lab.known_hosts} root@{MACHINES['east-web']}"
    )
    return list(itertools.chain(lines, ["end it: make lab-down"]))
