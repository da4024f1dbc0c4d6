"""PgBouncer's console, which speaks PostgreSQL's protocol and has commands of its own."""

from __future__ import annotations

from typing import Any

from runbook.model.database import Database, QueryResult
from runbook.transports.database.driver import Address, Connection, Purpose
from runbook.transports.database.postgres import PostgresConnection, opened


class ConsoleConnection(PostgresConnection):
    """It knows no settings of a session: a read session lets nothing but ``SHOW`` pass, and a
    command takes as long as it takes (``PAUSE`` waits for transactions)."""

    def __init__(self, connection: Any, *, read_only: bool) -> None:
        super().__init__(connection)
        self._read_only = read_only

    def _limit(self, cursor: Any, timeout: float) -> None:
        return

    def execute(self, statement: str, timeout: float) -> QueryResult:
        if self._read_only and not statement.lstrip().upper().startswith("SHOW "):
            return QueryResult(error="only SHOW reads", code="25006")
        return super().execute(statement, timeout)


def connect(
    database: Database, address: Address, password: str | None, *, purpose: Purpose
) -> Connection:
    """Raises Errored: the extra is missing, nobody answers, or the login is refused."""
    console = opened(database, address, password, default="pgbouncer")
    return ConsoleConnection(console, read_only=purpose == "read")
