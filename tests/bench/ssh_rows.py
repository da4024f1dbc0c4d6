"""The ways to run commands on many hosts that the SSH benchmark compares.

Each has the same verbs: ``open`` connects to every host and runs ``true`` once on each, ``each``
runs a number of commands in a row on every host (hosts side by side), ``close`` hangs up. An exit
code that is not 0, or a host that does not answer, raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from runbook.model.actions import RunCommand
from tests.bench.farm import Farm, program
from tests.lab.processes import kill
from tests.transports.ssh_lab import key, make_pool, silent

FORKS = 50


class Way(ABC):
    """One alternative. ``modules`` and ``programs`` are what it needs; ``most`` is the number of
    hosts beyond which one round alone would take a minute."""

    title: str
    modules: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    most = 10_000

    def __init__(self, farm: Farm, count: int, folder: Path) -> None:
        self.farm = farm
        self.count = count
        self.folder = folder
        self.hosts = farm.addresses[:count]

    @classmethod
    def missing(cls) -> str:
        """What it would need and is not here; empty when it can be measured."""
        lacking = [m for m in cls.modules if importlib.util.find_spec(m) is None]
        lacking += [p for p in cls.programs if program(p) is None]
        return ", ".join(lacking)

    @abstractmethod
    def open(self) -> None: ...

    @abstractmethod
    def each(self, times: int) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Also after an ``open`` that failed half-way."""


class Threaded(Way):
    """A thread for each host."""

    def __init__(self, farm: Farm, count: int, folder: Path) -> None:
        super().__init__(farm, count, folder)
        self._threads = ThreadPoolExecutor(count)

    def on_all(self, work: Callable[[int], object]) -> None:
        for _ in self._threads.map(work, range(self.count)):
            pass

    def close(self) -> None:
        self._threads.shutdown()


class Ours(Threaded):
    title = "**runbook**: a query"

    def open(self) -> None:
        self.pool = make_pool(self.farm.inventory(self.count), self.folder)
        self.pool.prepare(tuple(f"h{n}" for n in range(self.count)), {})
        self.reads = [self.pool.host_reads(f"h{n}") for n in range(self.count)]

    def each(self, times: int) -> None:
        def work(number: int) -> None:
            for _ in range(times):
                assert self.reads[number].query("true").exit_code == 0

        self.on_all(work)

    def close(self) -> None:
        super().close()
        self.pool.close()


class OurJobs(Ours):
    title = "**runbook**: an at-most-once job"

    def __init__(self, farm: Farm, count: int, folder: Path) -> None:
        super().__init__(farm, count, folder)
        self.done = 0

    def each(self, times: int) -> None:
        def work(number: int) -> None:
            for n in range(times):
                result = self.pool.perform(
                    RunCommand(host=f"h{number}", script="true"),
                    key(f"b{self.done + n}@h{number}"), silent,
                )
                assert result.ok

        self.on_all(work)
        self.done += times


class LongLivedShell(Way):
    """One ``sh`` a host; commands are written to it, answers framed by a random word. The floor:
    no time limit, no stderr of its own, no length before the output, no record of what ran."""

    title = "one long-lived `sh` a host over asyncssh"
    modules = ("asyncssh",)

    def open(self) -> None:
        self.shells: list[Any] = []
        self.runner = asyncio.Runner()
        self.runner.run(self._connect())
        self.each(1)

    async def _connect(self) -> None:
        import asyncssh

        self.nonce = secrets.token_hex(16)
        at_once = asyncio.Semaphore(FORKS)
        keys = [asyncssh.read_private_key(str(self.farm.identity))]
        known = asyncssh.read_known_hosts(str(self.farm.known_hosts))

        async def one(address: str) -> None:
            async with at_once:
                connection = await asyncssh.connect(
                    address, self.farm.port, username=self.farm.user, client_keys=keys,
                    known_hosts=known, agent_path=None, config=[],
                )
                shell = await connection.create_process("exec /bin/sh", encoding=None)
                self.shells.append((connection, shell))

        await asyncio.gather(*map(one, self.hosts))

    def each(self, times: int) -> None:
        line = f"(true\n) </dev/null; printf '\\n%s %s\\n' {self.nonce} $?\n".encode()
        mark = f"\n{self.nonce} ".encode()

        async def work(shell: Any) -> None:
            for _ in range(times):
                shell.stdin.write(line)
                await shell.stdout.readuntil(mark)
                assert await shell.stdout.readline() == b"0\n"

        async def every() -> None:
            await asyncio.gather(*(work(shell) for _, shell in self.shells))

        self.runner.run(every())

    def close(self) -> None:
        async def bye() -> None:
            for connection, _ in self.shells:
                connection.abort()
            await asyncio.gather(*(connection.wait_closed() for connection, _ in self.shells))

        self.runner.run(bye())
        self.runner.close()


class LibSsh2(Threaded):
    title = "ssh2-python (libssh2), a thread a host"
    modules = ("ssh2",)

    def open(self) -> None:
        self.sessions: dict[int, tuple[Any, socket.socket]] = {}
        self.on_all(self._connect)
        self.each(1)

    def _connect(self, number: int) -> None:
        from ssh2.knownhost import (
            LIBSSH2_KNOWNHOST_KEY_ED25519,
            LIBSSH2_KNOWNHOST_KEYENC_RAW,
            LIBSSH2_KNOWNHOST_TYPE_PLAIN,
        )
        from ssh2.session import Session

        sock = socket.create_connection((self.hosts[number], self.farm.port), timeout=20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = Session()
        session.handshake(sock)
        known = session.knownhost_init()
        known.readfile(str(self.farm.known_hosts))
        shown, _ = session.hostkey()
        known.checkp(
            self.hosts[number].encode(), self.farm.port, shown,
            LIBSSH2_KNOWNHOST_TYPE_PLAIN | LIBSSH2_KNOWNHOST_KEYENC_RAW
            | LIBSSH2_KNOWNHOST_KEY_ED25519,
        )
        session.userauth_publickey_fromfile(
            self.farm.user, str(self.farm.identity), "", f"{self.farm.identity}.pub"
        )
        self.sessions[number] = (session, sock)

    def each(self, times: int) -> None:
        def work(number: int) -> None:
            session = self.sessions[number][0]
            for _ in range(times):
                channel = session.open_session()
                channel.execute("true")
                while channel.read()[0] > 0:
                    pass
                channel.wait_eof()
                channel.close()
                channel.wait_closed()
                assert channel.get_exit_status() == 0

        self.on_all(work)

    def close(self) -> None:
        for session, sock in self.sessions.values():
            session.disconnect()
            sock.close()
        super().close()


class Fabric(Threaded):
    title = "fabric as it comes, a thread a host"
    modules = ("fabric",)

    def open(self) -> None:
        import fabric

        self.connections = [
            fabric.Connection(
                address, user=self.farm.user, port=self.farm.port,
                connect_kwargs={"key_filename": str(self.farm.identity), "allow_agent": False,
                                "look_for_keys": False, "banner_timeout": 60},
            ) for address in self.hosts
        ]
        self.on_all(lambda number: self.connections[number].open())
        self.each(1)

    def each(self, times: int) -> None:
        def work(number: int) -> None:
            for _ in range(times):
                assert self.connections[number].run("true", hide=True, in_stream=False).ok

        self.on_all(work)

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        super().close()


class Multiplexed(Way):
    """OpenSSH's own client as a process, over control sockets kept open."""

    def __init__(self, farm: Farm, count: int, folder: Path) -> None:
        super().__init__(farm, count, folder)
        # The path of a control socket has at most 108 bytes (unix(7)).
        self._sockets = tempfile.TemporaryDirectory(prefix="farm")

    def options(self) -> list[str]:
        pairs = {
            "ControlMaster": "auto", "ControlPath": f"{self._sockets.name}/%h",
            "ControlPersist": "600", "UserKnownHostsFile": str(self.farm.known_hosts),
            "GlobalKnownHostsFile": "none", "StrictHostKeyChecking": "yes",
            "IdentityFile": str(self.farm.identity), "IdentitiesOnly": "yes",
            "BatchMode": "yes", "KexAlgorithms": "curve25519-sha256",
        }
        return [word for name, value in pairs.items() for word in ("-o", f"{name}={value}")]

    def close(self) -> None:
        pids = []
        for control in Path(self._sockets.name).iterdir():
            asked = subprocess.run(
                ["ssh", "-F", "none", "-S", str(control), "-O", "check", "any"],
                capture_output=True, text=True, check=False,
            )
            found = asked.stderr.partition("pid=")[2].partition(")")[0]
            pids += [int(found)] if found.isdigit() else []
        kill(pids)
        self._sockets.cleanup()


class Ansible(Multiplexed):
    title = f"Ansible `raw`, pipelining, forks {FORKS}, ControlPersist"
    programs = ("ansible-playbook", "ssh")
    most = 50

    def open(self) -> None:
        place = self.folder
        (place / "hosts").write_text("".join(
            f"{address} ansible_port={self.farm.port} ansible_user={self.farm.user} "
            f"ansible_python_interpreter={sys.executable}\n" for address in self.hosts
        ))
        words = " ".join(self.options()).replace("%", "%%")
        (place / "ansible.cfg").write_text(
            f"[defaults]\nforks = {FORKS}\ngathering = explicit\ninventory = {place}/hosts\n"
            f"local_tmp = {place}/tmp\nretry_files_enabled = False\n"
            f"[ssh_connection]\npipelining = True\nssh_args = {words}\n"
        )
        self.each(1)

    def each(self, times: int) -> None:
        play = [{"hosts": "all", "gather_facts": False, "tasks": [{"raw": "true"}] * times}]
        (self.folder / "play.yml").write_text(json.dumps(play))
        done = subprocess.run(
            [str(program("ansible-playbook")), str(self.folder / "play.yml")],
            env={**os.environ, "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
                 "ANSIBLE_HOME": str(self.folder), "ANSIBLE_NOCOLOR": "1"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]


class Clush(Multiplexed):
    """By its Python interface, so that the start of a program is not measured 20 times."""

    title = "clush (ClusterShell) over ControlMaster"
    modules = ("ClusterShell",)
    programs = ("ssh",)
    most = 50

    def open(self) -> None:
        self.each(1)

    def each(self, times: int) -> None:
        from ClusterShell.NodeSet import NodeSet
        from ClusterShell.Task import task_self

        task = task_self()
        task.set_info("fanout", FORKS)
        task.set_info("ssh_user", self.farm.user)
        task.set_info("ssh_options", " ".join([*self.options(), "-p", str(self.farm.port)]))
        for _ in range(times):
            task.run("true", nodes=NodeSet.fromlist(self.hosts), timeout=60)
            assert task.max_retcode() == 0, task.max_retcode()


class Pyinfra(Way):
    """In a process of its own, as it replaces the standard library's sockets and threads."""

    title = "pyinfra API (`run_shell_command`)"
    modules = ("pyinfra",)
    most = 50

    def open(self) -> None:
        options = {
            "ssh_user": self.farm.user, "ssh_port": self.farm.port,
            "ssh_key": str(self.farm.identity), "ssh_allow_agent": False,
            "ssh_look_for_keys": False, "ssh_known_hosts_file": str(self.farm.known_hosts),
            "ssh_strict_host_key_checking": "yes",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.pyinfra_worker"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True, cwd=Path(__file__).parents[2],
        )
        self._tell(json.dumps({"hosts": self.hosts, "options": options, "parallel": FORKS}))
        self.each(1)

    def each(self, times: int) -> None:
        self._tell(str(times))

    def close(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.communicate(timeout=10)
        kill([self.process.pid] if self.process.poll() is None else [])
        self.process.wait()

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        for answer in self.process.stdout:
            if answer == "done\n":
                return
        raise AssertionError("pyinfra has ended")


WAYS: tuple[type[Way], ...] = (
    LongLivedShell, Ours, OurJobs, LibSsh2, Fabric, Clush, Pyinfra, Ansible,
)
