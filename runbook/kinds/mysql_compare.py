"""The kind ``mysql.compare``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from runbook.kinds._compare import Dialect, Key, Table
from runbook.kinds._comparison import Standing, TableComparison
from runbook.kinds.mysql_common import lacks, state
from runbook.kinds.sql_common import DatabaseName, answer, server
from runbook.model.database import Engine
from runbook.model.observation import Observation
from runbook.model.ports import DatabaseReads, Reads

_OWN = "('mysql', 'sys', 'information_schema', 'performance_schema')"
_COLUMNS = f"""\
SELECT t.TABLE_SCHEMA, t.TABLE_NAME, c.COLUMN_NAME, c.COLUMN_TYPE
FROM information_schema.TABLES t JOIN information_schema.COLUMNS c USING (TABLE_SCHEMA, TABLE_NAME)
WHERE t.TABLE_TYPE = 'BASE TABLE' AND t.TABLE_SCHEMA NOT IN {_OWN}
ORDER BY 1, 2, c.ORDINAL_POSITION"""
_KEYS = f"""\
SELECT s.TABLE_SCHEMA, s.TABLE_NAME, s.INDEX_NAME, s.COLUMN_NAME,
  s.NULLABLE = 'YES' OR s.SUB_PART IS NOT NULL
FROM information_schema.STATISTICS s
WHERE s.NON_UNIQUE = 0 AND s.TABLE_SCHEMA NOT IN {_OWN}
ORDER BY 1, 2, s.INDEX_NAME <> 'PRIMARY', 3, s.SEQ_IN_INDEX"""

_NUMBERS = frozenset({
    "tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double", "year",
})
_BYTES = frozenset({
    "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "bit",
})
_LONG = (_BYTES - {"bit"}) | {
    "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "json",
}
_LANES = ((1, 14), (15, 14), (29, 12))
"""Where of a SHA-1 in hexadecimal the parts are that are added up."""


class MysqlDialect:
    """Rows are digested by SHA-1 over their values with lengths; a piece by adding those up."""

    def tables(self, server: DatabaseReads) -> dict[str, Table]:
        columns: dict[str, dict[str, str]] = {}
        for schema, table, column, kind in answer(server, _COLUMNS).rows:
            columns.setdefault(f"{schema}.{table}", {})[column] = str(kind)
        keys: dict[str, dict[str, list[str]]] = {}
        unfit: set[tuple[str, str]] = set()
        for schema, table, index, column, bad in answer(server, _KEYS).rows:
            name = f"{schema}.{table}"
            keys.setdefault(name, {}).setdefault(index, []).append(column)
            if bad:
                unfit.add((name, index))
        found: dict[str, Table] = {}
        for name, own in columns.items():
            good = [k for index, k in keys.get(name, {}).items() if (name, index) not in unfit]
            key = tuple((column, own[column]) for column in good[0]) if good else ()
            found[name] = Table(name, tuple(own.items()), key)
        return found

    def bound(self, table: Table, after: Key | None, size: int) -> str:
        return (f"SELECT {_texts(table)} FROM {_full(table)}{_where(table, after, None)} "
                f"ORDER BY {_order(table)} LIMIT 1 OFFSET {size - 1}")

    def last(self, table: Table, after: Key | None) -> str:
        return (f"SELECT {_texts(table)} FROM {_full(table)}{_where(table, after, None)} "
                f"ORDER BY {_order(table, ' DESC')} LIMIT 1")

    def digest(self, table: Table, after: Key | None, upto: Key | None) -> str:
        lanes = ", ':', ".join(
            f"COALESCE(SUM(CAST(CONV(SUBSTR(d, {start}, {size}), 16, 10) AS DECIMAL(40))), 0)"
            for start, size in _LANES
        )
        return (f"SELECT COUNT(*), CONCAT({lanes}) FROM (SELECT {_row(table)} AS d "
                f"FROM {_full(table)}{_where(table, after, upto)}) AS piece")

    def rows(self, table: Table, after: Key | None, upto: Key | None, limit: int) -> str:
        return (f"SELECT {_texts(table)}, {_row(table)} FROM {_full(table)}"
                f"{_where(table, after, upto)} ORDER BY {_order(table)} LIMIT {limit}")


DIALECT: Dialect = MysqlDialect()


def _order(table: Table, way: str = "") -> str:
    """With the table's name: the texts of the result may be called as the columns are."""
    return ", ".join(f"{_full(table)}.{_name(column)}{way}" for column, _ in table.key)


def _row(table: Table) -> str:
    parts = []
    for column, kind in table.columns:
        name = _name(column)
        # Long values as digests: what is put together stays below `max_allowed_packet`.
        value = f"SHA1({name})" if _is(kind, _LONG) else (
            f"CAST({name} AS CHAR)"
        )
        parts.append(f"IF({name} IS NULL, 'N', CONCAT(LENGTH({value}), ':', {value}))")
    return f"SHA1(CONCAT({', '.join(parts)}))"


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
        f"HEX({_name(column)})" if _is(kind, _BYTES) else f"CAST({_name(column)} AS CHAR)"
        for column, kind in table.key
    )


def _literal(kind: str, value: str) -> str:
    """Numbers as such, since MariaDB compares a number with a text as floating-point numbers;
    everything else in hexadecimal, which no setting of the server reads in another way."""
    if _is(kind, _NUMBERS):
        return value
    if _is(kind, _BYTES):
        return f"X'{value}'"
    return f"_utf8mb4 X'{value.encode().hex()}'"


def _is(kind: str, family: frozenset[str]) -> bool:
    return kind.lower().partition("(")[0].partition(" ")[0] in family


def _full(table: Table) -> str:
    schema, _, name = table.name.partition(".")
    return f"{_name(schema)}.{_name(name)}"


def _name(text: str) -> str:
    return "`" + text.replace("`", "``") + "`"


class MysqlCompare(TableComparison):
    """Hold every row of a replica against its primary's, at one global transaction id.

    For inside the freeze, before the promotion: the primary refuses writes, and both have exactly
    the same transactions. Row counts and digests are compared by ranges of the primary key, on
    both servers at the same time; where they differ it is told by table and key. When either
    position moved meanwhile it begins anew.

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

    def standing(self, left: DatabaseReads, right: DatabaseReads) -> Standing:
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
