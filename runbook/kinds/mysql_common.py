"""MariaDB: what its kinds ask of a server. Positions are global transaction ids (GTID)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from runbook.errors import Refused
from runbook.kinds.sql_common import answer, program
from runbook.model.actions import ANSWER, ExecuteSql, Question
from runbook.model.database import Database
from runbook.model.ports import DatabaseReads
from runbook.model.secrets import mark

PATIENCE = 60
"""Seconds a follower is given to catch up."""

CLOSE = "SET GLOBAL read_only = 1"
FREEZE = (
    # Waits for commits under way and holds new ones back: after it every session refuses.
    "FLUSH TABLES WITH READ LOCK", CLOSE, "UNLOCK TABLES",
)
OPEN = "SET GLOBAL read_only = 0"


def state(mysql: DatabaseReads) -> dict[str, Any]:
    """``role`` (primary or replica), ``of`` and ``port`` (where its primary is), ``leader`` (its
    primary's ``server_id``; 0: not known), ``sources`` (how many servers it follows), ``running``
    (both threads of replication), ``stopped`` (one of them, for good), ``error``; ``server_id``,
    ``place`` (where others follow it), ``read_only``, ``gtid`` (everything it has), ``has`` (the
    last sequence of each ``domain-server``). Raises Errored, Refused."""
    version = str(answer(mysql, "SELECT VERSION()").value)
    if "MariaDB" not in version:
        raise Refused(
            f"database {mysql.database.name} is MySQL {version}: these kinds know MariaDB's "
            "global transaction ids only",
            hint="use sql.query and sql.assert for it",
        )
    # What it wrote itself and what it replayed; the greater of both in each domain.
    read_only, own, binlog, replayed, every = answer(
        mysql, "SELECT @@GLOBAL.read_only, @@GLOBAL.server_id, @@GLOBAL.gtid_binlog_pos, "
        "@@GLOBAL.gtid_slave_pos, @@GLOBAL.gtid_binlog_state"
    ).rows[0]
    followed = answer(mysql, "SHOW ALL SLAVES STATUS").dicts()
    one = followed[0] if followed else {}
    threads = (one.get("Slave_IO_Running"), one.get("Slave_SQL_Running"))
    return {
        "role": "replica" if one else "primary", "of": str(one.get("Master_Host", "")),
        "port": int(one.get("Master_Port") or 0), "leader": int(one.get("Master_Server_Id") or 0),
        "sources": len(followed), "running": threads == ("Yes", "Yes"), "stopped": "No" in threads,
        "server_id": int(own), "place": _place(mysql.database), "read_only": bool(int(read_only)),
        "gtid": _together(str(binlog or ""), str(replayed or "")),
        "has": _by_origin(str(binlog or ""), str(replayed or ""), str(every or "")),
        "error": str(one.get("Last_SQL_Error") or one.get("Last_IO_Error") or ""),
    }


def _place(database: Database) -> dict[str, Any]:
    """Where others follow a server; not ``declared``: where we reach it ourselves, if that is
    told."""
    words = _replication(database)
    if "host" in words:
        return {"host": words["host"], "port": int(words.get("port", database.port)),
                "declared": True}
    seen = "" if database.via else database.address or ""
    return {"host": seen, "port": database.port, "declared": False}


def _replication(database: Database) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in shlex.split(database.replication or ""))


def lacks(primary: Mapping[str, Any], replica: Mapping[str, Any]) -> str:
    """Which transactions of a primary a replica lacks, in words; empty: none. Both are given as
    :func:`state` tells them.

    A position is ``domain-server-sequence``, one a domain, separated by commas. A sequence counts
    only with its server: what another server has written on top says nothing."""
    missing = []
    for one in filter(None, str(primary["gtid"]).split(",")):
        domain, number, sequence = one.split("-")
        reached = replica["has"].get(f"{domain}-{number}", 0)
        if int(sequence) > reached:
            missing.append(f"up to {one}" + (f", from {reached}" if reached else ""))
    return ", ".join(missing)


def own_since(gtid: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What a server has written after a position that another one lacks, in words; empty: none."""
    reached = {entry.split("-")[0]: int(entry.split("-")[2]) for entry in gtid.split(",") if entry}
    own = []
    for origin, sequence in one["has"].items():
        domain, _, number = origin.partition("-")
        from_ = max(reached.get(domain, 0), other["has"].get(origin, 0))
        if sequence > from_:
            own.append(f"{domain}-{number}-{sequence}")
    return ", ".join(own)


def _together(*positions: str) -> str:
    best: dict[int, str] = {}
    for one in ",".join(filter(None, positions)).split(","):
        if one:
            domain, _, sequence = one.split("-")
            held = best.get(int(domain))
            if held is None or int(sequence) > int(held.split("-")[2]):
                best[int(domain)] = one
    return ",".join(best[domain] for domain in sorted(best))


def _by_origin(*positions: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in ",".join(filter(None, positions)).split(","):
        if one:
            origin, _, sequence = one.strip().rpartition("-")
            found[origin] = max(found.get(origin, 0), int(sequence))
    return found


def execute(name: str, *statements: str) -> ExecuteSql:
    return ExecuteSql(
        database=name, statements=statements, idempotent=True, timeout=PATIENCE + 10.0
    )


def on_machine(database: Database, statement: str) -> tuple[str, dict[str, str]]:
    """A command that executes a statement on the server's own machine, and its environment: a
    password is never an argument."""
    env = {} if database.password is None else {"MYSQL_PWD": mark(database.password)}
    user = f" -u {shlex.quote(database.user)}" if database.user else ""
    return (
        f"{program(database, 'mariadb')} --no-defaults --protocol=tcp "
        f"-h {shlex.quote(database.address or '127.0.0.1')} -P {database.port}{user} "
        f"-e {shlex.quote(statement)}"
    ), env


def follow(leader: Database, *, demoted: bool) -> tuple[str, ...]:
    """Statements by which a server follows another one. ``demoted``: it was a primary itself.
    Raises Refused."""
    words = _replication(leader)
    if not {"host", "user"} <= set(words):
        raise Refused(
            f"nobody can follow {leader.name}: `replication` is not given for it",
            hint=f"databases: {{{leader.name}: {{replication: 'host=198.51.100.30 "
            "user=replicator password=NAME-OF-A-SECRET'}}",
        )
    port = words.get("port", str(leader.port))
    login = f"MASTER_HOST = '{words['host']}', MASTER_PORT = {int(port)}, " \
            f"MASTER_USER = '{words['user']}'"
    if "password" in words:
        login += f", MASTER_PASSWORD = '{mark(words['password'])}'"
    # MariaDB 10.10 and newer: what it wrote as a primary becomes its position as a replica.
    how = "MASTER_USE_GTID = slave_pos"
    if demoted:
        how += ", MASTER_DEMOTE_TO_SLAVE = 1"
    return ("STOP SLAVE", f"CHANGE MASTER TO {login}, {how}", "START SLAVE")


def catch_up(name: str, leader: Database, *, demoted: bool) -> ExecuteSql:
    """Let a server follow a frozen leader until it has everything, and leave it. It is refused
    when that takes too long. ``demoted``: as in :func:`follow`."""
    reached = f"MASTER_GTID_WAIT('{ANSWER}', {PATIENCE}) = 0"
    wait = f"SELECT IF({reached}, 'reached', (SELECT 'not reached' UNION SELECT 'in time'))"
    everything = Question(database=leader.name, statement="SELECT @@GLOBAL.gtid_current_pos")
    return execute(
        name, *follow(leader, demoted=demoted), wait, "STOP SLAVE", "RESET SLAVE ALL"
    ).model_copy(update={"ask": everything})
