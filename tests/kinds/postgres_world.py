"""Three PostgreSQL servers on loopback ports, and kinds that look at them and act on them: a
primary, its standby, and a standby of another cluster."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from runbook.kinds.postgres_common import pg_ctl
from runbook.model.actions import Action, ActionResult, ExecuteSql, RunCommand
from runbook.model.database import Database
from runbook.model.inventory import Host, Inventory
from runbook.model.kind import Kind
from runbook.model.observation import Verdict
from runbook.model.ports import CommandResult, DatabaseReads
from runbook.model.secrets import Redactor, SecretRef
from runbook.transports.database import DatabaseTransport
from runbook.transports.secrets import SecretStore
from tests.kinds.fakes import FakeHost, FakeReads
from tests.transports.database.servers import PASSWORD, Server, find, make
from tests.transports.ssh_lab import free_port, key, until

AS_OWNER = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")


def as_owner(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*AS_OWNER, *command], check=False, capture_output=True, text=True,
                          timeout=60)


class Machine(FakeHost):
    """This one, as the host of every server."""

    def query(
        self, command: str, *, timeout: float = 60.0, run_as: str | None = None,
        env: Mapping[str, str] | None = None, cwd: str | None = None,
    ) -> CommandResult:
        done = as_owner("sh", "-c", command)
        return CommandResult(
            exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr
        )


@dataclass
class World(FakeReads):
    """``Reads`` over declared servers, and the way to carry actions out."""

    here: FakeHost = field(default_factory=Machine)
    servers: dict[str, Server] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._databases: DatabaseTransport | None = None
        self._more: list[Database] = []

    def declared(self, of: str, **more: object) -> Database:
        server = self.servers[of]
        folder = server.folder
        return server.declared(**{
            "name": of, "data_directory": str(folder / "data"),
            "bin_directory": str(Path(find("initdb") or "").parent), "run_as": "postgres",
            "replication": f"host=127.0.0.1 port={server.port} user=postgres "
            f"passfile={folder}/pass", **more,
        })

    def declare(self, name: str, of: str, **more: object) -> None:
        """One more name of a server."""
        self._more.append(self.declared(of, name=name, **more))
        self.close()

    def close(self) -> None:
        if self._databases is not None:
            self._databases.close()
            self._databases = None

    @property
    def databases(self) -> DatabaseTransport:
        if self._databases is None:
            redactor = Redactor()

            def nowhere(host: str, address: str, port: int) -> Any:
                raise AssertionError("no tunnels here")

            self._databases = DatabaseTransport(
                [*map(self.declared, self.servers), *self._more],
                inventory=Inventory(hosts=(Host(name="east-db", address="127.0.0.1"),)),
                secrets=SecretStore(
                    [SecretRef(name="db", source="env", argument="DB")], directory=Path(),
                    redactor=redactor, environ={"DB": PASSWORD},
                ),
                redactor=redactor, dial=nowhere,
            )
        return self._databases

    def database(self, name: str) -> DatabaseReads:
        return self.databases.reads(name)

    def now(self) -> float:
        return time.time()

    @property
    def progress(self) -> Mapping[str, Any]:
        return self.kept

    def ask(self, name: str, *statements: str, database: str = "postgres") -> list[Any]:
        """Rows of the last statement, asked by the superuser."""
        with psycopg.connect(
            host="127.0.0.1", port=self.servers[name].port, user="postgres", password=PASSWORD,
            dbname=database, autocommit=True,
        ) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def replayed(self) -> None:
        """Wait until west has everything that east has."""
        end = self.ask("east", "SELECT pg_current_wal_flush_lsn()")[0][0]
        until(lambda: bool(
            self.ask("west", f"SELECT pg_last_wal_replay_lsn() >= '{end}'")[0][0]), 20)

    def perform(self, *actions: Action) -> ActionResult:
        """Until one fails; the last one's."""
        result = ActionResult(ok=True)
        for action in actions:
            if isinstance(action, ExecuteSql):
                result = self.databases.perform(action, key())
            else:
                assert isinstance(action, RunCommand)
                done = as_owner("sh", "-c", action.script)
                result = ActionResult(ok=done.returncode == 0, detail=done.stdout + done.stderr)
            if not result.ok:
                break
        return result

    def checked(self, kind: Kind, patience: float = 10.0) -> Verdict:
        """What a check says, looked at as its poll has it."""
        self.kept = {}
        before = kind.observe(self)
        now, end = before, time.monotonic() + patience
        while True:
            verdict = kind.verify(before, now)
            if verdict.ok or not verdict.retry or time.monotonic() > end:
                return verdict
            self.kept = dict(now.progress)
            now = kind.observe(self)


@contextmanager
def frozen(world: World) -> Iterator[None]:
    """East refuses writes, and west has all it has."""
    change = "ALTER SYSTEM {} default_transaction_read_only{}"
    world.ask("east", change.format("SET", " = on"), "SELECT pg_reload_conf()")
    try:
        until(lambda: world.ask("east", "SHOW default_transaction_read_only")[0][0] == "on")
        world.replayed()
        yield
    finally:
        world.ask("east", change.format("RESET", ""), "SELECT pg_reload_conf()")
        until(lambda: world.ask("east", "SHOW default_transaction_read_only")[0][0] == "off")


def _owned(file: Path, text: str) -> None:
    file.write_text(text)
    shutil.chown(file, "postgres", "postgres")
    file.chmod(0o600)


def _follows(server: Server, folder: Path, conninfo: str = "") -> Server:
    """A standby whose files are a stopped server's."""
    folder.mkdir()
    shutil.chown(folder, "postgres", "postgres")
    as_owner("cp", "-a", str(server.folder / "data"), str(folder / "data"))
    _owned(folder / "data" / "standby.signal", "")
    if conninfo:
        auto = folder / "data" / "postgresql.auto.conf"
        _owned(auto, f"primary_conninfo = '{conninfo}'\n")
    port = free_port()
    command = [str(folder / "data") if one == str(server.folder / "data") else
               f"unix_socket_directories={folder}" if one.startswith("unix_socket") else
               str(port) if one == str(server.port) else one for one in server.command]
    return Server("postgres", port, folder, command, "postgres")


@contextmanager
def world() -> Iterator[World]:
    """East is the primary, west follows it, stranger is a standby of another cluster, further on
    in its log."""
    # Not below pytest's own folder: no other user may enter that.
    with tempfile.TemporaryDirectory(prefix="runbook-pg-") as name:
        root = Path(name)
        east, other = (make("postgres", root / one) for one in ("east", "other"))
        escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
        settings = "wal_retrieve_retry_interval = 100ms\nwal_receiver_status_interval = 1s\n"
        for server in (east, other):
            conf = server.folder / "data" / "postgresql.conf"
            # What starts it without these words listens there, too.
            _owned(conf, f"{conf.read_text()}\n{settings}listen_addresses = '127.0.0.1'\n"
                   "fsync = off\n")
            hba = server.folder / "data" / "pg_hba.conf"
            _owned(hba, f"local all postgres trust\n{hba.read_text()}")
        conninfo = (f"host=127.0.0.1 port={east.port} user=postgres application_name=west "
                    f"passfile={root}/west/pass")
        west = _follows(east, root / "west", conninfo)
        far = as_owner(f"{Path(find('initdb') or '').parent}/pg_resetwal", "-l",
                       "0000000100000002000000FF", "-D", str(other.folder / "data"))
        assert far.returncode == 0, far.stderr
        other.start()  # Its log is one for standbys from then on.
        assert other.process is not None
        other.process.send_signal(signal.SIGINT)
        other.process.wait(20)
        stranger = _follows(other, root / "stranger")
        servers = {"east": east, "west": west, "stranger": stranger}
        made = World(servers=servers)
        try:
            for server in servers.values():
                _owned(server.folder / "pass", f"*:*:*:postgres:{escaped}\n")
                auto = server.folder / "data" / "postgresql.auto.conf"
                _owned(auto, f"{auto.read_text()}port = {server.port}\n"
                       f"unix_socket_directories = '{server.folder}'\n")
                server.start()
            yield made
        finally:
            made.close()
            for one, server in servers.items():
                # One that was started anew is nobody's child.
                as_owner("sh", "-c", f"{pg_ctl(made.declared(one))} stop -m immediate")
                server.stop()
