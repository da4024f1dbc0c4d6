"""PostgreSQL on two hosts of the lab, one following the other, and somebody who writes."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import psycopg

from tests.lab.lab import MACHINES, Lab
from tests.lab.needs import PATH
from tests.lab.processes import wait_for
from tests.lab.switchover import NEW, OLD, PASSWORD, Writer

DATA, SOCKETS = "/srv/postgres/data", "/srv/postgres"


def programs() -> str:
    """Where PostgreSQL's programs are; empty where it is not installed."""
    places = [*map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"))), *PATH.split(":")]
    found = shutil.which("initdb", path=":".join(places))
    return str(Path(found).parent) if found else ""


def start() -> str:
    """A command that starts the server on its host."""
    return (f"runuser -u postgres -- env LC_ALL=C {programs()}/pg_ctl -D {DATA} -w "
            f"-l {SOCKETS}/log start </dev/null >&2")


def boot() -> str:
    """For a host's `boot.d`: it starts the server that is there, whatever that is."""
    return f"[ ! -e {DATA}/PG_VERSION ] || {{ rm -f {DATA}/postmaster.pid; {start()}; }}\n"


ORDERS = f"""\
$psql -q -c "CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'" \\
  -c "CREATE TABLE orders (id bigint PRIMARY KEY, at timestamptz DEFAULT now())" \\
  -c "GRANT ALL ON orders TO app"
"""


def make_pair(lab: Lab, fill: str = ORDERS) -> None:
    """A primary on OLD, as :func:`make_primary` makes it, with a streaming standby on NEW."""
    _prepare(lab, NEW)
    make_primary(lab, OLD, fill)
    copy(lab)


def _prepare(lab: Lab, host: str) -> None:
    lab[host].run(f"install -d -o postgres -m 700 {SOCKETS} && "
                  f"echo '*:*:*:replicator:{PASSWORD}' >{SOCKETS}/.pgpass && "
                  f"chown postgres {SOCKETS}/.pgpass && chmod 600 {SOCKETS}/.pgpass")


def make_primary(lab: Lab, host: str, fill: str = ORDERS) -> None:
    """A server on a host. ``fill`` is what the host does, in shell, to have something in it; its
    ``$psql`` asks the server as the superuser."""
    binaries = programs()
    as_postgres = "runuser -u postgres -- env LC_ALL=C"
    _prepare(lab, host)
    lab[host].run(f"""set -e
echo {PASSWORD} >{SOCKETS}/first; chown postgres {SOCKETS}/first
{as_postgres} {binaries}/initdb -D {DATA} -U postgres --pwfile={SOCKETS}/first -N -E UTF8 \
  -A scram-sha-256 >&2
cat >>{DATA}/postgresql.conf <<'END'
listen_addresses = '*'
unix_socket_directories = '{SOCKETS}'
wal_keep_size = 64MB
shared_buffers = 16MB
wal_receiver_status_interval = 1s
wal_sender_timeout = 3s
wal_retrieve_retry_interval = 100ms
wal_log_hints = on
END
cat >{DATA}/pg_hba.conf <<'END'
local all postgres trust
host all all 0.0.0.0/0 scram-sha-256
host replication replicator 0.0.0.0/0 scram-sha-256
END
{start()}
psql="{binaries}/psql -v ON_ERROR_STOP=1 -h {SOCKETS} -U postgres"
$psql -q -c "CREATE ROLE replicator REPLICATION LOGIN PASSWORD '{PASSWORD}'" \
  -c "GRANT EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean),
      pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) TO replicator"
{fill}""")


def copy(lab: Lab) -> None:
    """Make the standby on NEW, and start it."""
    binaries = programs()
    as_postgres = "runuser -u postgres -- env LC_ALL=C"
    follow = (f"host={MACHINES[OLD]} user=replicator application_name=west "
              f"passfile={SOCKETS}/.pgpass")
    lab[NEW].run(f"""set -e
{as_postgres} {binaries}/pg_basebackup -D {DATA} -R -c fast -d '{follow}' >&2
{start()}
""")


def databases() -> str:
    """The section of a runbook."""
    lines = ["secrets: {db: {env: DB_PASSWORD}}", "databases:"]
    for name, host in (("east", OLD), ("west", NEW)):
        lines.append(
            f"  {name}: {{engine: postgres, host: {host}, user: postgres, password: db, "
            f"data_directory: {DATA}, bin_directory: {programs()}, run_as: postgres, "
            f"replication: 'host={MACHINES[host]} user=replicator passfile={SOCKETS}/.pgpass'}}"
        )
    lines.append(f"  east-app: {{engine: postgres, host: {OLD}, user: app, password: db}}")
    return "\n".join(lines) + "\n"


def ask(lab: Lab, host: str, *statements: str) -> str:
    """What the server on a host says, asked there by its superuser."""
    words = " ".join(f"-c {shlex.quote(statement)}" for statement in statements)
    return lab[host].run(
        f"{programs()}/psql -X -h {SOCKETS} -U postgres -Atq -v ON_ERROR_STOP=1 {words}"
    ).stdout.strip()


def ids(lab: Lab, host: str) -> set[int]:
    """The orders that the server on a host has."""
    return {int(line) for line in ask(lab, host, "SELECT id FROM orders").split()}


def running(lab: Lab, host: str) -> bool:
    status = f"runuser -u postgres -- {programs()}/pg_ctl -D {DATA} status"
    return lab[host].run(status, check=False).returncode == 0


def rot(lab: Lab, host: str, file: str, this: str, that: str) -> None:
    """A standby's disk spoils a byte: the same length in a file, and nobody is told."""
    assert len(this) == len(that)
    # Or the server would mend the page from its log when it starts again.
    ask(lab, OLD, "CHECKPOINT")
    target = ask(lab, OLD, "SELECT pg_current_wal_flush_lsn()")
    wait_for("the standby has the checkpoint", lambda: ask(
        lab, host, f"SELECT pg_last_wal_replay_lsn() >= '{target}'") == "t")
    ask(lab, host, "CHECKPOINT")
    stop = f"runuser -u postgres -- {programs()}/pg_ctl -D {DATA} -m fast -w stop >&2"
    lab[host].run(f"set -e; {stop}; grep -q {this} {DATA}/{file}\n"
                  f"LC_ALL=C sed -i s/{this}/{that}/ {DATA}/{file}\n{start()}")


class PostgresWriter(Writer):
    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def write(self, number: int) -> bool:
        hosts = ",".join(MACHINES[host] for host in (OLD, NEW))
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    host=hosts, user="app", password=PASSWORD, dbname="postgres",
                    target_session_attrs="read-write", connect_timeout=2, autocommit=True,
                    tcp_user_timeout=2000,
                )
            self._connection.execute("INSERT INTO orders (id) VALUES (%s)", (number,))
        except psycopg.Error:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            return False
        return True
