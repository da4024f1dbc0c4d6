"""What of a MariaDB server our user may read. What it may not, ``information_schema`` does not
even name, so whoever goes through its tables passes over it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from runbook.kinds.needs_common import Seen, need
from runbook.kinds.sql_common import answer, server
from runbook.model.need import Need, coming, in_database
from runbook.model.ports import DatabaseReads, Reads

HINT = "GRANT SELECT ON *.* TO the user, or name in `tables` databases that it may read as a " \
       "whole: shop.*"
_GRANT = re.compile(r"GRANT (?P<what>.+?) ON (?P<where>\S+) TO ")
_DATABASE = re.compile(r"`(?P<name>[^`]+)`\.\*")


class Granted(NamedTuple):
    """Where our user has a privilege."""

    everywhere: bool
    databases: frozenset[str]


def granted(mysql: DatabaseReads, privilege: str) -> Granted:
    """Where our user has a privilege, by itself or by its role, on whole databases at least.
    Raises Errored."""
    everywhere, databases = False, set()
    for (line,) in answer(mysql, "SHOW GRANTS").rows:
        found = _GRANT.match(str(line))
        if found is None or not {privilege, "ALL PRIVILEGES"} & set(found["what"].split(", ")):
            continue
        whole = _DATABASE.fullmatch(found["where"])
        everywhere = everywhere or found["where"] == "*.*"
        if whole is not None:
            databases.add(whole["name"].replace("\\_", "_").replace("\\%", "%"))
    return Granted(everywhere, frozenset(databases))


def unread(mysql: DatabaseReads, patterns: Sequence[str]) -> str:
    """Which of the tables that are wanted our user may not be able to see, in words; empty: it
    sees all of them. Patterns are as in `tables`; none: every table. Raises Errored."""
    may = granted(mysql, "SELECT")
    lacking = [one for one in patterns if one.partition(".")[0] not in may.databases]
    if may.everywhere or (patterns and not lacking):
        return ""
    what = f"all of {', '.join(lacking)}" if patterns else "*.*"
    user = answer(mysql, "SELECT CURRENT_USER()").value
    return f"{user} lacks SELECT on {what}, and sees only what it may read"


def sees_all(reads: Reads, name: str, patterns: Sequence[str]) -> Need:
    """Whether our user sees every table that is to be compared."""

    def look() -> Seen:
        lacking = unread(server(reads, name, "mysql"), patterns)
        return Seen(not lacking, lacking or "yes")

    return need(f"{name} lets us read every table", look, hint=HINT,
                made_by=(in_database(name), coming(name)))
