"""Tables of the journal, and how an unknown version is refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from runbook.errors import JournalFault

APPLICATION_ID = 0x52424B31
STORE_VERSION = 1
"""Of a new journal."""
AMENDED_VERSION = 2
"""Of one that holds an amended plan. A Runbook that does not know amendments would go on by the
plan as it was: it has to refuse such a journal, and only such a one."""
READABLE = frozenset({STORE_VERSION, AMENDED_VERSION})

# A message's number is never used again: the engine remembers which it has handed on.
_TABLES = """
CREATE TABLE run (
  run_id TEXT PRIMARY KEY, runbook TEXT NOT NULL, plan TEXT NOT NULL, plan_digest TEXT NOT NULL,
  level TEXT NOT NULL, who TEXT NOT NULL, created REAL NOT NULL
) STRICT;
CREATE TABLE lease (
  run_id TEXT PRIMARY KEY REFERENCES run, holder TEXT NOT NULL, epoch INTEGER NOT NULL
) STRICT;
CREATE TABLE event (
  seq INTEGER PRIMARY KEY, run_id TEXT NOT NULL REFERENCES run, epoch INTEGER NOT NULL,
  ts REAL NOT NULL, node TEXT NOT NULL, op TEXT NOT NULL, attempt INTEGER NOT NULL,
  kind TEXT NOT NULL, data TEXT NOT NULL, prev_hash TEXT NOT NULL, hash TEXT NOT NULL
) STRICT;
CREATE INDEX event_run ON event (run_id, seq);
CREATE UNIQUE INDEX event_once ON event (run_id, node, op, attempt, kind)
  WHERE kind IN ('intent', 'done', 'verified', 'restored');
CREATE TABLE inbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL REFERENCES run, ts REAL NOT NULL,
  verb TEXT NOT NULL, who TEXT NOT NULL, node TEXT NOT NULL, data TEXT NOT NULL
) STRICT;
CREATE TABLE rehearsal (
  id INTEGER PRIMARY KEY, plan_digest TEXT NOT NULL, level TEXT NOT NULL, run_id TEXT NOT NULL,
  ts REAL NOT NULL, who TEXT NOT NULL, ok INTEGER NOT NULL, data TEXT NOT NULL
) STRICT;
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open the journal, making its tables when the file is new.

    ``journal_mode=TRUNCATE`` with ``synchronous=FULL``: SQLite's write-ahead log has a reset bug
    before 3.51.3 (https://sqlite.org/wal.html), and a commit must be on the disk when it returns.
    Readers open the same way: rolling back a hot journal needs the right to write.

    Raises JournalFault for a file that is no journal, or of another version.
    """
    try:
        db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode=TRUNCATE")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA foreign_keys=ON")
        _make_or_check(db, path)
    except sqlite3.Error as fault:
        raise JournalFault(
            f"the journal {path} cannot be opened: {fault}",
            hint="nothing was changed; check the file's rights and the free space of its disk",
        ) from fault
    return db


def _make_or_check(db: sqlite3.Connection, path: Path) -> None:
    version, application = _stamps(db)
    if version == 0 and application == 0:
        db.execute("BEGIN IMMEDIATE")
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables == 0:
            for statement in _TABLES.split(";"):
                if statement.strip():
                    db.execute(statement)
            db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={STORE_VERSION}")
        db.execute("COMMIT")
        version, application = _stamps(db)
    if application != APPLICATION_ID:
        raise JournalFault(
            f"{path} is not a Runbook journal", hint="name another state folder with --state"
        )
    if version not in READABLE:
        known = " and ".join(map(str, sorted(READABLE)))
        raise JournalFault(
            f"{path} has journal version {version}; this Runbook reads versions {known}",
            hint="use the Runbook version that wrote it; nothing was changed",
        )


def _stamps(db: sqlite3.Connection) -> tuple[int, int]:
    """Version and application id, as of one moment: another process may just be making the
    tables."""
    db.execute("BEGIN")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    db.execute("COMMIT")
    return version, application
