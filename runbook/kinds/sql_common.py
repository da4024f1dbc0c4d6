"""What the kinds about databases share: asking, and commands on a database's machine."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

from pydantic import Field

from runbook.errors import Errored, Refused
from runbook.model.database import Database, Engine, QueryResult
from runbook.model.ports import DatabaseReads, Reads

DatabaseName = Annotated[str, Field(min_length=1)]
"""A key that names a database declared under ``databases:``."""


def server(reads: Reads, name: str, engine: Engine) -> DatabaseReads:
    """A declared database of one engine. Raises NotFound, or Refused for another engine."""
    found = reads.database(name)
    if found.database.engine != engine:
        raise Refused(
            f"database {name} is {found.database.engine}, and this kind is for {engine}",
            hint=f"use a {found.database.engine}.* kind, or name another database",
        )
    return found


def answer(reads: DatabaseReads, statement: str, *, timeout: float = 30.0) -> QueryResult:
    """What the server answers. Raises Errored where it refuses: then nothing was learned."""
    result = reads.query(statement, timeout=timeout)
    if not result.ok:
        raise Errored(
            f"database {reads.database.name} refused {' '.join(statement.split())[:80]!r}: "
            f"{result.error}",
            hint="the user that `databases:` names needs more rights",
        )
    return result


def packed(database: Database) -> dict[str, Any]:
    """Evidence that carries a declaration to ``plan`` and ``undo``, which have no ``reads``."""
    return database.model_dump(mode="json", exclude_defaults=True)


def unpacked(evidence: Any) -> Database:
    return Database.model_validate(evidence)


def run_of(reads: Reads) -> str:
    """The id of the run, the same for all its steps."""
    return reads.key.partition("/")[0]


def program(database: Database, name: str) -> str:
    """A program of the server, quoted for a shell."""
    place = database.bin_directory
    return shlex.quote(f"{place}/{name}" if place else name)
