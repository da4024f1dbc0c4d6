"""The kinds ``sql.assert`` and ``sql.query``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from runbook.kinds._shared import CheckKind
from runbook.kinds.sql_common import DatabaseName, answer
from runbook.model.actions import Action, ExecuteSql
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads

_SHOWN = 20
"""Rows that are kept as evidence."""

Statement = Annotated[str, Field(min_length=1)]


class SqlAssert(CheckKind):
    """Ask a database a question and hold the answer against what it should be.

    The session cannot write. Without `equals`, `at_least` and `at_most` the first value of the
    answer has to be there and to be neither 0 nor false nor empty.
    """

    name: ClassVar[str] = "sql.assert"
    by_keys: ClassVar[bool] = True
    output_names: ClassVar[dict[str, str]] = {
        "value": "the first value of the first row",
        "rows": "the first 20 rows, each a mapping by column",
    }
    example: ClassVar[str] = """\
- id: enough-orders
  kind: sql.assert
  with: {database: west, query: SELECT count(*) FROM orders, at_least: 1000}
"""

    database: DatabaseName = Field(description="The server, as declared under `databases:`.")
    query: Statement = Field(description="One statement that reads; for Redis a command.")
    equals: str | int | float | bool | None = Field(
        default=None, description="What the first value has to be."
    )
    at_least: float | None = Field(default=None, description="What it must not be below.")
    at_most: float | None = Field(default=None, description="What it must not be above.")

    def databases(self) -> tuple[str, ...]:
        return (self.database,)

    def observe(self, reads: Reads) -> Observation:
        result = answer(reads.database(self.database), self.query)
        return Observation(
            evidence={"value": result.value, "rows": result.dicts()[:_SHOWN]}, at=reads.now()
        )

    def verify(self, before: Observation, after: Observation) -> Verdict:
        value = after.evidence["value"]
        wrong = self._wrong(value)
        said = f"{self.database} says {value!r}"
        return Verdict(
            ok=not wrong, seen=f"{said}, {wrong}" if wrong else said, outputs=dict(after.evidence)
        )

    def _wrong(self, value: Any) -> str:
        if self.equals is not None and not _same(value, self.equals):
            return f"not {self.equals!r}"
        if self.at_least is None and self.at_most is None:
            return "" if self.equals is not None or value else "which is no"
        try:
            number = float(value)
        except (TypeError, ValueError):
            return "which is no number"
        if self.at_least is not None and number < self.at_least:
            return f"below {self.at_least:g}"
        if self.at_most is not None and number > self.at_most:
            return f"above {self.at_most:g}"
        return ""


class SqlQuery(Kind):
    """Execute statements on a database, in order, each committed by itself.

    Tell it by `done_when`, a question whose first value is true once the work is done, and a second
    run does nothing, and a doubt after a lost connection is settled by asking. `back` are the
    statements that take it back: the opposite of a statement cannot be derived.
    """

    name: ClassVar[str] = "sql.query"
    by_keys: ClassVar[bool] = True
    estimate: ClassVar[float] = 2.0
    example: ClassVar[str] = """\
- id: close-shop
  kind: sql.query
  with:
    database: east
    statements: ["UPDATE settings SET value = 'closed' WHERE name = 'shop'"]
    done_when: SELECT value = 'closed' FROM settings WHERE name = 'shop'
    back: ["UPDATE settings SET value = 'open' WHERE name = 'shop'"]
"""

    database: DatabaseName = Field(description="The server, as declared under `databases:`.")
    statements: tuple[Statement, ...] = Field(
        min_length=1, description="What to execute; secrets may stand between single quotes."
    )
    done_when: Statement | None = Field(
        default=None, description="A question: its first value is true once the work is done."
    )
    back: tuple[Statement, ...] = Field(
        default=(), description="Statements that take it back."
    )
    repeatable: bool = Field(
        default=False, alias="idempotent", description="True: executing them twice does no harm."
    )

    def databases(self) -> tuple[str, ...]:
        return (self.database,)

    def observe(self, reads: Reads) -> Observation:
        database = reads.database(self.database)
        if self.done_when is None:
            return Observation(at=reads.now())
        done = bool(answer(database, self.done_when).value)
        return Observation(state={"done": done}, at=reads.now())

    def plan(self, before: Observation) -> Planned:
        if before.state.get("done"):
            return Planned(reason="already done: `done_when` holds")
        return Planned(actions=(self._execute(self.statements),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        if self.done_when is None:
            return Verdict(ok=True, seen=f"{self.database} executed it")
        ok = bool(after.state["done"])
        return Verdict(ok=ok, seen=f"`done_when` {'holds' if ok else 'does not hold'}")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        if before.state.get("done"):
            return ()
        if not self.back:
            return Irreversible(
                why="no `back` was given: nobody can derive the opposite of a statement",
                missing=True,
            )
        return (self._execute(self.back),)

    def _execute(self, statements: tuple[str, ...]) -> ExecuteSql:
        return ExecuteSql(
            database=self.database, statements=statements, idempotent=self.repeatable
        )


def _same(value: Any, wanted: Any) -> bool:
    """Drivers give decimals as texts, and MySQL truth as 1."""
    if isinstance(wanted, bool) or isinstance(value, bool):
        return bool(value) == bool(wanted)
    return value == wanted or str(value) == str(wanted)
