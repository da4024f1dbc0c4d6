"""The journal in SQLite: runs, their append-only hash-chained events, and what people say.

One file in the state folder. A run is written only through its :class:`Lease`; everybody else
reads, and posts into the inbox. ``append`` returns when the events are on the disk.
"""

from __future__ import annotations

import contextlib
import json
import secrets as random_source
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runbook.errors import Fenced, JournalFault, NotFound
from runbook.journal.lock import RunLock, holder_of
from runbook.journal.schema import AMENDED_VERSION, connect
from runbook.model.events import GENESIS, Event, canonical, event_hash
from runbook.model.plan import PLAN_SCHEMA, Plan


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One row of the list of runs. ``phase`` is as the last phase-bearing event says."""

    run_id: str
    runbook: str
    plan_digest: str
    level: str
    who: str
    created: float
    events: int
    held_by: str | None


@dataclass(frozen=True, slots=True)
class Draft:
    """An event about to be appended."""

    kind: str
    node: str = ""
    op: str = ""
    attempt: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """What a person said to a run from any terminal."""

    id: int
    ts: float
    verb: str
    who: str
    node: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    plan_digest: str
    level: str
    run_id: str
    ts: float
    who: str
    ok: bool
    data: Mapping[str, Any]


class Store:
    """All runs of one state folder. Safe to open from many processes. Raises JournalFault where
    there can be no such folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        _make_folder(directory, mode=0o700)
        self._db = connect(directory / "journal.db")
        self._mutex = threading.Lock()

    def close(self) -> None:
        with self._mutex:
            self._db.close()

    def run_directory(self, run_id: str) -> Path:
        """Where outputs and reports of a run are kept."""
        return self.directory / "runs" / run_id

    def create(self, plan: Plan, *, who: str, now: float, level: str = "live") -> str:
        """Pin a plan under a new run id, unique beyond this folder, and return the id. Raises
        JournalFault."""
        alphabet = "abcdefghjkmnpqrstvwxyz23456789"
        suffix = "".join(random_source.choice(alphabet) for _ in range(6))
        run_id = f"{plan.runbook}-{suffix}"
        # First: a run that is in the journal and can have no folder could never be taken up.
        _make_folder(self.run_directory(run_id))
        with self._write() as db:
            db.execute(
                "INSERT INTO run VALUES (?,?,?,?,?,?,?)",
                (run_id, plan.runbook, plan.model_dump_json(), plan.digest, level, who, now),
            )
            db.execute("INSERT INTO lease VALUES (?,?,0)", (run_id, ""))
        return run_id

    def runs(self) -> list[RunSummary]:
        """Newest first."""
        rows = self._read(
            "SELECT r.run_id, r.runbook, r.plan_digest, r.level, r.who, r.created,"
            " (SELECT count(*) FROM event e WHERE e.run_id = r.run_id)"
            " FROM run r ORDER BY r.rowid DESC"
        )
        return [
            RunSummary(run_id, runbook, digest, level, who, created, events, self.holder(run_id))
            for run_id, runbook, digest, level, who, created, events in rows
        ]

    def latest_run_id(self) -> str | None:
        rows = self._read("SELECT run_id FROM run ORDER BY rowid DESC LIMIT 1")
        return str(rows[0][0]) if rows else None

    def find(self, text: str) -> str:
        """The run whose id is ``text``, starts with it, or ends with ``-text``.

        Raises NotFound, also when several match."""
        ids = [str(row[0]) for row in self._read("SELECT run_id FROM run ORDER BY rowid DESC")]
        if text in ids:
            return text
        found = [i for i in ids if i.startswith(text) or i.endswith("-" + text)]
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFound(
                f"{text!r} fits {len(found)} runs: {', '.join(found[:5])}",
                hint="give more of the run's id",
            )
        newest = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
        raise NotFound(
            f"no run {text!r} in {self.directory}",
            hint=f"there are: {newest}" if ids else "there are no runs yet",
        )

    def holder(self, run_id: str) -> str | None:
        return holder_of(self.run_directory(run_id) / "lock")

    def load(self, run_id: str) -> tuple[Plan, list[Event]]:
        """The pinned plan and every event, the hash chain checked. The plan is as the run began
        with it: its amendments are among the events.

        Raises NotFound, or JournalFault naming the first event that does not fit.
        """
        rows = self._read(
            "SELECT plan, json_extract(plan, '$.schema_version') FROM run WHERE run_id=?", run_id
        )
        if not rows:
            raise NotFound(f"no run {run_id!r} in {self.directory}")
        text, schema = rows[0]
        _check_schema(run_id, schema)
        plan, events = Plan.model_validate_json(text), self.events(run_id)
        for event in events:
            if event.kind == "amended":
                _check_schema(run_id, event.data["plan"].get("schema_version"))
        return plan, events

    def events(self, run_id: str, *, after: int = 0, prev_hash: str = GENESIS) -> list[Event]:
        """Events with a greater sequence number than ``after``; the chain is checked from
        ``prev_hash``. Raises JournalFault."""
        events: list[Event] = []
        for row in self._read(
            "SELECT seq, run_id, epoch, ts, node, op, attempt, kind, data, prev_hash, hash"
            " FROM event WHERE run_id=? AND seq>? ORDER BY seq", run_id, after,
        ):
            seq, _, epoch, ts, node, op, attempt, kind, data, stored_prev, stored = row
            expected = event_hash(
                prev_hash, run_id, epoch, ts, node, op, attempt, kind, data
            )
            if stored_prev != prev_hash or stored != expected:
                raise JournalFault(
                    f"the journal of {run_id} is not as it was written: event {seq} ({kind}) "
                    "does not fit the hash chain",
                    hint="restore the journal from a copy; do not resume from this one",
                )
            prev_hash = stored
            events.append(
                Event(seq, run_id, epoch, ts, node, op, attempt, kind, json.loads(data),
                      stored_prev, stored)
            )
        return events

    def acquire(self, run_id: str, holder: str) -> Lease:
        """Become the one controller of a run. Raises HeldByOther."""
        lock = RunLock(self.run_directory(run_id) / "lock", run_id, holder)
        try:
            with self._write() as db:
                db.execute(
                    "UPDATE lease SET holder=?, epoch=epoch+1 WHERE run_id=?", (holder, run_id)
                )
                found = db.execute(
                    "SELECT epoch FROM lease WHERE run_id=?", (run_id,)
                ).fetchone()
                if found is None:
                    raise NotFound(f"no run {run_id!r} in {self.directory}")
                last = db.execute(
                    "SELECT seq, hash FROM event WHERE run_id=? ORDER BY seq DESC LIMIT 1",
                    (run_id,),
                ).fetchone()
        except BaseException:
            lock.release()
            raise
        return Lease(self, run_id, int(found[0]), lock, last[1] if last else GENESIS)

    def post(
        self, run_id: str, verb: str, *, who: str, now: float, node: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Say something to a run; its controller takes it at its next look."""
        with self._write() as db:
            db.execute(
                "INSERT INTO inbox (run_id, ts, verb, who, node, data) VALUES (?,?,?,?,?,?)",
                (run_id, now, verb, who, node, canonical(data or {})),
            )

    def inbox(self, run_id: str) -> list[Message]:
        """What was said and not yet taken."""
        rows = self._read(
            "SELECT id, ts, verb, who, node, data FROM inbox WHERE run_id=? ORDER BY id", run_id
        )
        return [
            Message(number, ts, verb, who, node, json.loads(data))
            for number, ts, verb, who, node, data in rows
        ]

    def record_rehearsal(self, rehearsal: Rehearsal) -> None:
        r = rehearsal
        with self._write() as db:
            db.execute(
                "INSERT INTO rehearsal (plan_digest, level, run_id, ts, who, ok, data)"
                " VALUES (?,?,?,?,?,?,?)",
                (r.plan_digest, r.level, r.run_id, r.ts, r.who, int(r.ok), canonical(r.data)),
            )

    def rehearsals(self, plan_digest: str | None = None) -> list[Rehearsal]:
        """Newest first; of one plan, or of all."""
        rows = self._read(
            "SELECT plan_digest, level, run_id, ts, who, ok, data FROM rehearsal"
            " WHERE ?1 = '' OR plan_digest = ?1 ORDER BY id DESC", plan_digest or "",
        )
        return [Rehearsal(d, lv, r, ts, w, bool(ok), json.loads(x))
                for d, lv, r, ts, w, ok, x in rows]

    def _read(self, statement: str, *arguments: object) -> list[Any]:
        try:
            with self._mutex:
                return self._db.execute(statement, arguments).fetchall()
        except sqlite3.Error as fault:
            raise JournalFault(f"the journal cannot be read: {fault}") from fault

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._mutex:
                try:
                    self._db.execute("BEGIN IMMEDIATE")
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    # SQLite may have rolled back by itself (a full disk). It happens under the
                    # mutex: afterwards the transaction open here is another thread's.
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
        except sqlite3.Error as fault:
            raise JournalFault(
                f"the journal cannot be written: {fault}",
                hint="nothing further is started; free space on its disk, then `runbook resume`",
            ) from fault


@dataclass(slots=True)
class _Ticket:
    drafts: Sequence[tuple[Draft, str]]
    """Each with its data as it will be stored."""
    taken: Sequence[int]
    ts: float
    events: list[Event] | None = None
    fault: BaseException | None = None


class Lease:
    """The right to append to one run. Appends of many threads share commits.

    ``check`` is asked whether events (node, op, kind) may come next, before they are written; what
    it raises is raised to who appended them, and nothing of theirs becomes durable. ``on_commit``
    is called with every committed event, in order, one at a time; what it raises ends the lease.
    """

    def __init__(
        self, store: Store, run_id: str, epoch: int, lock: RunLock, last_hash: str
    ) -> None:
        self.store = store
        self.run_id = run_id
        self.epoch = epoch
        self.check: Callable[[Sequence[tuple[str, str, str]]], None] | None = None
        self.on_commit: Callable[[Event], None] | None = None
        self._lock = lock
        self._last_hash = last_hash
        self._queue: list[_Ticket] = []
        self._queue_mutex = threading.Lock()
        self._writer = threading.RLock()
        self._broken: BaseException | None = None

    def append(
        self, drafts: Sequence[Draft], *, ts: float, taken: Sequence[int] = ()
    ) -> list[Event]:
        """Append events as one transaction; ``taken`` inbox messages leave it in the same.

        Returns when they are durable. Raises JournalFault, or Fenced when another controller
        has taken the run; after either, nothing more can be appended through this lease. Raises
        TypeError or ValueError for data that is no JSON, and what ``check`` raises; others go on.
        """
        # Here and not in the commit, which one thread makes for many.
        ticket = _Ticket([(d, _stored(d)) for d in drafts], taken, ts)
        with self._queue_mutex:
            self._queue.append(ticket)
        with self._writer:
            # Whoever gets the writer commits for all who wait: one fsync serves many threads.
            if ticket.events is None and ticket.fault is None:
                with self._queue_mutex:
                    batch, self._queue = self._queue, []
                self._commit(batch)
        if ticket.fault is not None:
            raise ticket.fault
        return ticket.events or []

    def _commit(self, batch: list[_Ticket]) -> None:
        if self._broken is not None:
            for ticket in batch:
                ticket.fault = self._broken
            return
        prev = self._last_hash
        written: list[tuple[_Ticket, list[Event]]] = []
        batch = self._possible(batch)
        if not batch:
            return
        try:
            with self.store._write() as db:
                (epoch,) = db.execute(
                    "SELECT epoch FROM lease WHERE run_id=?", (self.run_id,)
                ).fetchone()
                if epoch != self.epoch:
                    raise Fenced(
                        f"another controller has taken run {self.run_id}",
                        hint="this one stops here; follow the run with `runbook status`",
                    )
                for ticket in batch:
                    events = []
                    for draft, text in ticket.drafts:
                        event = self._insert(db, draft, text, ticket.ts, prev)
                        prev = event.hash
                        events.append(event)
                    db.executemany(
                        "DELETE FROM inbox WHERE id=?", [(number,) for number in ticket.taken]
                    )
                    written.append((ticket, events))
        except BaseException as fault:  # noqa: BLE001 - raised by append, in every waiting thread
            self._broken = fault
            for ticket in batch:
                ticket.fault = fault
            return
        self._last_hash = prev
        for ticket, events in written:
            ticket.events = events
        if self.on_commit is None:
            return
        try:
            for _, events in written:
                for event in events:
                    self.on_commit(event)
        except BaseException as fault:
            # The state in memory is not that of the journal any more: nothing may build on it.
            self._broken = fault
            raise

    def _possible(self, batch: list[_Ticket]) -> list[_Ticket]:
        """The tickets whose events may come next, each after those before it; others get their
        fault."""
        if self.check is None:
            return batch
        good: list[_Ticket] = []
        before: list[tuple[str, str, str]] = []
        for ticket in batch:
            changes = [(d.node, d.op, d.kind) for d, _ in ticket.drafts]
            try:
                self.check([*before, *changes])
            except Exception as fault:  # noqa: BLE001 - raised by append, in the ticket's thread
                ticket.fault = fault
                continue
            before += changes
            good.append(ticket)
        return good

    def _insert(
        self, db: sqlite3.Connection, draft: Draft, text: str, ts: float, prev: str
    ) -> Event:
        d = draft
        digest = event_hash(
            prev, self.run_id, self.epoch, ts, d.node, d.op, d.attempt, d.kind, text
        )
        if d.kind == "amended":
            db.execute(f"PRAGMA user_version={AMENDED_VERSION}")
        cursor = db.execute(
            "INSERT INTO event (run_id, epoch, ts, node, op, attempt, kind, data, prev_hash,"
            " hash) VALUES (?,?,?,?,?,?,?,?,?,?)",
            (self.run_id, self.epoch, ts, d.node, d.op, d.attempt, d.kind, text, prev, digest),
        )
        return Event(
            int(cursor.lastrowid or 0), self.run_id, self.epoch, ts, d.node, d.op, d.attempt,
            d.kind, json.loads(text), prev, digest,
        )

    def release(self) -> None:
        self._lock.release()


def _make_folder(path: Path, mode: int = 0o777) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as fault:
        raise JournalFault(
            f"{path} cannot be made a folder: {fault.strerror}",
            hint="name another state folder with --state; nothing was started",
        ) from fault


def _check_schema(run_id: str, schema: object) -> None:
    if schema != PLAN_SCHEMA:
        raise JournalFault(
            f"run {run_id} was planned with plan schema {schema}; this Runbook reads "
            f"{PLAN_SCHEMA}",
            hint="finish the run with the Runbook version that started it",
        )


def _stored(draft: Draft) -> str:
    """Raises TypeError or ValueError for what cannot be stored as UTF-8 JSON."""
    text = canonical(draft.data)
    for part in (text, draft.node, draft.op, draft.kind):
        part.encode()
    return text
