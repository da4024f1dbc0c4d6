"""MariaDB's events in a move: a replica has them switched off, and they stay off when it becomes
the primary; and those that run with high rights write to a server that refuses writes."""

from __future__ import annotations

from collections.abc import Sequence

from runbook.kinds._mysql_grants import granted
from runbook.kinds.needs_common import Seen, need
from runbook.kinds.sql_common import answer, server
from runbook.model.need import Need, coming, in_database
from runbook.model.ports import DatabaseReads, Reads

_EVENTS = """\
SELECT CONCAT(EVENT_SCHEMA, '.', EVENT_NAME), DEFINER FROM information_schema.EVENTS
WHERE STATUS = '{}' ORDER BY 1"""
_FREE = """\
SELECT GRANTEE FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE IN
('READ_ONLY ADMIN', 'READ ONLY ADMIN'{})"""
_BLIND = "our user lacks EVENT on *.*, and sees none that it may not see"


def asleep(mysql: DatabaseReads) -> tuple[str, ...]:
    """Events that are off because they came from a primary, as far as our user sees them. Raises
    Errored."""
    rows = answer(mysql, _EVENTS.format("SLAVESIDE_DISABLED")).rows
    return tuple(str(name) for name, _ in rows)


def stay_off(names: Sequence[str]) -> str:
    return f"{', '.join(names)} stay off until somebody says ALTER EVENT … ENABLE"


def wake_up(reads: Reads, name: str, old: str) -> Need:
    """Whether all that runs by the clock on the old side does so on the new one, too."""

    def look() -> Seen:
        mysql = server(reads, name, "mysql")
        off = asleep(mysql)
        if off:
            return Seen(False, stay_off(off))
        return Seen(True, "there are none") if _sees_all(mysql) else Seen(None, _BLIND)

    return need(
        f"no event of {old} is off on {name}, once that is the primary", look, grave=False,
        made_by=(in_database(name), coming(name)),
        hint="ALTER EVENT … ENABLE for each, in a step of its own after mysql.thaw",
    )


def bound(reads: Reads, name: str) -> Need:
    """Whether a freeze holds for what runs by the clock."""

    def look() -> Seen:
        mysql = server(reads, name, "mysql")
        if answer(mysql, "SELECT @@GLOBAL.event_scheduler").value != "ON":
            return Seen(True, "the event scheduler is off")
        events = answer(mysql, _EVENTS.format("ENABLED")).rows
        if not events:
            return Seen(True, "there are none") if _sees_all(mysql) else Seen(None, _BLIND)
        free = _free(mysql)
        past = [f"{event} (as {who})" for event, who in events if _grantee(str(who)) in free]
        if past:
            return Seen(False, f"these write all the same: {', '.join(past)}")
        if not granted(mysql, "SELECT").everywhere:
            return Seen(None, "our user lacks SELECT on *.*, and does not see whose rights "
                        "events have")
        names = ", ".join(str(event) for event, _ in events)
        return Seen(True, f"none has READ_ONLY ADMIN: {names}")

    return need(
        f"the events of {name} are bound by its freeze", look, grave=False,
        made_by=(in_database(name), coming(name)),
        hint="give them a DEFINER without READ_ONLY ADMIN (and SUPER), or let a step before the "
        "freeze say ALTER EVENT … DISABLE",
    )


def _sees_all(mysql: DatabaseReads) -> bool:
    return granted(mysql, "EVENT").everywhere


def _free(mysql: DatabaseReads) -> set[str]:
    """Who gets past ``read_only``: until MariaDB 10.11 that was a part of SUPER."""
    told = str(answer(mysql, "SELECT VERSION()").value)
    major, minor = (int(part) for part in told.split(".")[:2])
    more = ", 'SUPER'" if (major, minor) < (10, 11) else ""
    return {str(who) for (who,) in answer(mysql, _FREE.format(more)).rows}


def _grantee(definer: str) -> str:
    user, _, host = definer.rpartition("@")
    return f"'{user}'@'{host}'"
