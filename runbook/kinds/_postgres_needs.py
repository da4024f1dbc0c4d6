"""What the PostgreSQL kinds rely on: rights of the role, the same version, replication."""

from __future__ import annotations

import shlex

from runbook.errors import RunbookError
from runbook.kinds import needs_common
from runbook.kinds._postgres_history import followed
from runbook.kinds._shared import tail
from runbook.kinds.files_common import size
from runbook.kinds.needs_common import Seen, need, place, units_can_be_managed
from runbook.kinds.postgres_common import READ_ONLY, lsn, may_as_root, standing
from runbook.kinds.sql_common import answer, program, server
from runbook.model.need import Need, coming, in_database
from runbook.model.ports import Reads

FAR_BEHIND = 64 * 2**20
"""Bytes of the log: a standby that lacks more takes its time to catch up under a freeze."""

_ROLE = """\
SELECT current_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
  current_setting('server_version_num')::int, {right}"""
_CLIENTS = """\
SELECT current_setting('max_connections')::int
    - current_setting('superuser_reserved_connections')::int,
  (SELECT coalesce(sum(numbackends), 0)::int FROM pg_stat_database)"""
# How the sender calls a receiver whose conninfo does not say: by cluster_name, or as that program.
_RECEIVER = """\
SELECT (SELECT count(*) FROM pg_stat_wal_receiver), status,
  coalesce(substring(conninfo FROM $$application_name='?([^' ]+)$$),
    nullif(current_setting('cluster_name'), ''), 'walreceiver'), sender_host || ':' || sender_port
FROM (SELECT) AS one LEFT JOIN pg_stat_wal_receiver ON true"""
_SENDERS = "SELECT application_name, state FROM pg_stat_replication"


def may_freeze(reads: Reads, name: str) -> Need:
    """The right to ``ALTER SYSTEM`` and to have it taken over."""

    def look() -> Seen:
        postgres = server(reads, name, "postgres")
        role, superuser, version, reload = answer(postgres, _ROLE.format(
            right="has_function_privilege('pg_reload_conf()', 'EXECUTE')")).rows[0]
        if version >= 170000 and answer(postgres, "SHOW allow_alter_system").value == "off":
            return Seen(False, "its setting allow_alter_system is off")
        alter = superuser
        if not superuser and version >= 150000:
            alter = answer(postgres, "SELECT has_parameter_privilege(current_user, "
                           f"'{READ_ONLY}', 'ALTER SYSTEM')").value
        lacking = [] if alter else [f"ALTER SYSTEM on {READ_ONLY}"]
        lacking += [] if reload else ["EXECUTE on pg_reload_conf()"]
        return Seen(not lacking, f"{role} lacks {' and '.join(lacking)}" if lacking else role)

    return need(
        f"{name} lets us switch writes off and on", look, made_by=(in_database(name), coming(name)),
        hint=f"GRANT ALTER SYSTEM ON PARAMETER {READ_ONLY} (from version 15 on) and GRANT EXECUTE "
        "ON FUNCTION pg_reload_conf() to the role, or make it a superuser",
    )


def sees_writers(reads: Reads, name: str) -> Need:
    """Without it the transactions of other roles look as if they wrote nothing."""
    return _has(
        reads, name, f"{name} shows us who writes",
        "pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')",
        hint="GRANT pg_monitor to the role: without it nobody seems to write",
    )


def may_promote(reads: Reads, name: str) -> Need:
    return _has(
        reads, name, f"{name} lets us promote it",
        "has_function_privilege('pg_promote(boolean, integer)', 'EXECUTE')",
        hint="GRANT EXECUTE ON FUNCTION pg_promote to the role",
    )


def _has(reads: Reads, name: str, what: str, right: str, *, hint: str) -> Need:
    """Whether our role is a superuser or has a right, which is an expression of SQL."""

    def look() -> Seen:
        role, superuser, _, has = answer(
            server(reads, name, "postgres"), _ROLE.format(right=right)
        ).rows[0]
        return Seen(bool(superuser or has), str(role))

    return need(what, look, made_by=(in_database(name), coming(name)), hint=hint)


def same_version(reads: Reads, one: str, other: str) -> Need:
    """Of both sides; what follows the log of another has to be of its major version."""

    def version(name: str) -> str:
        told = str(answer(server(reads, name, "postgres"), "SHOW server_version").value)
        return told.split(maxsplit=1)[0]

    return needs_common.same_version(one, other, version, of="major version")


def follows(reads: Reads, standby: str, primary: str) -> Need:
    """Whether a standby streams from that primary, and is not far behind."""

    def look() -> Seen:
        leader, other = (server(reads, name, "postgres") for name in (primary, standby))
        stands = standing(reads, leader)
        if stands.role != "primary":
            why = "is a standby itself" if stands.role == "standby" else "is stopped"
            return Seen(None, f"{primary} {why}")
        own, why = followed(primary, leader, stands, standby, other)
        if not own.standby:
            return Seen(False, f"{standby} is a primary, too")
        if why:
            return Seen(False, why)
        receivers, status, name, sender = answer(other, _RECEIVER).rows[0]
        if not receivers or status not in {None, "streaming"}:
            return Seen(False, f"nothing streams to it ({status or 'no receiver runs'})")
        sends = answer(leader, _SENDERS).rows
        if not sends:
            return Seen(False, f"it receives from {sender or 'another'}, nobody from {primary}")
        seen = {told for told, state in sends if state is not None}
        if status and seen and name not in seen:
            return Seen(None, f"it receives from {sender}; {primary} sends to "
                        f"{', '.join(sorted(seen))}, and to no {name}")
        behind = max(0, lsn(str(stands.end)) - lsn(own.replayed)) if own.replayed else None
        told = f"streaming, {'an unknown number of bytes' if behind is None else size(behind)} " \
               "behind"
        return Seen(behind is not None and behind <= FAR_BEHIND, told)

    return need(
        f"{standby} follows {primary} closely", look, made_by=(coming(standby), coming(primary)),
        hint="see pg_stat_replication of the one and the log of the other",
    )


def room_for_clients(reads: Reads, new: str, old: str) -> Need:
    """Whether the new side takes as many connections as the old one has."""

    def look() -> Seen:
        most, _ = answer(server(reads, new, "postgres"), _CLIENTS).rows[0]
        _, used = answer(server(reads, old, "postgres"), _CLIENTS).rows[0]
        return Seen(most >= used, f"{new} takes {most}, {old} has {used} now")

    return need(
        f"{new} takes the connections of {old}", look, made_by=(coming(new), coming(old)),
        hint=f"raise max_connections of {new}",
    )


def machine(reads: Reads, name: str) -> tuple[Need, ...]:
    """What stopping and starting a server on its own machine takes."""
    try:
        database = server(reads, name, "postgres").database
        here = reads.on(database.host)
    except RunbookError as fault:
        return (Need(what=f"the machine of {name} can be asked", ok=None, seen=fault.message),)
    if database.service is not None:
        return (units_can_be_managed(here),)

    def look() -> Seen:
        if database.data_directory is None:
            return Seen(False, "neither its `data_directory` nor its `service` is given")
        directory = shlex.quote(database.data_directory)
        done = here.query(
            f"[ -f {directory}/PG_VERSION ] && {program(database, 'pg_controldata')} --version && "
            f"command -v {program(database, 'pg_ctl')}",
            run_as=None if may_as_root(reads, database) else database.run_as,
        )
        if done.exit_code != 0:
            return Seen(False, tail(done.stderr) or f"no data folder at {directory}, or no pg_ctl")
        return Seen(True, tail(done.stdout))

    return (need(
        f"the server of {name} can be stopped and started", look,
        made_by=(*place(here), coming(name)),
        hint="`data_directory`, `bin_directory` and `run_as` of the database say where it is",
    ),)
