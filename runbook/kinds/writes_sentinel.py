"""The kind ``writes.sentinel``."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from runbook.errors import Refused
from runbook.kinds._shared import Duration
from runbook.kinds.mysql_common import state as mysql_state
from runbook.kinds.redis_common import info
from runbook.kinds.redis_common import role as redis_role
from runbook.kinds.sql_common import DatabaseName, answer
from runbook.model.actions import Action, ExecuteSql
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import DatabaseReads, Reads
from runbook.model.runbook import Poll

_REFUSALS = {
    # read_only_sql_transaction; ER_OPTION_PREVENTS_STATEMENT (--read-only)
    "postgres": ("25006",), "mysql": ("1290",), "redis": ("NOREPLICAS", "READONLY"),
}
_MOVES = 5
"""Moves of the position after which it is certain that somebody writes."""


class WritesSentinel(Kind):
    """Prove that a freeze holds: a write is tried and refused, and nothing moves for a while.

    The write is a real one, as a client of the application would make it: a new session with the
    server's own defaults, a transaction, an `INSERT` into a table made for it beforehand. It is
    rolled back where it was accepted, and the step fails. Name the application's login by
    `client:`, a second entry under `databases:` for the same server: on MariaDB a login with READ
    ONLY ADMIN gets past every freeze. For Redis a `SET` is queued in `MULTI`, where the server
    refuses it already, and discarded.

    The refusal has to be the freeze's: 25006 (PostgreSQL), 1290 (MariaDB), NOREPLICAS or READONLY
    (Redis). Then the position has to stand still for as long as `still` says: no new transaction
    on PostgreSQL (the log may grow by checkpoints), the global transaction id on MariaDB, the
    count of changes on Redis (pings and expiries are none). So sessions that get past the freeze
    are found, too.
    """

    name: ClassVar[str] = "writes.sentinel"
    idempotent: ClassVar[bool] = True
    estimate: ClassVar[float] = 1.0
    poll: ClassVar[Poll | None] = Poll(every=0.05, timeout=60.0)
    output_names: ClassVar[dict[str, str]] = {"position": "where the server stands still"}
    example: ClassVar[str] = """\
- id: frozen
  kind: writes.sentinel
  with: {database: east, still: 1s}
"""

    database: DatabaseName = Field(description="The server that is frozen.")
    client: DatabaseName | None = Field(
        default=None, description="The same server with the application's login. Not given: the "
        "login of `database`."
    )
    table: str = Field(
        default="runbook_sentinel", description="A table, made beforehand, that the client may "
        "insert into and whose columns all have defaults; for Redis a key."
    )
    write: str | None = Field(
        default=None, description="The write that is tried, in place of an insert into `table`."
    )
    still: Duration = Field(
        default=0.5, le=30, description="How long nothing may move, at most 30 s."
    )

    def databases(self) -> tuple[str, ...]:
        return (self.database, *([self.client] if self.client else []))

    def observe(self, reads: Reads) -> Observation:
        server = reads.database(self.database)
        client = reads.database(self.client or self.database)
        if server.database.engine not in _REFUSALS or (
            client.database.engine != server.database.engine
        ):
            raise Refused(
                f"{self.database} is {server.database.engine}, and the client "
                f"{client.database.engine}: a freeze is proven on PostgreSQL, MariaDB or Redis"
            )
        if self.write is None:
            self._has_table(client)
        kept = dict(reads.progress)
        now, position = reads.now(), _position(server)
        moves, from_ = kept.get("moves", 0), kept.get("position", position)
        if from_ != position:
            moves += 1
        if from_ != position or "since" not in kept:
            kept = {"position": position, "since": now, "moves": moves, "from": from_}
        done = now - kept["since"] >= self.still
        return Observation(
            evidence={"engine": server.database.engine, "shown": _shown(server), **kept},
            progress={} if done else kept, at=now,
        )

    def plan(self, before: Observation) -> Planned:
        engine = before.evidence.get("engine", "postgres")
        write = self.write or {
            "postgres": f"INSERT INTO {self.table} DEFAULT VALUES",
            "mysql": f"INSERT INTO {self.table} VALUES ()", "redis": f"SET {self.table} 1",
        }[engine]
        return Planned(actions=(ExecuteSql(
            database=self.client or self.database, statements=(write,), idempotent=True,
            timeout=10.0, refused_with=_REFUSALS[engine],
        ),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        seen = after.evidence
        stood = after.at - seen["since"]
        moved = ""
        if seen["moves"]:
            moved = (f"; it moved {seen['moves']} times, last from {_words(seen['from'])} to "
                     f"{_words(seen['position'])}")
        if stood < self.still:
            return Verdict(
                ok=False, retry=seen["moves"] < _MOVES,
                seen=f"{self.database} has stood still for {stood:.1f} s of {self.still:g} s{moved}"
                + (": somebody gets past the freeze" if seen["moves"] >= _MOVES else ""),
            )
        return Verdict(
            ok=True, outputs={"position": seen["shown"]},
            seen=f"a write was refused, and {self.database} stood still for {stood:.1f} s at "
            f"{seen['shown']}{moved}",
        )

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """There is nothing to undo: a write that was accepted was rolled back at once."""
        return ()

    def _has_table(self, client: DatabaseReads) -> None:
        """Raises Refused: it has to be made before the move, by somebody who may."""
        engine, name = client.database.engine, self.table.replace("'", "''")
        if engine == "postgres":
            there = answer(client, f"SELECT to_regclass('{name}') IS NOT NULL").value
            make = f"CREATE TABLE {self.table} (at timestamptz DEFAULT now())"
        elif engine == "mysql":
            there = answer(
                client, "SELECT COUNT(*) FROM information_schema.TABLES WHERE "
                f"'{name}' IN (CONCAT(TABLE_SCHEMA, '.', TABLE_NAME), "
                "IF(TABLE_SCHEMA = DATABASE(), TABLE_NAME, ''))"
            ).value
            make = f"CREATE TABLE {self.table} (at TIMESTAMP(6) DEFAULT NOW(6)) ENGINE = InnoDB"
        else:
            return
        if not there:
            raise Refused(
                f"{client.database.name} sees no table {self.table}: a write cannot be tried",
                hint=f"before the move, on the primary: {make}; and let the application's login "
                "insert into it",
            )


def _position(server: DatabaseReads) -> dict[str, Any]:
    """What every write of a client moves, and nothing else does."""
    engine = server.database.engine
    if engine == "postgres":
        in_recovery = answer(server, "SELECT pg_is_in_recovery()").value
        if in_recovery:
            return {"log": answer(server, "SELECT pg_last_wal_replay_lsn()::text").value}
        return {"transaction": answer(
            server, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"
        ).value}
    if engine == "mysql":
        return {"gtid": mysql_state(server)["gtid"]}
    told = info(server, "persistence")
    return {"changes": told["rdb_changes_since_last_save"], "saved": told["rdb_last_save_time"]}


def _shown(server: DatabaseReads) -> str:
    engine = server.database.engine
    if engine == "redis":
        return f"offset {redis_role(server)['offset']}"
    if engine == "mysql":
        return f"GTID {mysql_state(server)['gtid']}"
    return str(answer(
        server, "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE "
        "pg_current_wal_flush_lsn() END::text"
    ).value)


def _words(position: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in position.items())
