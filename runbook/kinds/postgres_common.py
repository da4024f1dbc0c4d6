"""PostgreSQL: what its kinds ask of a server and of its machine."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any, Literal

from runbook.errors import Errored, Refused
from runbook.kinds.sql_common import answer, program
from runbook.model.actions import RunCommand
from runbook.model.database import Database
from runbook.model.ports import DatabaseReads, Reads

Role = Literal["primary", "standby", "stopped"]

READ_ONLY = "default_transaction_read_only"
FREEZE = (f"ALTER SYSTEM SET {READ_ONLY} = on", "SELECT pg_reload_conf()")
PATIENCE = 60
"""Seconds a server is given to start, to stop, or to bring another one up to date."""


@dataclass(frozen=True)
class Standing:
    """What a server is now; of one that is stopped, what its files say (:func:`control_file`)."""

    role: Role
    system: str
    """The identity of its cluster, which it shares with its standbys alone."""
    timeline: int | None = None
    """The branch of its history that it is on; not known of a standby that runs."""
    end: str | None = None
    """Of a primary that runs: how far its log was written to disk."""
    files: dict[str, Any] | None = None

    @property
    def last(self) -> str | None:
        """Where the last record of a server that was stopped cleanly begins; None where it runs,
        or crashed."""
        if self.files is None or self.files["state"] not in _CLEAN:
            return None
        return str(self.files["at"])


_CLEAN = {"shut down", "shut down in recovery"}

SYSTEM = "(SELECT system_identifier::text FROM pg_control_system())"
TIMELINE = ("CASE WHEN NOT pg_is_in_recovery() THEN "
            "('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END")
"""Not from its control file, which a promotion leaves as it is until the next checkpoint."""
END = "CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn()::text END"
_STANDING = f"SELECT pg_is_in_recovery(), {SYSTEM}, {TIMELINE}, {END}"


def standing(reads: Reads, postgres: DatabaseReads) -> Standing:
    """Asks the server, and where it does not answer its machine. Raises Errored when neither can
    be asked, Refused."""
    try:
        found = answer(postgres, _STANDING)
    except Errored:
        files = _stopped(reads, postgres.database)
        if files is None:
            raise
        return Standing("stopped", files["system"], files["timeline"], files=files)
    recovering, system, timeline, end = found.rows[0]
    return Standing("standby" if recovering else "primary", system, timeline, end)


def role(reads: Reads, postgres: DatabaseReads) -> Role:
    """What a server is now. Raises as :func:`standing` does."""
    try:
        found = answer(postgres, "SELECT pg_is_in_recovery()")
    except Errored:
        if running(reads, postgres.database):
            raise
        return "stopped"
    return "standby" if found.value else "primary"


def running(reads: Reads, database: Database) -> bool:
    """Whether the server runs, asked on its machine. Raises Errored, Refused."""
    if database.service is not None:
        return reads.on(database.host).service(database.service).active
    return _stopped(reads, database) is None


# A server removes its postmaster.pid as the very last thing it does; one that crashed leaves it.
_UNLESS_RUNNING = """\
if {{ read -r pid <{directory}/postmaster.pid; }} 2>/dev/null && kill -0 "${{pid#-}}" 2>/dev/null
then exit 0
fi
"""


def files(database: Database) -> str:
    """A command that says what a server's files say of it."""
    return (f"LC_ALL=C {program(database, 'pg_controldata')} "
            f"-D {shlex.quote(directory(database))}")


def _stopped(reads: Reads, database: Database) -> dict[str, Any] | None:
    """What the files of a server say that does not run; None where it runs. One question, as it
    is asked while writes are refused; with systemd two. Raises Errored, Refused."""
    if database.service is not None and running(reads, database):
        return None
    unless = _UNLESS_RUNNING.format(directory=shlex.quote(directory(database)))
    return _control(reads, database, unless + files(database))


def control_file(reads: Reads, database: Database) -> dict[str, Any]:
    """What the files of a server say of it, whether it runs or not (pg_controldata(1)):
    ``state``, ``at`` (its last checkpoint), ``system``, ``timeline``, ``rewindable``. Raises
    Errored."""
    found = _control(reads, database, files(database))
    assert found is not None
    return found


def _control(reads: Reads, database: Database, script: str) -> dict[str, Any] | None:
    # Root may read what the owner may, and need not become the owner, which takes its time.
    as_root = may_as_root(reads, database)
    done = reads.on(database.host).query(
        script, run_as=None if as_root else database.run_as
    )
    if done.exit_code != 0:
        raise Errored(
            f"{database.host}: pg_controldata cannot read {directory(database)} "
            f"({(done.stderr or done.stdout).strip()})",
            hint="`data_directory`, `bin_directory` and `run_as` of the database say where it is",
        )
    if not done.stdout:
        return None
    told = dict(line.partition(":")[::2] for line in done.stdout.splitlines())
    return {
        "state": told["Database cluster state"].strip(),
        "at": told["Latest checkpoint location"].strip(),
        "system": told["Database system identifier"].strip(),
        "timeline": int(told["Latest checkpoint's TimeLineID"]),
        # pg_rewind(1) needs either.
        "rewindable": told["wal_log_hints setting"].strip() == "on"
        or told["Data page checksum version"].strip() != "0",
    }


def may_as_root(reads: Reads, database: Database) -> bool:
    """Whether the login on its machine is root's, and the owner's name one that a shell knows."""
    host = reads.on(database.host).host
    return (
        host is not None and host.user == "root"
        and re.fullmatch(r"[a-z_][a-z0-9_-]*", database.run_as or "") is not None
    )


@dataclass(frozen=True)
class Serving:
    """What a server that answers says about itself."""

    standby: bool
    read_only: bool
    """Whether new transactions are read-only by default."""
    altered: str | None
    """What ``ALTER SYSTEM`` says about that; None: nothing."""
    sockets: str
    """The folder of its Unix socket."""
    replayed: str | None
    """The position up to which it has replayed, where it is or was a standby."""
    system: str
    """The identity of its cluster."""

    @property
    def role(self) -> Role:
        return "standby" if self.standby else "primary"

    @property
    def frozen(self) -> dict[str, Any]:
        return {"read_only": self.read_only, "altered": self.altered}


# One question, as these are asked while writes are refused.
_SERVING = f"""\
SELECT pg_is_in_recovery(),
  (SELECT reset_val FROM pg_settings WHERE name = '{READ_ONLY}') = 'on',
  (SELECT setting FROM pg_file_settings WHERE name = '{READ_ONLY}'
    AND sourcefile LIKE '%postgresql.auto.conf' ORDER BY seqno DESC LIMIT 1),
  split_part(current_setting('unix_socket_directories'), ',', 1), pg_last_wal_replay_lsn(),
  {SYSTEM}"""


def serving(postgres: DatabaseReads) -> Serving:
    """Raises Errored where it cannot be asked."""
    return Serving(*answer(postgres, _SERVING).rows[0])


def back_to(altered: str | None) -> tuple[str, ...]:
    """Statements that bring ``ALTER SYSTEM``'s own value of the freeze back."""
    first = (
        f"ALTER SYSTEM RESET {READ_ONLY}" if altered is None
        else f"ALTER SYSTEM SET {READ_ONLY} = '{altered}'"
    )
    return (first, "SELECT pg_reload_conf()")


WRITERS = (
    "SELECT coalesce(usename, 'a worker') || ' (' || coalesce(nullif(application_name, ''), "
    "'no name') || ', process ' || pid || ', for ' || "
    "round(extract(epoch FROM now() - xact_start)::numeric, 1) || ' s)' "
    "FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() "
    "UNION ALL SELECT 'the prepared transaction ' || gid FROM pg_prepared_xacts"
)
"""Who has written and has not committed yet, in words."""


def writers(postgres: DatabaseReads) -> list[str]:
    """Transactions under way that have written; prepared ones count too."""
    return [str(one) for (one,) in answer(postgres, WRITERS).rows]


def still_writing(database: str, found: list[str]) -> str:
    return f"still writing on {database}: " + ", ".join(found[:3])


def others(postgres: DatabaseReads) -> list[str]:
    """Databases of the cluster besides the one of the connection: nothing of theirs is seen."""
    return [str(name) for (name,) in answer(
        postgres, "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate "
        "AND datname <> current_database() AND datname <> 'postgres' ORDER BY 1"
    ).rows]


def lsn(text: str) -> int:
    """A position in the log, ``16/B374D848``, as a number of bytes."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


# -- commands on the machine -------------------------------------------------------------------


def pg_ctl(database: Database) -> str:
    return f"{program(database, 'pg_ctl')} -D {shlex.quote(directory(database))}"


def start(database: Database) -> RunCommand:
    if database.service is not None:
        return _on(database, f"systemctl start {shlex.quote(database.service)}", as_owner=False)
    # Its own log: the command's output would keep the job's open for as long as it runs.
    log = shlex.quote(f"{directory(database)}/runbook-start.log")
    return _on(database, f"{pg_ctl(database)} status >/dev/null || "
               f"{pg_ctl(database)} start -w -t {PATIENCE} -l {log} </dev/null >/dev/null 2>&1 "
               f"|| {{ tail -n 5 {log} >&2; exit 1; }}")


def stop(database: Database, *, as_root: bool = False, meanwhile: str = ":") -> RunCommand:
    """Cleanly: sessions are ended, and standbys that follow get every record.

    ``as_root``: without becoming the owner, by the signal that pg_ctl(1) would send;
    ``meanwhile`` is done while it stops, and also where it does not run.
    """
    if database.service is not None:
        made = _on(database, f"systemctl stop {shlex.quote(database.service)}", as_owner=False)
        return made.model_copy(update={"script": f"{made.script} && {meanwhile}"})
    mark = shlex.quote(f"{directory(database)}/postmaster.pid")
    end = 'kill -INT "$pid"' if as_root else f"{pg_ctl(database)} stop -m fast -W >/dev/null"
    # pg_ctl's own waiting looks every 100 ms; writes are refused meanwhile.
    made = _on(database, f"""\
tries={PATIENCE * 100}
if {{ read -r pid <{mark}; }} 2>/dev/null && kill -0 "$pid" 2>/dev/null; then {end} || exit
else pid=
fi
{{ {meanwhile}
}} || exit
while [ "$pid" ] && [ -e {mark} ] && kill -0 "$pid" 2>/dev/null; do
  tries=$((tries - 1))
  [ "$tries" -gt 0 ] || {{ echo "it does not stop within {PATIENCE} s" >&2; exit 1; }}
  sleep 0.01 || sleep 1
done""", as_owner=not as_root)
    # It ends by itself; a guard would be one process more.
    return made.model_copy(update={"timeout": None})


def seal(database: Database, *, as_root: bool = False) -> RunCommand:
    """Stop a primary for good: whoever starts it gets a standby that follows nobody. A server
    looks for the mark only when it starts, so it is made while this one stops."""
    signal = _signal(database)
    owned = f" && chown {database.run_as} {signal}" if as_root else ""
    mark = f": >{signal}{owned} && sync {signal}"
    return stop(
        database, as_root=as_root, meanwhile=mark if as_root else as_owner(database, mark)
    )


def unseal(database: Database) -> RunCommand:
    """Start a sealed server as the primary it was, also where somebody has started it since."""
    begin, end = start(database), stop(database)
    script = f"[ ! -e {_signal(database)} ] || {{ {end.script}\n}} || exit 1\n"
    return begin.model_copy(update={
        "script": f"{script}rm -f {_signal(database)}\n{begin.script}"
    })


def _signal(database: Database) -> str:
    return shlex.quote(f"{directory(database)}/standby.signal")


def as_owner(database: Database, script: str) -> str:
    """What stands for a script as the server's owner where the rest runs as root."""
    if database.service is None:
        return script
    owner = shlex.quote(database.run_as or "postgres")
    return f"runuser -u {owner} -- sh -c {shlex.quote(script)}"


def rewind(database: Database, leader: Database) -> RunCommand:
    """Make a stopped server's data what it was where another one branched off, so that it can
    follow that one. Whatever it has written since is discarded. Its own settings are kept."""
    folder = shlex.quote(directory(database))
    source = shlex.quote(f"{leader_info(database, leader)} dbname=postgres")
    go = (f"LC_ALL=C {program(database, 'pg_rewind')} -D {folder} "
          f"--source-server={source}")
    return _on(database, f"""\
set -e
kept=$(mktemp -d)
trap 'rm -rf "$kept"' EXIT
for file in postgresql.conf postgresql.auto.conf pg_hba.conf pg_ident.conf; do
  [ ! -e {folder}/"$file" ] || cp -p {folder}/"$file" "$kept"/
done
{go} --dry-run
{go}
cp -p "$kept"/* {folder}/
sync
""")


def follow(database: Database, leader: Database) -> RunCommand:
    """Make a server a standby of another one, and start it anew where it ran."""
    folder = shlex.quote(directory(database))
    conninfo = leader_info(database, leader).replace("'", "''")
    line = shlex.quote(f"primary_conninfo = '{conninfo}'")
    begin = start(database)
    settings = (
        f"set -e; printf '%s\\n' {line} >> {folder}/postgresql.auto.conf; "
        f"touch {folder}/standby.signal; sync {folder}/postgresql.auto.conf {folder}"
    )
    end = stop(database)
    if database.service is None:
        return _on(database, f"{end.script} || exit 1\n{settings}\n{begin.script}")
    owner = shlex.quote(database.run_as or "postgres")
    return begin.model_copy(update={
        "script": f"{end.script} && runuser -u {owner} -- sh -c {shlex.quote(settings)} && "
        f"{begin.script}"
    })


def leader_info(database: Database, leader: Database) -> str:
    """The conninfo by which a server follows another one. Raises Refused."""
    if leader.replication is None:
        raise Refused(
            f"nobody can follow {leader.name}: `replication` is not given for it",
            hint=f"databases: {{{leader.name}: {{replication: 'host={leader.host} "
            "user=replicator'}}",
        )
    return f"{leader.replication} application_name={database.name}"


def psql(database: Database, sockets: str, *statements: str) -> str:
    """A command that asks a server on its own machine, as the user who owns it."""
    asked = " ".join(f"-c {shlex.quote(statement)}" for statement in statements)
    return (
        f"{program(database, 'psql')} -X -A -t -q -v ON_ERROR_STOP=1 -h {shlex.quote(sockets)} "
        f"-p {database.port} -d postgres {asked}"
    )


def promote_on_machine(database: Database) -> RunCommand:
    return _on(database, f"{pg_ctl(database)} promote -w -t {PATIENCE}")


def _on(database: Database, script: str, *, as_owner: bool = True) -> RunCommand:
    return RunCommand(
        host=database.host, script=script, run_as=database.run_as if as_owner else None,
        timeout=PATIENCE * 2.0, idempotent=True,
    )


def directory(database: Database) -> str:
    """The folder of its files. Raises Refused where it is not known."""
    if database.data_directory is None:
        raise Refused(
            f"where the files of database {database.name} are is not known",
            hint=f"databases: {{{database.name}: {{data_directory: …, run_as: postgres}}}}",
        )
    return database.data_directory
