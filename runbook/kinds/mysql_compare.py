"""The kind ``mysql.compare``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import Field

from runbook.kinds._compare import Dialect, Key, Table, Walk, named
from runbook.kinds._comparison import Standing, TableComparison
from runbook.kinds._mysql_grants import HINT, sees_all, unread
from runbook.kinds.mysql_common import lacks, state
from runbook.kinds.sql_common import DatabaseName, answer, server
from runbook.model.database import Engine
from runbook.model.need import Need
from runbook.model.observation import Observation
from runbook.model.ports import DatabaseReads, Reads

_OWN = "('mysql', 'sys', 'information_schema', 'performance_schema')"
_TABLES = f"""\
SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES
WHERE TABLE_TYPE NOT IN ('VIEW', 'SYSTEM VIEW', 'TEMPORARY', 'TEMPORARY SEQUENCE')
  AND TABLE_SCHEMA NOT IN {_OWN}"""
_COLUMNS = f"""\
SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE,
  IF(GENERATION_EXPRESSION IN ('ROW START', 'ROW END'), GENERATION_EXPRESSION, '')
FROM information_schema.COLUMNS WHERE TABLE_SCHEMA NOT IN {_OWN}
ORDER BY 1, 2, ORDINAL_POSITION"""
_KEYS = f"""\
SELECT s.TABLE_SCHEMA, s.TABLE_NAME, s.INDEX_NAME, s.COLUMN_NAME,
  s.NULLABLE = 'YES' OR s.SUB_PART IS NOT NULL
FROM information_schema.STATISTICS s
WHERE s.NON_UNIQUE = 0 AND s.TABLE_SCHEMA NOT IN {_OWN}
ORDER BY 1, 2, s.INDEX_NAME <> 'PRIMARY', 3, s.SEQ_IN_INDEX"""

# A bit field, and the place of a value in its list: `CAST … AS CHAR` garbles the one, and the
# other is sorted by number while it is compared as a text.
_BY_NUMBER = frozenset({"bit", "enum", "set"})
_NUMBERS = frozenset({
    "tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double", "year",
})
_BYTES = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
_SPATIAL = frozenset({
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
    "geometrycollection",
})
_LONG = _BYTES | _SPATIAL | {
    "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "json",
}
_KNOWN = _BY_NUMBER | _NUMBERS | _LONG | {
    "date", "time", "datetime", "timestamp", "inet4", "inet6", "uuid",
}
"""Types whose values are the same text where they are the same."""
_LANES = ((1, 14), (15, 14), (29, 12))
"""Where of a SHA-1 in hexadecimal the parts are that are added up."""


@dataclass(frozen=True, slots=True)
class _Table(Table):
    history: bool = False
    """Rows that were deleted or changed are compared, too; when each ended is part of its key."""
    left_out: tuple[str, ...] = ()
    """What of it cannot be compared."""


@dataclass(slots=True)
class _Described:
    """What a server tells of one table."""

    kind: str
    quoted: str
    columns: dict[str, str] = field(default_factory=dict)
    start: str = ""
    """Columns of a system-versioned table: since when, and until when, a row is or was one."""
    end: str = ""
    keys: dict[str, list[str]] = field(default_factory=dict)

    def table(self, name: str) -> _Table:
        left_out = [f"{column} ({kind})" for column, kind in self.columns.items()
                    if not _is(kind, _KNOWN)]
        columns = {column: kind for column, kind in self.columns.items() if _is(kind, _KNOWN)}
        history = self.kind == "SYSTEM VERSIONED"
        start, end = self.start, self.end
        if history and not end:
            # Those that nobody named are not told.
            start, end = "row_start", "row_end"
            columns |= {start: "timestamp(6)", end: "timestamp(6)"}
        elif history and _is(columns[end], _NUMBERS):
            # Each server numbers its transactions by itself.
            left_out.append("what its rows were before")
            columns = {c: kind for c, kind in columns.items() if c not in {start, end}}
            history = False
        key: list[str] = []
        for own in self.keys.values():
            wanted = [column for column in own if column != end]
            if set(wanted) <= set(columns):
                key = [*wanted, end] if history else wanted
                break
        return _Table(
            name, tuple(columns.items()), tuple((column, columns[column]) for column in key),
            self.quoted, history=history, left_out=tuple(left_out),
        )


class MysqlDialect:
    """Rows are digested by SHA-1 over their values with lengths; a piece by adding those up."""

    def tables(self, server: DatabaseReads) -> dict[str, Table]:
        return dict(self.described(server))

    def described(self, server: DatabaseReads) -> dict[str, _Table]:
        """Names are put together here: ``information_schema`` holds Orders and orders for one."""
        found = {named(schema, table): _Described(str(kind), f"{_name(schema)}.{_name(table)}")
                 for schema, table, kind in answer(server, _TABLES).rows}
        for schema, table, column, kind, generated in answer(server, _COLUMNS).rows:
            one = found.get(named(schema, table))
            if one is None:
                continue
            one.columns[column] = str(kind)
            if generated == "ROW START":
                one.start = column
            elif generated == "ROW END":
                one.end = column
        unfit: set[tuple[str, str]] = set()
        for schema, table, index, column, bad in answer(server, _KEYS).rows:
            name = named(schema, table)
            if name in found:
                found[name].keys.setdefault(index, []).append(column)
            if bad:
                unfit.add((name, index))
        for name, index in unfit:
            found[name].keys.pop(index, None)
        return {name: one.table(name) for name, one in found.items()}

    def bound(self, table: Table, after: Key | None, size: int) -> str:
        return (f"SELECT {_texts(table)} FROM {_from(table)}{_where(table, after, None)} "
                f"ORDER BY {_order(table)} LIMIT 1 OFFSET {size - 1}")

    def last(self, table: Table, after: Key | None) -> str:
        return (f"SELECT {_texts(table)} FROM {_from(table)}{_where(table, after, None)} "
                f"ORDER BY {_order(table, ' DESC')} LIMIT 1")

    def digest(self, table: Table, after: Key | None, upto: Key | None) -> str:
        lanes = ", ':', ".join(
            f"COALESCE(SUM(CAST(CONV(SUBSTR(d, {start}, {size}), 16, 10) AS DECIMAL(40))), 0)"
            for start, size in _LANES
        )
        return (f"SELECT COUNT(*), CONCAT({lanes}) FROM (SELECT {_row(table)} AS d "
                f"FROM {_from(table)}{_where(table, after, upto)}) AS piece")

    def rows(self, table: Table, after: Key | None, upto: Key | None, limit: int) -> str:
        return (f"SELECT {_texts(table)}, {_row(table)} FROM {_from(table)}"
                f"{_where(table, after, upto)} ORDER BY {_order(table)} LIMIT {limit}")


DIALECT = MysqlDialect()


def _order(table: Table, way: str = "") -> str:
    """With the table's name: the texts of the result may be called as the columns are."""
    return ", ".join(f"{table.quoted}.{_name(column)}{way}" for column, _ in table.key)


def _row(table: Table) -> str:
    parts = []
    for column, kind in table.columns:
        name = _name(column)
        # Long values as digests: what is put together stays below `max_allowed_packet`.
        value = f"SHA1({name})" if _is(kind, _LONG) else _text(column, kind)
        parts.append(f"IF({name} IS NULL, 'N', CONCAT(LENGTH({value}), ':', {value}))")
    return f"SHA1(CONCAT('', {', '.join(parts)}))" if parts else "SHA1('')"


def _where(table: Table, after: Key | None, upto: Key | None) -> str:
    parts = []
    if after is not None:
        parts.append(_beyond(table, after, ">", strictly=True))
    if upto is not None:
        parts.append(_beyond(table, upto, "<", strictly=False))
    return f" WHERE {' AND '.join(parts)}" if parts else ""


def _beyond(table: Table, key: Key, sign: str, *, strictly: bool) -> str:
    """``(a, b) > (1, 2)`` written so that the server uses the index for it."""
    text = ""
    columns = list(zip(table.key, key, strict=True))
    for number, ((column, kind), value) in enumerate(reversed(columns)):
        name, wanted = _name(column), _literal(kind, value)
        if number == 0:
            text = f"{name} {sign}{'' if strictly else '='} {wanted}"
        else:
            text = f"({name} {sign}= {wanted} AND ({name} {sign} {wanted} OR {text}))"
    return text


def _texts(table: Table) -> str:
    return ", ".join(
        f"HEX({_name(column)})" if _is(kind, _BYTES) else
        f"CAST({_name(column)} + 0 AS CHAR)" if _is(kind, _BY_NUMBER) else _text(column, kind)
        for column, kind in table.key
    )


def _text(column: str, kind: str) -> str:
    """A value as a text that is another one where the value is."""
    name = _name(column)
    if _is(kind, frozenset({"bit"})):
        return f"CAST({name} + 0 AS CHAR)"
    if _is(kind, frozenset({"float"})):
        # Its own text has six digits of the seven and more.
        return f"CAST(CAST({name} AS DOUBLE) AS CHAR)"
    return f"CAST({name} AS CHAR)"


def _literal(kind: str, value: str) -> str:
    """Numbers as such, since MariaDB compares a number with a text as floating-point numbers;
    everything else in hexadecimal, which no setting of the server reads in another way."""
    if _is(kind, _NUMBERS | _BY_NUMBER):
        return value
    if _is(kind, _BYTES):
        return f"X'{value}'"
    return f"_utf8mb4 X'{value.encode().hex()}'"


def _is(kind: str, family: frozenset[str]) -> bool:
    return kind.lower().partition("(")[0].partition(" ")[0] in family


def _from(table: Table) -> str:
    past = " FOR SYSTEM_TIME ALL" if isinstance(table, _Table) and table.history else ""
    return f"{table.quoted}{past}"


def _name(text: str) -> str:
    return "`" + text.replace("`", "``") + "`"


class MysqlCompare(TableComparison):
    """Hold every row of a replica against its primary's, at one global transaction id.

    For inside the freeze, before the promotion: the primary refuses writes, and both have exactly
    the same transactions. Row counts and digests are compared by ranges of the primary key, on
    both servers at the same time; where they differ it is told by table and key. When either
    position moved meanwhile it begins anew. Of system-versioned tables what rows were before is
    compared, too, and of sequences where they stand. Columns of types that it does not know, and
    the past of rows that are versioned by transaction, cannot be compared: the check names them
    and fails, until `exclude` names the table.

    The user needs SELECT on everything: what it may not read, a server does not show it.

    It never writes. It goes on where it was after a restart, and `max_rate` slows it down.
    """

    name: ClassVar[str] = "mysql.compare"
    engine: ClassVar[Engine] = "mysql"
    dialect: ClassVar[Dialect] = DIALECT
    example: ClassVar[str] = """\
- id: same
  kind: mysql.compare
  with: {primary: east-mysql, replica: west-mysql, tables: [shop.*], max_rate: 200000}
"""

    primary: DatabaseName = Field(description="The server that is followed; frozen by now.")
    replica: DatabaseName = Field(description="The server that follows it.")

    def sides(self) -> tuple[str, str]:
        return (self.primary, self.replica)

    def observe(self, reads: Reads) -> Observation:
        for name in self.sides():
            server(reads, name, "mysql")
        return super().observe(reads)

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """SELECT on every table that is to be compared, on both sides."""
        return tuple(sees_all(reads, name, self.tables) for name in self.sides())

    def extra(
        self, walk: Walk, left: DatabaseReads, right: DatabaseReads
    ) -> list[dict[str, Any]]:
        """What cannot be compared."""
        found = []
        for name in walk.tables:
            parts = dict.fromkeys(
                part for side in walk.described(name) if isinstance(side, _Table)
                for part in side.left_out
            )
            if parts:
                found.append({"table": name, "why": f"cannot be compared: {', '.join(parts)}; "
                              "`exclude` leaves it out"})
        return found

    def standing(self, left: DatabaseReads, right: DatabaseReads) -> Standing:
        for side in (left, right):
            lacking = unread(side, self.tables)
            if lacking:
                return Standing(why=f"{side.database.name} cannot be compared: {lacking} ({HINT})")
        first, second = state(left), state(right)
        if first["role"] != "primary":
            return Standing(why=f"{self.primary} is a replica: compare its primary with it")
        if not first["read_only"]:
            return Standing(why=f"{self.primary} takes writes: it has to be frozen first, with "
                            "mysql.freeze")
        missing = lacks(first, second)
        if missing:
            why = f" ({second['error']})" if second["error"] else ""
            return Standing(why=f"{self.replica} lacks transactions: {missing}{why}",
                            wait=not second["error"])
        extra = lacks(second, first)
        if extra:
            return Standing(why=f"{self.replica} has transactions of its own that "
                            f"{self.primary} lacks: {extra}")
        return Standing(at={"gtid": first["gtid"]})
