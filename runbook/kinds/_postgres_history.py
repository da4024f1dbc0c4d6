"""Whether a standby has the history of a primary. Positions in the log say nothing of that: those
of another cluster, or of another branch of the same one, are numbers like any others."""

from __future__ import annotations

from dataclasses import dataclass

from runbook.kinds.postgres_common import END, SYSTEM, Standing, lsn
from runbook.kinds.sql_common import answer
from runbook.model.ports import DatabaseReads

LAST_RECORD = 512
"""Bytes that the record of a clean shutdown takes in the log, at most, with the headers of a page
that may begin within it. Nothing comes after it, so no standby of that server has more."""

HINT = "see primary_conninfo of the standby, and what `databases:` says of both"

_FOLLOWER = f"""\
SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()::text, {SYSTEM},
  (SELECT max(received_tli) FROM pg_stat_wal_receiver WHERE status = 'streaming')"""


@dataclass(frozen=True)
class Follower:
    """What a server that shall take over has."""

    standby: bool
    replayed: str | None
    system: str
    timeline: int | None = None
    """Of what it receives now; None: it receives nothing, or we may not see it."""


def follower(postgres: DatabaseReads) -> Follower:
    """Raises Errored where it cannot be asked."""
    return Follower(*answer(postgres, _FOLLOWER).rows[0])


def stranger(primary: str, leader: Standing, standby: str, own: Follower) -> str:
    """Why a server is no standby of that primary, in words. Empty: it is one, as far as can be
    known. Of a primary that runs, ``leader`` has to be read after ``own``: else what it has
    written since looks like a history of the standby's own."""
    if own.system != leader.system:
        return (f"{standby} is no standby of {primary}, but of another cluster (its system "
                f"identifier is {own.system}, that of {primary} {leader.system}): it has none of "
                "its data")
    if leader.role == "primary" and own.timeline not in {None, leader.timeline}:
        return (f"{standby} is no standby of {primary}: it receives timeline {own.timeline}, and "
                f"{primary} writes timeline {leader.timeline}")
    end = leader.end if leader.role == "primary" else leader.last
    room = 0 if leader.role == "primary" else LAST_RECORD
    if own.standby and end and own.replayed and lsn(own.replayed) > lsn(end) + room:
        return (f"{standby} is no standby of {primary}: it has replayed up to {own.replayed}, "
                f"beyond the end of the log of {primary} at {end}, so it has another history")
    return ""


def followed(
    primary: str, leader: DatabaseReads, stands: Standing, standby: str, server: DatabaseReads
) -> tuple[Follower, str]:
    """What a standby has, and why it is none of that primary (:func:`stranger`). Asked after
    ``stands`` was: what it has is compared with where a stopped server ended. Raises Errored."""
    own = follower(server)
    why = stranger(primary, stands, standby, own)
    if why and stands.role == "primary":
        # It may just have replayed what the primary has written since that was asked.
        now = answer(leader, f"SELECT {END}").value
        if now is not None:
            why = stranger(
                primary, Standing("primary", stands.system, stands.timeline, str(now)), standby,
                own,
            )
    return own, why
