"""Real database servers on loopback ports, each ended by its process id."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from runbook.errors import Errored
from runbook.model.database import Database, Engine
from runbook.model.inventory import Host, Inventory
from runbook.model.secrets import Redactor, SecretRef
from runbook.transports.database import DatabaseTransport
from runbook.transports.net_dial import SocketLike
from runbook.transports.secrets import SecretStore
from tests.transports.ssh_lab import free_port, until

PASSWORD = "it's a \\ secret"
"""With what has to be escaped in SQL."""
_PLACES = "/usr/sbin:/usr/bin:/usr/lib/postgresql/15/bin:/usr/lib/postgresql/16/bin:" \
          "/usr/lib/postgresql/17/bin:/usr/lib/postgresql/14/bin"


def find(program: str) -> str | None:
    return shutil.which(program, path=_PLACES)


@dataclass
class Server:
    engine: Engine
    port: int
    folder: Path
    command: Sequence[str]
    user: str
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        # As a user of its own, since PostgreSQL refuses to run as root.
        as_user = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups"]
        root = os.geteuid() == 0
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*(as_user if root else []), *self.command], stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, cwd=self.folder,
            )
        until(self.answers, 30)

    def answers(self) -> bool:
        process = self.process
        assert process is not None
        assert process.poll() is None, (self.folder / "log").read_text()
        with transport(self) as databases:
            try:
                databases.prepare()
            except Errored:
                return False
        return True

    def stop(self) -> None:
        """At once, with its sessions. PostgreSQL's SIGQUIT is its immediate shutdown: after
        SIGKILL its children would hold the shared memory for a while."""
        number = signal.SIGQUIT if self.engine == "postgres" else signal.SIGKILL
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            process.wait(20)

    def declared(self, **more: object) -> Database:
        users = {"postgres": "postgres", "mysql": "mover", "redis": None}
        values: dict[str, object] = {
            "name": "east", "engine": self.engine, "host": "east-db", "port": self.port,
            "user": users[self.engine], "password": "db", "tls": "off",
        }
        return Database.model_validate(values | more)


@contextmanager
def transport(
    server: Server, dial: Callable[[str, str, int], SocketLike] | None = None, **more: object
) -> Iterator[DatabaseTransport]:
    with transport_of(server.declared(**more), dial=dial) as made:
        yield made


@contextmanager
def transport_of(
    *databases: Database, dial: Callable[[str, str, int], SocketLike] | None = None
) -> Iterator[DatabaseTransport]:
    def nowhere(host: str, address: str, port: int) -> SocketLike:
        raise Errored(f"no tunnel from {host}")

    redactor = Redactor()
    made = DatabaseTransport(
        databases, inventory=Inventory(hosts=(Host(name="east-db", address="127.0.0.1"),)),
        secrets=SecretStore(
            [SecretRef(name="db", source="env", argument="DB")], directory=Path(),
            redactor=redactor, environ={"DB": PASSWORD},
        ),
        redactor=redactor, dial=dial or nowhere,
    )
    try:
        yield made
    finally:
        made.close()


def make(engine: Engine, folder: Path) -> Server:
    """A server with its data in ``folder``, not started; its superuser has PASSWORD."""
    folder.mkdir(parents=True)
    return {"postgres": _postgres, "mysql": _mysql, "redis": _redis}[engine](folder)


def _own(folder: Path, user: str) -> None:
    if os.geteuid() == 0:
        shutil.chown(folder, user)
        folder.parent.chmod(0o711)


def _as(user: str, *command: str) -> None:
    prefix = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
    done = subprocess.run([*(prefix if os.geteuid() == 0 else []), *command], check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def _postgres(folder: Path) -> Server:
    _own(folder, "postgres")
    secret = folder / "password"
    secret.write_text(PASSWORD + "\n")
    _own(secret, "postgres")
    data = folder / "data"
    _as("postgres", find("initdb") or "initdb", "-D", str(data), "-U", "postgres", "-A",
        "scram-sha-256", "--pwfile", str(secret), "-N", "--no-locale", "-E", "UTF8")
    port = free_port()
    command = [find("postgres") or "postgres", "-D", str(data), "-p", str(port),
               "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}",
               "-c", "fsync=off"]
    return Server("postgres", port, folder, command, "postgres")


def another_mysql(like: Server, folder: Path) -> Server:
    """The same again, quicker, from one that was never started."""
    folder.mkdir(parents=True)
    return _mysql(folder, like)


def _mysql(folder: Path, like: Server | None = None) -> Server:
    _own(folder, "mysql")
    data, port = folder / "data", free_port()
    first = folder / "first.sql"
    quoted = PASSWORD.replace("\\", "\\\\").replace("'", "''")
    first.write_text(f"CREATE USER IF NOT EXISTS mover@'%' IDENTIFIED BY '{quoted}';\n"
                     "GRANT ALL ON *.* TO mover@'%' WITH GRANT OPTION;\n"
                     "CREATE DATABASE IF NOT EXISTS shop;\n")
    first.chmod(0o644)
    # A server that starts deletes every temporary table in its tmpdir, those of the other
    # servers that use it, too: in /tmp the servers of two tests at once break each other.
    temporary = folder / "tmp"
    temporary.mkdir()
    _own(temporary, "mysql")
    if like is not None:
        _as("mysql", "cp", "-a", str(like.folder / "data"), str(data))
    else:
        _as("mysql", find("mariadb-install-db") or "mariadb-install-db", "--no-defaults",
            f"--datadir={data}", f"--tmpdir={temporary}",
            "--auth-root-authentication-method=normal", "--skip-test-db")
    command = [find("mariadbd") or "mariadbd", "--no-defaults", f"--datadir={data}",
               f"--tmpdir={temporary}",
               f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/socket",
               f"--pid-file={folder}/pid", f"--init-file={first}", "--log-bin", "--server-id=1",
               "--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve"]
    return Server("mysql", port, folder, command, "mysql")


def _redis(folder: Path) -> Server:
    _own(folder, "redis")
    port = free_port()
    settings = folder / "redis.conf"
    quoted = PASSWORD.replace("\\", "\\\\")
    settings.write_text(f'port {port}\nbind 127.0.0.1\nsave ""\nrequirepass "{quoted}"\n'
                        f"dir {folder}\n")
    settings.chmod(0o644)
    command = [find("redis-server") or "redis-server", str(settings)]
    return Server("redis", port, folder, command, "redis")
