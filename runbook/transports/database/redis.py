"""Redis and Valkey, by redis-py (extra ``redis``; MIT, by Redis themselves)."""

from __future__ import annotations

import shlex
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

_READS = frozenset({
    "PING", "INFO", "ROLE", "TIME", "DBSIZE", "LASTSAVE", "COMMAND", "CONFIG GET", "CLIENT LIST",
    "CLIENT INFO", "CLIENT ID", "MEMORY STATS", "SLOWLOG GET", "LATENCY LATEST", "ACL WHOAMI",
    "ACL DRYRUN", "DEBUG DIGEST",
})
"""Commands that change nothing, besides those that the server itself flags ``readonly``."""


class RedisConnection:
    """One connection, without redis-py's own retries: they would repeat what may have been done."""

    def __init__(self, connection: Any, *, read_only: bool) -> None:
        self._connection = connection
        self._read_only = read_only
        self._flagged: dict[str, bool] = {}

    def execute(self, statement: str, timeout: float) -> QueryResult:
        words = shlex.split(statement)
        if not words:
            return QueryResult(error="an empty command", code="ERR")
        if self._read_only and not self._reads(words, timeout):
            return QueryResult(error=f"{words[0]} may change something", code="READONLY")
        return self._ask(words, timeout)

    def _ask(self, words: list[str], timeout: float) -> QueryResult:
        import redis.exceptions

        try:
            self._connection.send_command(*words)
            reply = self._connection.read_response(timeout=timeout)
        except redis.exceptions.ResponseError as fault:
            text = str(fault)
            return QueryResult(error=text, code=text.split(" ", 1)[0])
        except (redis.exceptions.RedisError, OSError) as fault:
            self._connection.disconnect()
            raise Lost(str(fault) or type(fault).__name__) from fault
        value = plain(reply)
        rows = tuple((item,) for item in value) if isinstance(value, list) else ((value,),)
        return QueryResult(columns=("reply",), rows=rows)

    def _reads(self, words: list[str], timeout: float) -> bool:
        name = words[0].upper()
        if {name, " ".join(words[:2]).upper()} & _READS:
            return True
        if name not in self._flagged:
            told = self._ask(["COMMAND", "INFO", name], timeout).value
            # What the server does not know it refuses itself, in its own words.
            self._flagged[name] = told is None or "readonly" in told[2]
        return self._flagged[name]

    @property
    def alive(self) -> bool:
        sock = self._connection._sock
        return sock is not None and not hung_up(sock.fileno())

    def close(self) -> None:
        self._connection.disconnect()


def connect(
    database: Database, address: Address, password: str | None, *, purpose: Purpose
) -> Connection:
    """Raises Errored: the extra is missing, nobody answers, or the login is refused."""
    try:
        import redis.connection
        import redis.exceptions
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as fault:
        raise missing("redis", "redis") from fault
    common: dict[str, Any] = {
        "username": database.user, "password": password, "db": int(database.database or 0),
        "client_name": APPLICATION, "retry": Retry(NoBackoff(), 0), "protocol": 2,
        "socket_timeout": CONNECT_TIMEOUT,
    }
    # redis-py leaves their constructors without types.
    tunnelled: Any = redis.connection.UnixDomainSocketConnection
    direct: Any = redis.connection.Connection
    made: Any
    if address.socket_dir:
        made = tunnelled(path=address.socket_path, **common)
    else:
        common |= {
            "host": address.host, "port": address.port, "socket_keepalive": True,
            "socket_connect_timeout": CONNECT_TIMEOUT,
        }
        if database.tls in {"require", "verify"}:
            verify = database.tls == "verify"
            made = redis.connection.SSLConnection(
                ssl_cert_reqs="required" if verify else "none", ssl_check_hostname=verify, **common
            )
        else:
            # Redis cannot tell on one port whether it offers TLS: `prefer` is plain.
            made = direct(**common)
    try:
        made.connect()
    except (redis.exceptions.RedisError, OSError) as fault:
        raise Errored(str(fault) or type(fault).__name__) from fault
    return RedisConnection(made, read_only=purpose == "read")
