"""Three Redis servers on loopback, and whoever watches and acts as the engine would."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from runbook.model.actions import Action, ActionKey, ActionResult, ExecuteSql, RunCommand
from runbook.model.inventory import Host, Inventory
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import CommandResult, DatabaseReads
from runbook.model.secrets import MARK, Redactor, SecretRef
from runbook.transports.database import DatabaseTransport
from runbook.transports.secrets import SecretStore
from tests.kinds.fakes import FakeHost, FakeReads
from tests.transports.database.servers import PASSWORD, Server, make
from tests.transports.ssh_lab import until

NAMES = ("east", "west", "third")


@dataclass
class Machine(FakeHost):
    """This one, for a user whose HOME is ``home``."""

    home: Path = Path("/nonexistent")
    password: str = PASSWORD

    def query(
        self, command: str, *, timeout: float = 60.0, run_as: str | None = None,
        env: Mapping[str, str] | None = None, cwd: str | None = None,
    ) -> CommandResult:
        done = subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, timeout=timeout, check=False,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.home)} | {
                name: MARK.sub(self.password.replace("\\", "\\\\"), value)
                for name, value in (env or {}).items()},
        )
        return CommandResult(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr)


@dataclass
class World(FakeReads):
    """``Reads`` of one step, and the way to carry actions out."""

    databases: DatabaseTransport | None = None
    here: Machine = field(default_factory=Machine)
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def progress(self) -> Mapping[str, Any]:
        return self.kept

    def now(self) -> float:
        return time.time()

    def database(self, name: str) -> DatabaseReads:
        assert self.databases is not None
        return self.databases.reads(name)

    def perform(self, actions: tuple[Action, ...] | Irreversible) -> list[ActionResult]:
        """One after the other, until one fails."""
        assert not isinstance(actions, Irreversible)
        results: list[ActionResult] = []
        for index, action in enumerate(actions):
            if isinstance(action, ExecuteSql):
                assert self.databases is not None
                key = ActionKey(run="run", node="node", op="do", attempt=1, index=index)
                results.append(self.databases.perform(action, key))
            else:
                assert isinstance(action, RunCommand)
                done = self.here.query(action.script, env=action.env, timeout=90)
                results.append(ActionResult(ok=not done.exit_code, detail=done.stderr))
            if not results[-1].ok:
                break
        return results

    def do(self, kind: Kind) -> Observation:
        """Apply a step, which succeeds; what was observed before."""
        before = kind.observe(self)
        results = self.perform(kind.plan(before).actions)
        assert results, "there was nothing to do"
        assert results[-1].ok, results[-1]
        verdict = self.settle(kind, before)
        assert verdict.ok, verdict
        return before

    def settle(self, kind: Kind, before: Observation, *, looks: int = 400) -> Verdict:
        """What it comes to: looked at as long as waiting may help, and so many times at most."""
        self.kept = {}
        for _ in range(looks):
            after = kind.observe(self)
            self.kept = dict(after.progress)
            verdict = kind.verify(before, after)
            if verdict.ok or not verdict.retry:
                break
            time.sleep(0.01)
        return verdict

    def checked(self, kind: Kind, *, looks: int = 400) -> Verdict:
        return self.settle(kind, kind.observe(self), looks=looks)

    def planned(self, kind: Kind) -> Planned:
        return kind.plan(kind.observe(self))


@dataclass
class Trio:
    servers: dict[str, Server]
    clients: dict[str, Any]

    def reset(self) -> None:
        """Three primaries that do not know each other, empty, with Redis's own defaults."""
        for client in self.clients.values():
            client.replicaof("no", "one")
            for name, value in (("min-replicas-to-write", 0), ("min-replicas-max-lag", 10),
                                ("replica-read-only", "yes"), ("masterauth", PASSWORD),
                                ("repl-diskless-sync-delay", 0)):
                client.config_set(name, value)
            client.flushall()

    def follow(self, follower: str, leader: str, *, port: int = 0) -> None:
        self.clients[follower].replicaof("127.0.0.1", port or self.servers[leader].port)
        until(lambda: self.clients[follower].info("replication")["master_link_status"] == "up", 20)

    def place(self, name: str) -> str:
        return f"127.0.0.1 {self.servers[name].port}"

    @contextmanager
    def world(self, **replication: str) -> Iterator[World]:
        """``replication`` of those that are not to be followed by 127.0.0.1."""
        redactor = Redactor()
        databases = DatabaseTransport(
            [server.declared(name=name, replication=replication.get(name, self.place(name)))
             for name, server in self.servers.items()],
            inventory=Inventory(hosts=(Host(name="east-db", address="127.0.0.1"),)),
            secrets=SecretStore([SecretRef(name="db", source="env", argument="DB")],
                                directory=Path(), redactor=redactor, environ={"DB": PASSWORD}),
            redactor=redactor, dial=lambda *_: None,  # type: ignore[arg-type, return-value]
        )
        try:
            yield World(databases=databases)
        finally:
            databases.close()


@contextmanager
def trio(folder: Path) -> Iterator[Trio]:
    servers: dict[str, Server] = {}
    try:
        for name in NAMES:
            servers[name] = make("redis", folder / name)
            servers[name].start()
        clients = {name: redis.Redis(port=server.port, password=PASSWORD, protocol=2)
                   for name, server in servers.items()}
        yield Trio(servers, clients)
        for client in clients.values():
            client.close()
    finally:
        for server in servers.values():
            if server.process is not None:
                server.stop()
