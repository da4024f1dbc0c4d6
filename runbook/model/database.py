"""Databases as a runbook declares them, and what their servers answer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Engine = Literal["postgres", "mysql", "redis", "pgbouncer"]

PORTS: dict[str, int] = {"postgres": 5432, "mysql": 3306, "redis": 6379, "pgbouncer": 6432}
"""Every engine with its usual port. ``mysql`` is MySQL and MariaDB, ``pgbouncer`` its console."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Database(_Frozen):
    """One server of a database, at one site.

    ``host`` is the machine it runs on, as the inventory names it: commands that need the machine
    (stop the server, rejoin as a standby) are run there. The connection goes to ``address``, or
    to the host's own address; with ``via`` it goes through an SSH tunnel made from that host,
    and an address that is not given is then the host as seen from itself, 127.0.0.1.
    """

    name: str
    engine: Engine
    host: str
    address: str | None = None
    port: int
    database: str = ""
    """PostgreSQL, MySQL: the database to connect to; Redis: its number. Empty: the default."""
    user: str | None = None
    password: str | None = None
    """Name of the secret that holds it."""
    via: str | None = None
    tls: Literal["off", "prefer", "require", "verify"] = "prefer"
    """``prefer``: where the server offers it; ``verify``: and its certificate must be right for
    the name. Inside an SSH tunnel none is needed and none is used."""
    later: bool = False
    """It comes to be during the run: it is not opened before the first step."""

    service: str | None = None
    """The systemd unit that is the server, where one is."""
    data_directory: str | None = None
    bin_directory: str | None = None
    """Where its programs are (``pg_ctl``), when they are not in the PATH."""
    run_as: str | None = None
    """The user of the operating system that owns the server; None: who logs in there."""
    replication: str | None = None
    """How another server follows this one, without a password. PostgreSQL: a conninfo,
    ``host=198.51.100.30 user=replicator`` (its password stands in the follower's ``.pgpass``)."""


class QueryResult(_Frozen):
    """What a server answered. Values are JSON values; dates, decimals and bytes are texts.

    ``error`` is the server's refusal, and empty where it obeyed; ``code`` its own code for it:
    a SQLSTATE, MySQL's error number, the first word of a Redis error.
    """

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    error: str = ""
    code: str = ""

    @property
    def ok(self) -> bool:
        return not self.error

    @property
    def value(self) -> Any:
        """The first value of the first row; None where there is none."""
        return self.rows[0][0] if self.rows and self.rows[0] else None

    def dicts(self) -> list[dict[str, Any]]:
        """The rows by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]
