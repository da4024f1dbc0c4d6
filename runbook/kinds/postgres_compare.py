"""The kind ``postgres.compare``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from runbook.kinds._compare import Dialect, Key, Table, named
from runbook.kinds._comparison import Standing, TableComparison
from runbook.kinds.postgres_common import SYSTEM, lsn, others, serving
from runbook.kinds.sql_common import DatabaseName, answer, server
from runbook.model.database import Engine
from runbook.model.observation import Observation
from runbook.model.ports import DatabaseReads, Reads

# Ordinary tables whose changes reach a standby. Partitioned ones hold nothing themselves.
_TABLES = """\
SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
  array_position(k.indkey::int2[], a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN LATERAL (
  SELECT i.indkey FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid
    AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
    AND NOT EXISTS (SELECT FROM pg_attribute b WHERE b.attrelid = c.oid
                    AND b.attnum = ANY (i.indkey) AND NOT b.attnotnull)
  ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1
) k ON true
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname <> 'information_schema'
  AND n.nspname !~ '^pg_'
ORDER BY 1, 2, a.attnum"""

# What a sequence logs beforehand never reaches beyond its end: a standby's has not begun a new
# cycle before its primary's has, and CYCLE makes no difference.
_SEQUENCES = """\
SELECT n.nspname, c.relname, s.seqincrement > 0,
  has_sequence_privilege(c.oid, 'SELECT, USAGE'),
  CASE WHEN has_sequence_privilege(c.oid, 'SELECT, USAGE')
    THEN pg_sequence_last_value(c.oid::regclass) END
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence = 'p' ORDER BY 1, 2"""
_LANES = (1, 16, 31)
"""Where of a SHA-256 in hexadecimal the parts are that are added up."""


class PostgresDialect:
    """Rows are digested as PostgreSQL writes them as texts, by SHA-256; a piece by adding parts of
    those up: that is the same in whatever order they come, and takes no room."""

    def tables(self, server: DatabaseReads) -> dict[str, Table]:
        columns: dict[str, list[tuple[str, str]]] = {}
        keys: dict[str, dict[int, tuple[str, str]]] = {}
        quoted: dict[str, str] = {}
        for schema, table, column, kind, place in answer(server, _TABLES).rows:
            name = named(schema, table)
            quoted[name] = f"{_name(schema)}.{_name(table)}"
            columns.setdefault(name, [])
            if column is None:
                continue
            columns[name].append((column, kind))
            if place is not None:
                keys.setdefault(name, {})[int(place)] = (column, kind)
        return {
            name: Table(name, tuple(own),
                        tuple(one for _, one in sorted(keys.get(name, {}).items())),
                        quoted[name])
            for name, own in columns.items()
        }

    def bound(self, table: Table, after: Key | None, size: int) -> str:
        # With the table's name: the texts of the result are called as the columns are.
        names = [f"{table.quoted}.{_name(column)}" for column, _ in table.key]
        return (f"SELECT {_texts(names)} FROM {_own(table)}{_where(table, after, None)} "
                f"ORDER BY {', '.join(names)} OFFSET {size - 1} LIMIT 1")

    def last(self, table: Table, after: Key | None) -> str:
        names = [f"{table.quoted}.{_name(column)}" for column, _ in table.key]
        return (f"SELECT {_texts(names)} FROM {_own(table)}{_where(table, after, None)} "
                f"ORDER BY {', '.join(f'{name} DESC' for name in names)} LIMIT 1")

    def digest(self, table: Table, after: Key | None, upto: Key | None) -> str:
        lanes = ", ':', ".join(
            f"coalesce(sum(('x' || substr(d, {start}, 15))::bit(60)::bigint), 0)"
            for start in _LANES
        )
        # OFFSET 0: each row is digested once, and not once a lane.
        return (f"SELECT count(*), concat({lanes}) FROM (SELECT encode({_row(table)}, 'hex') AS d "
                f"FROM {_own(table)}{_where(table, after, upto)} OFFSET 0) AS piece")

    def rows(self, table: Table, after: Key | None, upto: Key | None, limit: int) -> str:
        names = [f"{table.quoted}.{_name(column)}" for column, _ in table.key]
        return (f"SELECT {_texts(names)}, encode({_row(table)}, 'hex') FROM {_own(table)}"
                f"{_where(table, after, upto)} ORDER BY {', '.join(names)} LIMIT {limit}")


DIALECT: Dialect = PostgresDialect()


def _row(table: Table) -> str:
    names = ", ".join(_name(column) for column, _ in sorted(table.columns))
    return f"sha256(convert_to(ROW({names})::text, 'UTF8'))"


def _where(table: Table, after: Key | None, upto: Key | None) -> str:
    names = ", ".join(_name(column) for column, _ in table.key)
    parts = [
        f"({names}) {sign} ({_values(table, key)})"
        for sign, key in ((">", after), ("<=", upto)) if key is not None
    ]
    return f" WHERE {' AND '.join(parts)}" if parts else ""


def _values(table: Table, key: Key) -> str:
    return ", ".join(
        f"{_literal(value)}::{kind}" for (_, kind), value in zip(table.key, key, strict=True)
    )


def _texts(names: Sequence[str]) -> str:
    return ", ".join(f"{name}::text" for name in names)


def _own(table: Table) -> str:
    """Its own rows alone: those of tables that inherit from it are compared as theirs."""
    return f"ONLY {table.quoted}"


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _literal(text: str) -> str:
    if "\\" in text:
        return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + text.replace("'", "''") + "'"


class PostgresCompare(TableComparison):
    """Hold every row of a standby against its primary's, at one position of the log.

    For inside the freeze, before the fence: the primary refuses writes, no transaction is under
    way, and the standby has replayed all of the log. Row counts and digests are compared by ranges
    of the primary key, on both servers at the same time; where they differ it is told by table
    and key. When a transaction began meanwhile (autovacuum's count too) it begins anew. Sequences
    are compared as well: the standby's must not be behind.

    It never writes. It goes on where it was after a restart, and `max_rate` slows it down. Only
    the database of the connection is compared, and neither unlogged tables nor large objects; the
    other databases of the cluster are named. Where there is no table at all it fails. So it does
    where row-level security would hide rows from our role.
    """

    name: ClassVar[str] = "postgres.compare"
    engine: ClassVar[Engine] = "postgres"
    dialect: ClassVar[Dialect] = DIALECT
    example: ClassVar[str] = """\
- id: same
  kind: postgres.compare
  with: {primary: east, standby: west, exclude: [audit.*]}
"""

    primary: DatabaseName = Field(description="The server that is followed; frozen by now.")
    standby: DatabaseName = Field(description="The server that follows it.")

    def sides(self) -> tuple[str, str]:
        return (self.primary, self.standby)

    def observe(self, reads: Reads) -> Observation:
        for name in self.sides():
            server(reads, name, "postgres")
        return super().observe(reads)

    def standing(self, left: DatabaseReads, right: DatabaseReads) -> Standing:
        follows, begun, busy, target = answer(
            left, "SELECT pg_is_in_recovery(), "
            "CASE WHEN NOT pg_is_in_recovery() THEN pg_snapshot_xmax(pg_current_snapshot())::text "
            "END, CASE WHEN NOT pg_is_in_recovery() THEN pg_snapshot_xmin(pg_current_snapshot()) "
            "< pg_snapshot_xmax(pg_current_snapshot()) END, "
            "CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn()::text END"
        ).rows[0]
        if follows:
            return Standing(why=f"{self.primary} is a standby: compare its primary with it")
        frozen = serving(left)
        if not frozen.read_only:
            return Standing(why=f"{self.primary} takes writes: it has to be frozen first, with "
                            "postgres.freeze")
        if busy:
            return Standing(why=f"transactions are under way on {self.primary}", wait=True)
        own = answer(
            right, f"SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()::text, {SYSTEM}"
        ).rows[0]
        if not own[0]:
            return Standing(why=f"{self.standby} is no standby")
        if own[2] != frozen.system:
            return Standing(why=f"{self.standby} is a standby of another cluster than "
                            f"{self.primary}")
        if own[1] is None or lsn(own[1]) < lsn(target):
            behind = "all" if own[1] is None else f"{lsn(target) - lsn(own[1])} bytes"
            return Standing(why=f"{self.standby} lacks {behind} of the log", wait=True)
        return Standing(at={"transaction": begun})

    def extra(self, walk: Any, left: DatabaseReads, right: DatabaseReads) -> list[dict[str, Any]]:
        """Sequences. A standby's is ahead by what was logged beforehand, and never behind."""
        here, there = (
            {named(schema, name): rest for schema, name, *rest in answer(one, _SEQUENCES).rows}
            for one in (left, right)
        )
        found = []
        for name, (up, seen, value) in here.items():
            other = there[name][2] if name in there else None
            if not seen:
                why = f"its value is not shown to our role on {self.primary}: GRANT SELECT on it"
            elif value is None or (
                other is not None and (value <= other if up else value >= other)
            ):
                continue
            else:
                why = (f"it is at {value} on {self.primary} and at "
                       f"{'nothing' if other is None else other} on {self.standby}")
            found.append({"table": f"the sequence {name}", "why": why})
        return found

    def beyond(self, left: DatabaseReads) -> list[str]:
        return [f"the database {name}" for name in others(left)]
