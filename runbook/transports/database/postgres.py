"""PostgreSQL, by psycopg 3 (extra ``postgres``; LGPL, the maintained successor of psycopg2)."""

from __future__ import annotations

from typing import Any

from runbook.errors import Errored
from runbook.model.database import Database, QueryResult
from runbook.transports.database.driver import (
    APPLICATION,
    CONNECT_TIMEOUT,
    Address,
    Connection,
    Lost,
    Purpose,
    hung_up,
    missing,
    plain,
)

_TLS = {"off": "disable", "prefer": "prefer", "require": "require", "verify": "verify-full"}


_SAME_TEXTS = "SELECT " + ", ".join(
    f"set_config('{name}', '{value}', false)" for name, value in (
        ("TimeZone", "UTC"), ("DateStyle", "ISO"), ("IntervalStyle", "postgres"),
        ("extra_float_digits", "1"), ("bytea_output", "hex"), ("lc_monetary", "C"),
    )
)
"""Reading sessions give the same value as the same text, whatever each server's settings say."""


class PostgresConnection:
    """A session in autocommit mode, since ``ALTER SYSTEM`` works in no other."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._timeout: float | None = None

    def _limit(self, cursor: Any, timeout: float) -> None:
        if timeout != self._timeout:
            cursor.execute(f"SET statement_timeout = {int(timeout * 1000)}")
            self._timeout = timeout

    def execute(self, statement: str, timeout: float) -> QueryResult:
        import psycopg

        try:
            with self._connection.cursor() as cursor:
                self._limit(cursor, timeout)
                cursor.execute(statement)
                columns = tuple(one.name for one in cursor.description or ())
                rows = cursor.fetchall() if columns else ()
        except psycopg.Error as fault:
            if self._connection.closed or fault.sqlstate is None:
                raise Lost(_words(fault)) from fault
            return QueryResult(error=_words(fault), code=fault.sqlstate)
        return QueryResult(
            columns=columns, rows=tuple(tuple(plain(item) for item in row) for row in rows)
        )

    @property
    def alive(self) -> bool:
        return not self._connection.closed and not hung_up(self._connection.fileno())

    def close(self) -> None:
        self._connection.close()


def connect(
    database: Database, address: Address, password: str | None, *, purpose: Purpose
) -> Connection:
    """Raises Errored: the extra is missing, nobody answers, or the login is refused."""
    connection = opened(database, address, password, default="postgres")
    # An acting session must be able to act on a server that refuses writes to all others.
    # Not as an option of the connection: `reset_val` shall stay what the server's files say.
    if purpose != "client":
        mode = "on" if purpose == "read" else "off"
        connection.execute(f"SET default_transaction_read_only = {mode}")
    if purpose == "read":
        connection.execute(_SAME_TEXTS)
        # A part of the rows is no answer: where policies would hide some, the server refuses.
        connection.execute("SET row_security = off")
    return PostgresConnection(connection)


def opened(database: Database, address: Address, password: str | None, *, default: str) -> Any:
    """A psycopg connection, to the database ``default`` where none is declared."""
    try:
        import psycopg
    except ImportError as fault:
        raise missing("postgres", "psycopg") from fault
    try:
        return psycopg.connect(
            host=address.socket_dir or address.host, port=address.port,
            dbname=database.database or default, user=database.user, password=password,
            sslmode="disable" if address.socket_dir else _TLS[database.tls],
            connect_timeout=CONNECT_TIMEOUT, application_name=APPLICATION, autocommit=True,
            prepare_threshold=None,
            keepalives_idle=5, keepalives_interval=2, keepalives_count=3, tcp_user_timeout=20_000,
        )
    except psycopg.Error as fault:
        raise Errored(_words(fault)) from fault


def _words(fault: Exception) -> str:
    return " ".join(str(fault).split())
