"""What the engines' drivers have in common."""

from __future__ import annotations

import datetime
import decimal
import select
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from runbook.errors import Errored
from runbook.model.database import QueryResult

CONNECT_TIMEOUT = 10
"""Seconds."""
APPLICATION = "runbook"
"""How a server's list of sessions names ours."""


Purpose = Literal["read", "act", "client"]
"""What a session is for: it cannot write; it acts, also on a server that refuses writes to all
others; or it is as any client's, with the server's own defaults."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect to: TCP, or the socket in which one of our tunnels begins."""

    host: str
    port: int
    socket_dir: str = ""
    """Folder of a Unix socket; empty: TCP."""

    @property
    def socket_path(self) -> str:
        """Named as PostgreSQL's client expects it; any name does for the others."""
        return f"{self.socket_dir}/.s.PGSQL.{self.port}"


class Lost(Exception):
    """The connection broke, or the server fell silent, while a statement was under way."""


class Connection(Protocol):
    """One session. Not thread-safe."""

    def execute(self, statement: str, timeout: float) -> QueryResult:
        """One statement, committed by itself. The server's refusal is in the result. Raises
        Lost; the session is of no use then."""

    @property
    def alive(self) -> bool:
        """False when the other end is known to have gone. Asks nobody."""

    def close(self) -> None: ...


def plain(value: Any) -> Any:
    """A driver's value as a JSON value."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data.hex()
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    return str(value)


def hung_up(descriptor: int) -> bool:
    """Whether an idle session's socket has something to say: it should be silent, so that is
    its end, or the server's last words."""
    return bool(select.select([descriptor], [], [], 0)[0])


def missing(extra: str, module: str) -> Errored:
    return Errored(
        f"databases of this engine need the Python package {module}",
        hint=f'pip install "runbook[{extra}]"',
    )
