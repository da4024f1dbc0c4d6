"""PostgreSQL: what its kinds ask of a server and of its machine."""

from __future__ import annotations

import shlex
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


def role(reads: Reads, postgres: DatabaseReads) -> Role:
    """What a server is now. Raises Errored when it can be asked in neither way."""
    try:
        found = answer(postgres, "SELECT pg_is_in_recovery()")
    except Errored:
        if running(reads, postgres.database):
            raise
        return "stopped"
    return "standby" if found.value else "primary"


def running(reads: Reads, database: Database) -> bool:
    """Whether the server runs, asked on its machine. Raises Errored, Refused."""
    host = reads.on(database.host)
    if database.service is not None:
        return host.service(database.service).active
    # pg_ctl(1): 0 running, 3 not running, 4 no accessible data directory.
    done = host.query(f"{pg_ctl(database)} status", run_as=database.run_as)
    if done.exit_code not in {0, 3}:
        raise Errored(
            f"{database.host}: pg_ctl cannot tell whether {database.name} runs "
            f"({(done.stderr or done.stdout).strip()})",
            hint="`data_directory`, `bin_directory` and `run_as` of the database say where it is",
        )
    return done.exit_code == 0


def shutdown_lsn(reads: Reads, database: Database) -> str | None:
    """Where the last record of a server that was stopped cleanly begins; None where it runs, or
    crashed."""
    told = control_file(reads, database)
    return told["at"] if told["state"] in {"shut down", "shut down in recovery"} else None


def control_file(reads: Reads, database: Database) -> dict[str, Any]:
    """What the files of a server say of it, whether it runs or not (pg_controldata(1)):
    ``state``, ``at`` (its last checkpoint), ``rewindable``. Raises Errored."""
    directory = shlex.quote(_directory(database))
    done = reads.on(database.host).query(
        f"LC_ALL=C {program(database, 'pg_controldata')} -D {directory}", run_as=database.run_as
    )
    if done.exit_code != 0:
        raise Errored(
            f"{database.host}: pg_controldata cannot read {_directory(database)} "
            f"({done.stderr.strip()})"
        )
    told = dict(line.partition(":")[::2] for line in done.stdout.splitlines())
    return {
        "state": told["Database cluster state"].strip(),
        "at": told["Latest checkpoint location"].strip(),
        # pg_rewind(1) needs either.
        "rewindable": told["wal_log_hints setting"].strip() == "on"
        or told["Data page checksum version"].strip() != "0",
    }


def frozen(postgres: DatabaseReads) -> dict[str, Any]:
    """Whether new transactions are read-only by default, and whether ``ALTER SYSTEM`` said so."""
    found = answer(
        postgres,
        f"SELECT (SELECT reset_val FROM pg_settings WHERE name = '{READ_ONLY}'), "
        f"(SELECT setting FROM pg_file_settings WHERE name = '{READ_ONLY}' "
        "AND sourcefile LIKE '%postgresql.auto.conf' ORDER BY seqno DESC LIMIT 1)",
    )
    now, own = found.rows[0]
    return {"read_only": now == "on", "altered": own}


def back_to(altered: str | None) -> tuple[str, ...]:
    """Statements that bring ``ALTER SYSTEM``'s own value of the freeze back."""
    first = (
        f"ALTER SYSTEM RESET {READ_ONLY}" if altered is None
        else f"ALTER SYSTEM SET {READ_ONLY} = '{altered}'"
    )
    return (first, "SELECT pg_reload_conf()")


def lsn(text: str) -> int:
    """A position in the log, ``16/B374D848``, as a number of bytes."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


# -- commands on the machine -------------------------------------------------------------------


def pg_ctl(database: Database) -> str:
    return f"{program(database, 'pg_ctl')} -D {shlex.quote(_directory(database))}"


def start(database: Database) -> RunCommand:
    if database.service is not None:
        return _on(database, f"systemctl start {shlex.quote(database.service)}", as_owner=False)
    # Its own log: the command's output would keep the job's open for as long as it runs.
    log = shlex.quote(f"{_directory(database)}/runbook-start.log")
    return _on(database, f"{pg_ctl(database)} status >/dev/null || "
               f"{pg_ctl(database)} start -w -t {PATIENCE} -l {log} </dev/null >/dev/null 2>&1 "
               f"|| {{ tail -n 5 {log} >&2; exit 1; }}")


def stop(database: Database) -> RunCommand:
    """Cleanly: sessions are ended, and standbys that follow get every record."""
    if database.service is not None:
        return _on(database, f"systemctl stop {shlex.quote(database.service)}", as_owner=False)
    return _on(database, f"if {pg_ctl(database)} status >/dev/null; then "
               f"{pg_ctl(database)} stop -m fast -w -t {PATIENCE}; fi")


def seal(database: Database) -> RunCommand:
    """Stop a primary for good: whoever starts it gets a standby that follows nobody."""
    end = stop(database)
    signal = _signal(database)
    mark = _as_owner(database, f": >{signal} && sync {signal}")
    return end.model_copy(update={"script": f"{end.script} || exit 1\n{mark}"})


def unseal(database: Database) -> RunCommand:
    """Start a sealed server as the primary it was, also where somebody has started it since."""
    begin, end = start(database), stop(database)
    script = f"[ ! -e {_signal(database)} ] || {{ {end.script}\n}} || exit 1\n"
    return begin.model_copy(update={
        "script": f"{script}rm -f {_signal(database)}\n{begin.script}"
    })


def _signal(database: Database) -> str:
    return shlex.quote(f"{_directory(database)}/standby.signal")


def _as_owner(database: Database, script: str) -> str:
    """What stands for a script as the server's owner where the rest runs as root."""
    if database.service is None:
        return script
    owner = shlex.quote(database.run_as or "postgres")
    return f"runuser -u {owner} -- sh -c {shlex.quote(script)}"


def rewind(database: Database, leader: Database) -> RunCommand:
    """Make a stopped server's data what it was where another one branched off, so that it can
    follow that one. Whatever it has written since is discarded. Its own settings are kept."""
    directory = shlex.quote(_directory(database))
    source = shlex.quote(f"{leader_info(database, leader)} dbname=postgres")
    go = (f"LC_ALL=C {program(database, 'pg_rewind')} -D {directory} "
          f"--source-server={source}")
    return _on(database, f"""\
set -e
kept=$(mktemp -d)
trap 'rm -rf "$kept"' EXIT
for file in postgresql.conf postgresql.auto.conf pg_hba.conf pg_ident.conf; do
  [ ! -e {directory}/"$file" ] || cp -p {directory}/"$file" "$kept"/
done
{go} --dry-run
{go}
cp -p "$kept"/* {directory}/
sync
""")


def follow(database: Database, leader: Database) -> RunCommand:
    """Make a server a standby of another one, and start it anew where it ran."""
    directory = shlex.quote(_directory(database))
    conninfo = leader_info(database, leader).replace("'", "''")
    line = shlex.quote(f"primary_conninfo = '{conninfo}'")
    begin = start(database)
    settings = (
        f"set -e; printf '%s\\n' {line} >> {directory}/postgresql.auto.conf; "
        f"touch {directory}/standby.signal; sync {directory}/postgresql.auto.conf {directory}"
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


def hand_over(leader: Database, follower: Database, sockets: str) -> RunCommand:
    """Wait until a follower has replayed everything its leader has, then stop the leader."""
    ask = psql(
        leader, sockets, "SELECT count(*) FROM pg_stat_replication WHERE application_name = "
        f"'{follower.name}' AND state = 'streaming' AND replay_lsn >= pg_current_wal_flush_lsn()",
    )
    end = stop(leader)
    wait = (
        f"tries={PATIENCE * 10}\n"
        f'until [ "$({ask})" = 1 ]; do\n'
        "  tries=$((tries - 1))\n"
        f'  [ "$tries" -gt 0 ] || {{ echo "{follower.name} does not catch up" >&2; exit 1; }}\n'
        "  sleep 0.1\n"
        "done\n"
    )
    return end.model_copy(update={"script": wait + end.script})


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


def _directory(database: Database) -> str:
    if database.data_directory is None:
        raise Refused(
            f"where the files of database {database.name} are is not known",
            hint=f"databases: {{{database.name}: {{data_directory: …, run_as: postgres}}}}",
        )
    return database.data_directory
