"""MySQL and MariaDB, by PyMySQL (extra ``mysql``; MIT). It is slower than mysqlclient at large
results, and it needs no compiler and no client library on the controller."""

from __future__ import annotations

import contextlib
from typing import Any

from runbook.errors import Errored
from runbook.model.database import Database, QueryResult
from runbook.transports.database.driver import (
    CONNECT_TIMEOUT,
    Address,
    Connection,
    Lost,
    Purpose,
    hung_up,
    missing,
    plain,
)

_LOST = frozenset({2006, 2013, 2055})
"""Server has gone away; lost connection during query (client error messages, MySQL manual)."""


class MysqlConnection:
    """A session in autocommit mode."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, statement: str, timeout: float) -> QueryResult:
        import pymysql

        # No server-side limit is common to MySQL and MariaDB; the socket's ends the session.
        self._connection._read_timeout = timeout
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement)
                columns = tuple(one[0] for one in cursor.description or ())
                rows = cursor.fetchall()
        except pymysql.MySQLError as fault:
            number = fault.args[0] if fault.args and isinstance(fault.args[0], int) else 0
            if not self._connection.open or number in _LOST or number == 0:
                raise Lost(_words(fault)) from fault
            return QueryResult(error=_words(fault), code=str(number))
        except (OSError, EOFError) as fault:
            raise Lost(str(fault)) from fault
        return QueryResult(
            columns=columns, rows=tuple(tuple(plain(item) for item in row) for row in rows)
        )

    @property
    def alive(self) -> bool:
        return bool(self._connection.open) and not hung_up(self._connection._sock.fileno())

    def close(self) -> None:
        import pymysql

        # One that is closed already, or whose other end has gone.
        with contextlib.suppress(pymysql.MySQLError, OSError):
            self._connection.close()


def connect(
    database: Database, address: Address, password: str | None, *, purpose: Purpose
) -> Connection:
    """Raises Errored: the extra is missing, nobody answers, or the login is refused."""
    try:
        import pymysql
    except ImportError as fault:
        raise missing("mysql", "PyMySQL") from fault
    tunnel = address.socket_path if address.socket_dir else None
    tls: dict[str, Any] = {}
    if tunnel is not None or database.tls == "off":
        tls["ssl_disabled"] = True
    elif database.tls == "verify":
        tls["ssl_verify_cert"] = tls["ssl_verify_identity"] = True
    elif database.tls == "require":
        tls["ssl"] = {"check_hostname": False}
    try:
        connection = pymysql.connect(
            host=address.host, port=address.port, unix_socket=tunnel, user=database.user,
            password=password or "", database=database.database or None, autocommit=True,
            connect_timeout=CONNECT_TIMEOUT, charset="utf8mb4", program_name="runbook",
            init_command="SET SESSION TRANSACTION READ ONLY" if purpose == "read" else None, **tls,
        )
    except (pymysql.MySQLError, OSError) as fault:
        raise Errored(_words(fault)) from fault
    if purpose == "read":
        # A moment is the same text, whatever each server's settings say.
        connection.query("SET time_zone = '+00:00'")
    return MysqlConnection(connection)


def _words(fault: Exception) -> str:
    text = fault.args[1] if len(fault.args) > 1 else fault
    return " ".join(str(text).split())
