"""Redis: what its kinds ask of a server."""

from __future__ import annotations

import shlex
from typing import Any

from runbook.errors import Errored, Refused
from runbook.kinds.sql_common import answer, program
from runbook.model.actions import ExecuteSql, RunCommand
from runbook.model.database import Database
from runbook.model.ports import DatabaseReads
from runbook.model.secrets import mark

NOBODY = 1000
"""Replicas that a frozen server demands before it takes a write: more than anybody has."""
PING = 14
"""Bytes of the ``PING`` that a primary sends to its replicas now and then: all that a frozen one
sends."""


PERSIST = (
    "True: the server's configuration file holds it, too (`CONFIG REWRITE`), so that no restart "
    "forgets it."
)
_REWRITE = "CONFIG REWRITE"


def role(redis: DatabaseReads) -> dict[str, Any]:
    """``role`` (primary or replica), ``of`` (whose, ``host port``), ``offset`` in the stream of
    replication. Raises Errored."""
    told = [row[0] for row in answer(redis, "ROLE").rows]
    if told[0] == "master":
        return {"role": "primary", "of": "", "offset": int(told[1])}
    if told[0] == "slave":
        linked = told[3] == "connected"
        return {"role": "replica", "of": f"{told[1]} {told[2]}",
                "offset": int(told[4]) if linked else -1}
    raise Errored(f"database {redis.database.name} is a {told[0]}, neither primary nor replica")


def demanded(redis: DatabaseReads) -> int:
    """How many replicas have to be there for a write. Raises Errored."""
    rows = answer(redis, "CONFIG GET min-replicas-to-write").rows
    return int(rows[1][0])


def lacks(primary: int, replica: int) -> int:
    """Bytes of writes that a replica lacks of a frozen primary: its pings are none."""
    behind = max(0, primary - replica)
    return 0 if behind % PING == 0 and behind <= 3 * PING else behind


def has_all(new: DatabaseReads, old: DatabaseReads) -> bool:
    """Whether a primary that was promoted has all that its former primary has: the same stream,
    which went no further than the promotion."""
    one, other = info(new, "replication"), info(old, "replication")
    behind = int(other["master_repl_offset"]) - (int(one["second_repl_offset"]) - 1)
    return other["master_replid"] == one["master_replid2"] and behind <= 0


def info(redis: DatabaseReads, section: str) -> dict[str, str]:
    told = str(answer(redis, f"INFO {section}").value)
    return dict(line.partition(":")[::2] for line in told.split() if ":" in line)


def execute(name: str, *commands: str, persist: bool = False) -> ExecuteSql:
    """``persist``: the server's configuration file holds it afterwards. It is written before the
    commands, too: where that is not possible, nothing was changed."""
    if persist:
        commands = (_REWRITE, *commands, _REWRITE)
    return ExecuteSql(database=name, statements=commands, idempotent=True)


def demand(name: str, replicas: int, *, persist: bool = False) -> ExecuteSql:
    return execute(name, f"CONFIG SET min-replicas-to-write {replicas}", persist=persist)


def refuse_without_file(redis: DatabaseReads) -> None:
    """Raises Refused where a server was started without a configuration file."""
    if not info(redis, "server").get("config_file"):
        raise Refused(
            f"{redis.database.name} runs without a configuration file: what is changed there would "
            "be forgotten with its next start",
            hint="start it with a file, or leave `persist` out",
        )


def place(database: Database) -> str:
    """``host port`` by which others follow a server. Raises Refused."""
    words = (database.replication or "").split()
    if not words:
        raise Refused(
            f"nobody can follow {database.name}: `replication` is not given for it",
            hint=f"databases: {{{database.name}: {{replication: '198.51.100.30 6379'}}}}",
        )
    return f"{words[0]} {words[1] if len(words) > 1 else database.port}"


def cli(database: Database) -> tuple[str, dict[str, str]]:
    """A command that asks a server on its own machine, and its environment: a password is never
    an argument."""
    env = {} if database.password is None else {"REDISCLI_AUTH": mark(database.password)}
    user = f" --user {shlex.quote(database.user)}" if database.user else ""
    host = f" -h {shlex.quote(database.address)}" if database.address else ""
    return f"{program(database, 'redis-cli')}{host} -p {database.port}{user}", env


def wait_for_replica(leader: Database, follower: Database, seconds: int = 60) -> RunCommand:
    """On the leader's machine: until the follower has acknowledged everything. The server itself
    has no command that waits for what others have written."""
    address = shlex.quote(place(follower).split()[0])
    command, env = cli(leader)
    return RunCommand(
        host=leader.host, env=env, idempotent=True, timeout=seconds + 10.0, script=(
            f"tries={seconds * 10}\n"
            f"until {command} INFO replication | "
            f"tr -d '\\r' | awk -F: -v ip={address} '\n"
            '  $1 == "master_repl_offset" { end = $2 }\n'
            '  $1 ~ /^slave[0-9]+$/ && index($2, "ip=" ip ",") && $2 ~ /state=online/ {\n'
            '    split($2, part, "offset="); split(part[2], own, ",")\n'
            "    offset = own[1]; seen = 1 }\n"
            "  END { exit !(seen && offset >= end) }'\n"
            "do\n"
            "  tries=$((tries - 1))\n"
            f'  [ "$tries" -gt 0 ] || {{ echo "{follower.name} does not catch up" >&2; exit 1; }}\n'
            "  sleep 0.1\n"
            "done\n"
        ),
    )
