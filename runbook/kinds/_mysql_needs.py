"""What the MariaDB kinds rely on: privileges, the same version, replication."""

from __future__ import annotations

from runbook.kinds import needs_common
from runbook.kinds._mysql_following import doubt
from runbook.kinds.mysql_common import state
from runbook.kinds.needs_common import Seen, need
from runbook.kinds.sql_common import answer, server
from runbook.model.need import Need, coming, in_database
from runbook.model.ports import Reads

FAR_BEHIND = 30
"""Seconds: a replica that is further behind takes its time to catch up under a freeze."""

FREEZING = (("RELOAD",), ("READ_ONLY ADMIN", "READ ONLY ADMIN", "SUPER"))
"""Of each group one: ``FLUSH TABLES WITH READ LOCK``, ``SET GLOBAL read_only``."""
LEADING = (("RELOAD",), ("REPLICATION SLAVE ADMIN", "SUPER"))
"""``RESET SLAVE``, ``STOP SLAVE`` and ``CHANGE MASTER``."""
PROMOTING = (*LEADING, FREEZING[1])
"""The same, and ``SET GLOBAL read_only``."""

_PRIVILEGES = """\
SELECT CURRENT_USER(), CURRENT_ROLE(), GROUP_CONCAT(privilege_type SEPARATOR ',')
FROM information_schema.user_privileges
WHERE grantee = CONCAT(QUOTE(SUBSTRING_INDEX(CURRENT_USER(), '@', 1)), '@',
  QUOTE(SUBSTRING_INDEX(CURRENT_USER(), '@', -1)))"""

_READ_ONLY = """\
SELECT global_value, global_value_origin, global_value_path
FROM information_schema.system_variables WHERE variable_name = 'READ_ONLY'"""


def may(reads: Reads, name: str, what: str, wanted: tuple[tuple[str, ...], ...]) -> Need:
    """Whether our user has, of each group of global privileges, one."""

    def look() -> Seen:
        user, role, has = answer(server(reads, name, "mysql"), _PRIVILEGES).rows[0]
        privileges = set(str(has or "").split(","))
        lacking = [group[0] for group in wanted if not privileges & set(group)]
        if lacking and role:
            return Seen(None, f"{user} lacks {', '.join(lacking)}; its role {role} may have it")
        return Seen(not lacking, f"{user} lacks {', '.join(lacking)}" if lacking else str(user))

    return need(
        f"{name} lets us {what}", look, made_by=(in_database(name), coming(name)),
        hint=f"GRANT {', '.join(group[0] for group in wanted)} ON *.* to the user",
    )


def stays_frozen(reads: Reads, name: str) -> Need:
    """Whether a server that is started again refuses writes: ``SYSTEM_VARIABLES`` tells where a
    value comes from, until a statement has set it."""

    def look() -> Seen:
        found = answer(server(reads, name, "mysql"), _READ_ONLY).rows
        if not found:
            return Seen(None, "it does not say where read_only comes from")
        value, origin, path = (str(cell or "") for cell in found[0])
        if origin == "SQL":
            return Seen(None, "a statement has set read_only since it was started")
        if value == "ON":
            return Seen(True, f"read_only = 1 in {path or 'its start'}")
        return Seen(False, f"read_only = 0 in {path}" if path else "its configuration has no "
                    "read_only = 1: started again, it takes writes")

    return need(
        f"{name} starts closed, should it be restarted under the freeze", look, grave=False,
        made_by=(in_database(name), coming(name)),
        hint="[mariadbd] read_only = 1 in the configuration of both sides",
    )


def same_version(reads: Reads, one: str, other: str) -> Need:
    """Of both sides; a primary must not be newer than what follows it, on the way back either."""

    def version(name: str) -> str:
        told = str(answer(server(reads, name, "mysql"), "SELECT VERSION()").value)
        return told.split("-", maxsplit=1)[0]

    return needs_common.same_version(one, other, version, of="series", parts=2)


def follows(reads: Reads, replica: str, primary: str) -> Need:
    """Whether a replica follows that primary and no other, replays, and is not far behind."""

    def look() -> Seen:
        first = state(server(reads, primary, "mysql"))
        second = state(server(reads, replica, "mysql"))
        why = doubt(primary, first, second)
        if why is not None:
            return Seen(False, why.words)
        if not second["running"]:
            return Seen(False, f"replication does not run: {second['error']}")
        told = answer(server(reads, replica, "mysql"), "SHOW ALL SLAVES STATUS").dicts()[0]
        behind = told.get("Seconds_Behind_Master")
        if behind is None:
            return Seen(None, "it does not say how far it is behind")
        return Seen(int(behind) <= FAR_BEHIND, f"{behind} s behind")

    return need(
        f"{replica} follows {primary} closely", look, made_by=(coming(replica), coming(primary)),
        hint=f"see SHOW ALL SLAVES STATUS there, and `replication` of {primary} here",
    )
