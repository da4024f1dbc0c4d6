"""Synchronous replication that nobody answers: a primary that has the names of standbys in its
settings, and none of them, takes writes and ends none."""

from __future__ import annotations

import re

from runbook.kinds.needs_common import Seen, need
from runbook.kinds.sql_common import answer, server
from runbook.model.need import Need, coming, in_database
from runbook.model.ports import DatabaseReads, Reads

# Whom a role without pg_read_all_stats cannot see may be one that answers.
_WAITS = """\
SELECT current_setting('synchronous_standby_names'),
  current_setting('synchronous_commit') NOT IN ('off', 'local'),
  (SELECT count(*) FROM pg_stat_replication
    WHERE sync_state IS NULL OR (sync_state IN ('sync', 'quorum') AND state = 'streaming'))"""
_NUMBER = re.compile(r"\s*(?:first\b|any\b)?\s*(\d+)\s*\(", re.IGNORECASE)


def unanswered(postgres: DatabaseReads) -> str:
    """What the commits of a primary wait for in vain, in words; empty: nothing, as far as can be
    known. Of a standby: what they would wait for. Raises Errored."""
    names, waits, answering = answer(postgres, _WAITS).rows[0]
    if not names or not waits:
        return ""
    number = _NUMBER.match(names)
    wanted = int(number[1]) if number else 1
    if answering >= wanted:
        return ""
    return (f"every commit waits for {wanted} of synchronous_standby_names ({names}), and "
            f"{answering or 'none'} of them follows {postgres.database.name}")


def none_waits(reads: Reads, name: str) -> Need:
    """A warning: whether commits of a server will wait for standbys that it does not have."""

    def look() -> Seen:
        why = unanswered(server(reads, name, "postgres"))
        return Seen(not why, f"once it is the primary, {why}" if why else "none waits")

    return need(
        f"commits on {name} wait for no standby that is not there", look, grave=False,
        made_by=(in_database(name), coming(name)), hint=hint(name),
    )


def hint(name: str) -> str:
    return (f"ALTER SYSTEM SET synchronous_standby_names = '' on {name}, with a reload, or let the "
            "standbys follow it before it is thawed")
