"""Holding the tables of two servers against each other: walked in ranges of their primary keys.

A *piece* is a range of one table. Both servers count its rows and make one digest of them, at the
same time; only where these differ are the rows looked at one by one, each as its key and a digest,
so that a difference is told by table and key. Nothing of a row's content leaves its server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

from runbook.errors import Refused
from runbook.kinds.sql_common import answer
from runbook.model.ports import DatabaseReads

SHOWN = 5
"""Keys that are shown of each difference."""
ENOUGH = 20
"""Differing pieces after which no further one is looked for: the answer is known by then."""
_PATIENCE = 3600.0
"""Seconds for one piece: a table without a key is one as a whole."""

Key = tuple[str, ...]
"""Values of the columns of a key, as texts."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as its server describes it. ``name`` has the schema in front; a part that has a dot
    or a quote itself stands in double quotes."""

    name: str
    columns: tuple[tuple[str, str], ...]
    """(name, type), in order."""
    key: tuple[tuple[str, str], ...] = ()
    """Columns of the primary key, or of another one that is unique and never null; empty: none."""
    quoted: str = ""
    """The whole name as a statement has it."""


class Dialect(Protocol):
    """How an engine is asked. Everything returned is one statement that reads."""

    def tables(self, server: DatabaseReads) -> dict[str, Table]: ...

    def bound(self, table: Table, after: Key | None, size: int) -> str:
        """The key of the last row of a piece of that size; no row: the piece is the last."""

    def last(self, table: Table, after: Key | None) -> str:
        """The last key of the table, where it comes after that one; else no row."""

    def digest(self, table: Table, after: Key | None, upto: Key | None) -> str:
        """Number of rows in a range, and a digest that is the same for the same rows."""

    def rows(self, table: Table, after: Key | None, upto: Key | None, limit: int) -> str:
        """Key columns as texts and a digest, of each row."""


@dataclass(slots=True)
class Found:
    """What a comparison has found so far; the JSON of it is its progress."""

    table: str = ""
    """Where it is: everything before this table, in order, is done."""
    after: list[str] | None = None
    """How far in it."""
    ended: bool = False
    """It is done with that table, too."""
    rows: int = 0
    pieces: int = 0
    differing: int = 0
    """Pieces that are not the same."""
    differences: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, progress: Mapping[str, Any]) -> Found:
        return cls(**progress.get("found", {}))

    def json(self) -> dict[str, Any]:
        return {
            "table": self.table, "after": self.after, "ended": self.ended, "rows": self.rows,
            "pieces": self.pieces, "differing": self.differing,
            "differences": list(self.differences),
        }


def named(schema: str, table: str) -> str:
    """A name that no other table has."""
    return ".".join(
        '"' + part.replace('"', '""') + '"' if "." in part or '"' in part else part
        for part in (schema, table)
    )


_PARTS = re.compile(r'("(?:[^"]|"")*"|[^.]*)\.(.*)', re.DOTALL)


def chosen(names: Sequence[str], only: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """Names that are wanted, in order. A pattern is of the whole name or of its last part; it may
    leave double quotes out.

    Raises Refused for a pattern in ``only`` that fits none."""
    def fits(name: str, patterns: Sequence[str]) -> bool:
        parts = _PARTS.fullmatch(name)
        told = {name, parts[2] if parts else ""}
        told |= {one.replace('"', "") for one in told}
        return any(fnmatchcase(one, p) for p in patterns for one in told)

    for pattern in only:
        if not any(fits(name, [pattern]) for name in names):
            raise Refused(
                f"no table fits {pattern!r}",
                hint=f"there are {', '.join(names[:5])}{', …' if len(names) > 5 else ''}",
            )
    return [n for n in sorted(names) if (not only or fits(n, only)) and not fits(n, exclude)]


class Walk:
    """The tables of two servers side by side, piece by piece."""

    def __init__(
        self, dialect: Dialect, left: DatabaseReads, right: DatabaseReads, found: Found, *,
        only: Sequence[str] = (), exclude: Sequence[str] = (), size: int = 10_000,
        one_sided: bool = False,
    ) -> None:
        """``one_sided``: it is about rows of the left side alone, and about all of them: rows
        that only the right one has do not count, and it does not end once enough differ."""
        self._one_sided = one_sided
        self._dialect = dialect
        self._sides = (left, right)
        self._names = (left.database.name, right.database.name)
        self.found = found
        self._size = size
        self._both = ThreadPoolExecutor(2, thread_name_prefix="compare")
        here, there = self._ask(lambda server, _: dialect.tables(server))
        self.tables: list[str] = chosen(sorted({*here, *there}), only, exclude)
        self._here: dict[str, Table] = here
        self._there: dict[str, Table] = there

    def close(self) -> None:
        self._both.shutdown()

    def described(self, name: str) -> tuple[Table | None, Table | None]:
        """What each side says of a table; None: it has none of that name."""
        return self._here.get(name), self._there.get(name)

    @property
    def left(self) -> int:
        """Tables that are not finished."""
        return sum(not self._past(name) for name in self.tables)

    def _past(self, name: str) -> bool:
        found = self.found
        return name < found.table or (name == found.table and found.ended)

    def pieces(self) -> Iterator[int]:
        """Compare one piece after the other; the rows of each. Ends with the last one, or once
        enough differ."""
        for name in self.tables:
            if self._past(name):
                continue
            if name > self.found.table:
                self.found.table, self.found.after, self.found.ended = name, None, False
            yield from self._table(name)
            if self._enough:
                return

    @property
    def _enough(self) -> bool:
        return not self._one_sided and self.found.differing >= ENOUGH

    def _table(self, name: str) -> Iterator[int]:
        here, there = self.described(name)
        if here is None and self._one_sided:
            self.found.ended = True
            return
        if here is None or there is None:
            self._differs(name, why=f"it is only on {self._names[there is not None]}")
            self.found.ended = True
            return
        if set(here.columns) != set(there.columns):
            odd = sorted({n for n, _ in set(here.columns) ^ set(there.columns)})
            self._differs(name, why=f"its columns are not the same: {', '.join(odd[:SHOWN])}")
            self.found.ended = True
            return
        while not self.found.ended and not self._enough:
            after = None if self.found.after is None else tuple(self.found.after)
            upto = self._bound(here, after)
            if upto is None and self._one_sided and here.key:
                upto = self._first(self._dialect.last(here, after))
                if upto is None:
                    self.found.ended = True
                    return
            rows = self._piece(here, after, upto)
            self.found.rows += rows
            self.found.pieces += 1
            self.found.after = None if upto is None else list(upto)
            self.found.ended = upto is None
            yield rows

    def _bound(self, table: Table, after: Key | None) -> Key | None:
        return self._first(self._dialect.bound(table, after, self._size)) if table.key else None

    def _first(self, statement: str) -> Key | None:
        told = answer(self._sides[0], statement, timeout=_PATIENCE)
        return tuple(map(str, told.rows[0])) if told.rows else None

    def _piece(self, table: Table, after: Key | None, upto: Key | None) -> int:
        one, other = self._digests(table, after, upto)
        if one != other:
            self._look_closer(table, after, upto, int(one[0]), int(other[0]))
        return int(one[0])

    def _digests(
        self, table: Table, after: Key | None, upto: Key | None
    ) -> tuple[list[str], list[str]]:
        first, second = self._ask(_rows(self._dialect.digest(table, after, upto)))
        return [str(value) for value in first[0]], [str(value) for value in second[0]]

    def _look_closer(
        self, table: Table, after: Key | None, upto: Key | None, here: int, there: int
    ) -> None:
        """Tell which rows of a piece are not the same, where they are not too many."""
        span = _span(after, upto) if table.key else "the whole table, which has no key"
        most = 4 * self._size
        if not table.key or max(here, there) > most:
            self._differs(table.name, keys=span, here=here, there=there)
            return
        statement = self._dialect.rows(table, after, upto, most)
        width = len(table.key)
        one, other = (
            {tuple(map(str, row[:width])): row[width] for row in rows}
            for rows in self._ask(_rows(statement))
        )
        lacking = [key for key in one if key not in other]
        extra = [] if self._one_sided else [key for key in other if key not in one]
        changed = [key for key, digest in one.items() if other.get(key, digest) != digest]
        if not lacking and not extra and not changed:
            if self._one_sided:
                return  # What only the other one has is no matter.
            first, second = self._digests(table, after, upto)
            if first != second:
                self._differs(table.name, keys=span, here=int(first[0]), there=int(second[0]))
            return  # Else it was being written to when the digests were made, and is the same now.
        self._differs(
            table.name, keys=span, here=here, there=there, lacking=len(lacking),
            extra=len(extra), changed=len(changed),
            **{f"{what}_keys": [_shown(key) for key in keys[:SHOWN]] for what, keys in
               (("lacking", lacking), ("extra", extra), ("changed", changed)) if keys},
        )

    def _differs(self, table: str, **how: Any) -> None:
        self.found.differing += 1
        self.found.differences.append({"table": table, **how})

    def _ask(self, ask: Callable[[DatabaseReads, int], Any]) -> tuple[Any, Any]:
        """Both servers at the same time."""
        tasks = [self._both.submit(ask, server, n) for n, server in enumerate(self._sides)]
        first, second = (task.result() for task in tasks)
        return first, second


def _rows(statement: str) -> Callable[[DatabaseReads, int], Any]:
    return lambda server, _: answer(server, statement, timeout=_PATIENCE).rows


def _shown(key: Key) -> str:
    text = ", ".join(key)
    return text if len(text) <= 60 else text[:59] + "…"


def _span(after: Key | None, upto: Key | None) -> str:
    if after is None and upto is None:
        return "all keys"
    if after is None:
        return f"keys up to {_shown(upto or ())}"
    return f"keys after {_shown(after)}" + (f" up to {_shown(upto)}" if upto is not None else "")


def in_words(difference: Mapping[str, Any], left: str, right: str) -> str:
    """One difference, for people."""
    where = f"{difference['table']}"
    if "why" in difference:
        return f"{where}: {difference['why']}"
    parts = []
    for what, says in (
        ("lacking", f"missing on {right}"), ("extra", f"only on {right}"), ("changed", "different")
    ):
        if difference.get(what):
            keys = difference[f"{what}_keys"]
            more = ", …" if difference[what] > len(keys) else ""
            parts.append(f"{difference[what]} {says} ({'; '.join(keys)}{more})")
    if not parts:
        here, there = difference["here"], difference["there"]
        parts = [f"{here} rows on {left} and {there} on {right}" if here != there else
                 f"{here} rows on both, which are not the same"]
    return f"{where}, {difference['keys']}: {', '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Missing:
    """Rows of one side that another one would not have, counted."""

    rows: int
    words: str
    exact: bool


def missing(walk: Any, left: str, right: str, goes_on: Callable[[], bool]) -> Missing:
    """Count the rows of the left side that the right one lacks, or has otherwise. It ends early,
    with what it has by then, when ``goes_on`` says so."""
    exact = True
    for _ in walk.pieces():
        if not goes_on():
            exact = False
            break
    by_table: dict[str, list[Mapping[str, Any]]] = {}
    for one in walk.found.differences:
        by_table.setdefault(str(one["table"]), []).append(one)
    total, parts = 0, []
    for table, all_of_it in by_table.items():
        rows, words = _of_table(all_of_it, right)
        total += rows
        parts.append(f"{table}: {words}")
        exact = exact and all("lacking" in one or "why" in one for one in all_of_it)
    more = f"; and {len(parts) - 10} more tables" if len(parts) > 10 else ""
    words = "; ".join(parts[:10]) + more if parts else "no row"
    limit = "" if exact else f" (at least: not everything on {left} could be counted)"
    return Missing(total, words + limit, exact)


def _of_table(differences: Sequence[Mapping[str, Any]], right: str) -> tuple[int, str]:
    lacking = sum(one.get("lacking", 0) for one in differences)
    changed = sum(one.get("changed", 0) for one in differences)
    whole = sum(max(0, one["here"] - one["there"]) for one in differences
                if "lacking" not in one and "here" in one)
    keys = [key for one in differences for key in one.get("lacking_keys", ())][:SHOWN]
    words = []
    if lacking:
        dots = ", …" if lacking > len(keys) else ""
        words.append(f"{lacking} that {right} lacks ({'; '.join(keys)}{dots})")
    if changed:
        words.append(f"{changed} that {right} has otherwise")
    if whole:
        words.append(f"{whole} more than on {right}")
    words += [str(one["why"]) for one in differences if "why" in one]
    return lacking + changed + whole, ", ".join(words) or "differs"
