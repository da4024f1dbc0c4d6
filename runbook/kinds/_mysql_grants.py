"""What of a MariaDB server our user may read. What it may not, ``information_schema`` does not
even name, so whoever goes through its tables passes over it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runbook.kinds.needs_common import Seen, need
from runbook.kinds.sql_common import answer, server
from runbook.model.need import Need, coming, in_database
from runbook.model.ports import DatabaseReads, Reads

HINT = "GRANT SELECT ON *.* TO the user, or name in `tables` databases that it may read as a " \
       "whole: shop.*"
_GRANT = re.compile(r"GRANT (?P<what>.+?) ON (?P<where>\S+) TO ")
_DATABASE = re.compile(r"`(?P<name>[^`]+)`\.\*")


def unread(mysql: DatabaseReads, patterns: Sequence[str]) -> str:
    """Which of the tables that are wanted our user may not be able to see, in words; empty: it
    sees all of them. Patterns are as in `tables`; none: every table. Raises Errored."""
    user = answer(mysql, "SELECT CURRENT_USER()").value
    databases = set()
    # Those of its role, too.
    for (line,) in answer(mysql, "SHOW GRANTS").rows:
        found = _GRANT.match(str(line))
        if found is None or not {"SELECT", "ALL PRIVILEGES"} & set(found["what"].split(", ")):
            continue
        if found["where"] == "*.*":
            return ""
        whole = _DATABASE.fullmatch(found["where"])
        if whole is not None:
            databases.add(whole["name"].replace("\\_", "_").replace("\\%", "%"))
    if not patterns:
        return f"{user} lacks SELECT on *.*, and does not see what it may not read"
    lacking = [one for one in patterns if one.partition(".")[0] not in databases]
    if not lacking:
        return ""
    return f"{user} lacks SELECT on all of {', '.join(lacking)}, and sees only what it may read"


def sees_all(reads: Reads, name: str, patterns: Sequence[str]) -> Need:
    """Whether our user sees every table that is to be compared."""

    def look() -> Seen:
        lacking = unread(server(reads, name, "mysql"), patterns)
        return Seen(not lacking, lacking or "yes")

    return need(f"{name} lets us read every table", look, hint=HINT,
                made_by=(in_database(name), coming(name)))
