"""Declared databases: reading them, and executing statements on them.

Each has two kinds of sessions, those that read and the one that acts. One of each is opened
before the first step, so that nothing has to be opened inside a freeze.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

from runbook.errors import Errored, InDoubt, NotFound, Refused
from runbook.model.actions import ANSWER, ActionKey, ActionResult, ExecuteSql, Question
from runbook.model.database import Database, Engine, QueryResult
from runbook.model.endpoints import Endpoints
from runbook.model.inventory import Inventory
from runbook.model.ports import Resolution
from runbook.model.secrets import MARK, Redactor
from runbook.transports.database.driver import Address, Connection, Lost, Purpose
from runbook.transports.database.tunnel import Tunnel
from runbook.transports.net_dial import SocketLike

_OPENERS = 8
_TRANSACTION: dict[Engine, tuple[str, str]] = {
    "postgres": ("BEGIN", "ROLLBACK"), "mysql": ("START TRANSACTION", "ROLLBACK"),
    # A command that would be refused is refused when it is queued.
    "redis": ("MULTI", "DISCARD"),
}
"""Beginning and end of a transaction that leaves nothing behind."""


class Secrets(Protocol):
    def value(self, name: str) -> str:
        """Raises NotFound or Errored."""


Dial = Callable[[str, str, int], SocketLike]
"""``(from host, address, port)``: a connection through SSH. Raises Errored."""


class DatabaseTransport:
    """All databases of one run, by name. Thread-safe.

    With ``endpoints`` every connection is redirected into that sandbox, and what is not in its
    table is refused.
    """

    def __init__(
        self, databases: Iterable[Database], *, inventory: Inventory, secrets: Secrets,
        redactor: Redactor, dial: Dial, endpoints: Endpoints | None = None,
    ) -> None:
        reach = _Reach(inventory, dial, endpoints)
        self._servers: Mapping[str, _Server] = {
            one.name: _Server(one, reach, secrets, redactor) for one in databases
        }

    def reads(self, name: str) -> _Server:
        """Implements :class:`runbook.model.ports.DatabaseReads`. Raises NotFound."""
        found = self._servers.get(name)
        if found is None:
            raise NotFound(f"no database {name!r} is declared under `databases:`")
        return found

    def prepare(self) -> None:
        """Open every database that is there from the beginning. Raises Errored naming all that
        cannot be opened."""
        wanted = [one for one in self._servers.values() if not one.database.later]
        if not wanted:
            return
        faults: list[Errored] = []
        with ThreadPoolExecutor(_OPENERS, thread_name_prefix="open-database") as openers:
            for task in [openers.submit(one.prepare) for one in wanted]:
                try:
                    task.result()
                except Errored as fault:
                    faults.append(fault)
        if faults:
            raise Errored(
                "; ".join(fault.message for fault in faults),
                hint=" | ".join(dict.fromkeys(fault.hint for fault in faults if fault.hint)),
            )

    def perform(self, action: ExecuteSql, key: ActionKey) -> ActionResult:
        """Execute in order until one is refused. ``data``: ``rows`` and ``columns`` of the last
        statement. Raises Errored (nothing was sent) or InDoubt."""
        answer = "" if action.ask is None else self._asked(action.ask)
        return self.reads(action.database).perform(action, answer)

    def _asked(self, ask: Question) -> str:
        told = self.reads(ask.database).query(ask.statement)
        if not told.ok:
            raise Errored(f"database {ask.database}: {_short(ask.statement)!r}: {told.error}")
        return "" if told.value is None else str(told.value)

    def resolve(self, action: ExecuteSql, key: ActionKey) -> Resolution:
        """Nobody keeps a record of statements: always unknown."""
        return Resolution(
            outcome="unknown",
            detail=f"nobody can say whether {action.database} executed "
            f"{_short(action.statements[0])!r}",
        )

    def close(self) -> None:
        for server in self._servers.values():
            server.close()


class _Reach:
    """Where a database is connected to: directly, through SSH, or in a sandbox."""

    def __init__(self, inventory: Inventory, dial: Dial, endpoints: Endpoints | None) -> None:
        self._inventory = inventory
        self._dial = dial
        self._endpoints = endpoints

    def open(self, database: Database) -> Address | Tunnel:
        """Raises Errored where a sandbox has no such server."""
        host = self._inventory.get(database.host)
        own = host.address if host is not None else database.host
        if self._endpoints is not None:
            return Address(*self._endpoints.connect(database.address or own, database.port))
        via = database.via
        if via is None:
            return Address(database.address or own, database.port)
        there = database.address or ("127.0.0.1" if via == database.host else own)
        return Tunnel(lambda: self._dial(via, there, database.port), database.port)


class _Server:
    """One database: its tunnel, its sessions. Implements ``DatabaseReads``."""

    def __init__(
        self, database: Database, reach: _Reach, secrets: Secrets, redactor: Redactor
    ) -> None:
        self._database = database
        self._reach = reach
        self._secrets = secrets
        self._redactor = redactor
        self._lock = threading.Lock()
        self._place: Address | Tunnel | None = None
        self._reading: list[Connection] = []
        """Idle sessions that read."""
        self._acting: Connection | None = None
        self._act_lock = threading.Lock()

    @property
    def database(self) -> Database:
        return self._database

    def prepare(self) -> None:
        with self._session():
            pass
        with self._act_lock:
            self._actor()

    def query(self, statement: str, *, timeout: float = 30.0) -> QueryResult:
        # Reads may be repeated: once more on a new session, when the old one had died.
        for fresh in (False, True):
            try:
                with self._session(fresh=fresh) as session:
                    return self._told(session.execute(self._real(statement), timeout))
            except Lost as fault:
                lost = fault
        raise Errored(f"{self._label} does not answer ({lost})") from lost

    def perform(self, action: ExecuteSql, answer: str = "") -> ActionResult:
        """``answer``: what goes in the place of ANSWER."""
        if action.refused_with:
            return self._try(action)
        with self._act_lock:
            last = QueryResult()
            session = self._actor()
            for number, statement in enumerate(action.statements):
                sent = self._real(statement).replace(ANSWER, self._quoted(answer))
                try:
                    last = self._told(session.execute(sent, action.timeout))
                except Lost as fault:
                    self._acting = None
                    raise InDoubt(
                        f"{self._label}: the connection was lost during "
                        f"{_short(statement)!r} ({fault})",
                        hint="look at the database whether it took effect",
                    ) from fault
                if not last.ok:
                    why = f"{self._label}: {_short(statement)!r}: {last.error}"
                    if number:
                        why += f" (the {number} before it took effect)"
                    return ActionResult(ok=False, detail=why, data={"code": last.code})
        return ActionResult(
            ok=True, detail=f"{self._label}: {_short(action.statements[-1])}",
            data={"columns": list(last.columns), "rows": [list(row) for row in last.rows]},
        )

    def _try(self, action: ExecuteSql) -> ActionResult:
        """A trial. Raises Errored: nobody can tell what the server would have said, and its
        transaction has ended with the session."""
        session = self._connect("client")
        begin, end = _TRANSACTION[self._database.engine]
        try:
            for statement in (begin, *action.statements):
                result = self._told(session.execute(self._real(statement), action.timeout))
                if not result.ok:
                    break
            session.execute(end, action.timeout)
        except Lost as fault:
            raise Errored(f"{self._label} neither took nor refused a write ({fault})") from fault
        finally:
            session.close()
        asked = _short(action.statements[-1])
        if result.ok:
            return ActionResult(
                ok=False, detail=f"{self._label} takes writes: it accepted {asked!r}, which was "
                "rolled back", data={"code": ""},
            )
        refused = result.code in action.refused_with
        said = f"{self._label} refused {asked!r}" + (
            "" if refused else ", but for another reason, which proves nothing"
        )
        return ActionResult(
            ok=refused, detail=f"{said}: {result.error}", data={"code": result.code}
        )

    def close(self) -> None:
        with self._lock:
            sessions, self._reading = self._reading, []
            place, self._place = self._place, None
        with self._act_lock:
            if self._acting is not None:
                sessions.append(self._acting)
                self._acting = None
        for session in sessions:
            session.close()
        if isinstance(place, Tunnel):
            place.close()

    # -- sessions ------------------------------------------------------------------------------

    @property
    def _label(self) -> str:
        return f"database {self._database.name}"

    def _actor(self) -> Connection:
        if self._acting is None or not self._acting.alive:
            if self._acting is not None:
                self._acting.close()
                self._acting = None
            self._acting = self._connect("act")
        return self._acting

    @contextmanager
    def _session(self, *, fresh: bool = False) -> Iterator[Connection]:
        with self._lock:
            session = self._reading.pop() if self._reading and not fresh else None
        if session is not None and not session.alive:
            session.close()
            session = None
        if session is None:
            session = self._connect("read")
        try:
            yield session
        except BaseException:
            session.close()
            raise
        with self._lock:
            self._reading.append(session)

    def _connect(self, purpose: Purpose) -> Connection:
        database = self._database
        with self._lock:
            if self._place is None:
                self._place = self._reach.open(database)
            place = self._place
        password = self._secrets.value(database.password) if database.password else None
        driver = importlib.import_module(f"runbook.transports.database.{database.engine}")
        try:
            made: Connection = driver.connect(
                database, place.address if isinstance(place, Tunnel) else place, password,
                purpose=purpose,
            )
        except Errored as fault:
            why = place.fault if isinstance(place, Tunnel) and place.fault else fault
            raise Errored(
                f"{self._label} cannot be opened: {self._redactor.text(why.message)}",
                hint=why.hint or f"it is {database.engine} on {database.host}, port "
                f"{database.port}" + (f", through {database.via}" if database.via else ""),
            ) from None
        return made

    def _real(self, statement: str) -> str:
        """With secrets put in, each as it must be written between single quotes."""
        if self._database.engine == "redis" and MARK.search(statement):
            raise Refused(
                f"{self._label}: a secret stands in a command, where MONITOR would show it"
            )
        return MARK.sub(
            lambda found: self._quoted(self._secrets.value(found.group(1))), statement
        )

    def _quoted(self, value: str) -> str:
        if self._database.engine == "mysql":
            value = value.replace("\\", "\\\\")
        return value.replace("'", "''")

    def _told(self, result: QueryResult) -> QueryResult:
        if result.ok:
            return result
        return result.model_copy(update={"error": self._redactor.text(result.error)})


def _short(statement: str) -> str:
    text = " ".join(statement.split())
    return text if len(text) <= 80 else text[:79] + "…"
