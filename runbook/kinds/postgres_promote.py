"""The kinds ``postgres.promote`` and ``postgres.rejoin``."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from runbook.errors import Refused
from runbook.kinds.postgres_common import (
    FREEZE,
    PATIENCE,
    back_to,
    follow,
    frozen,
    hand_over,
    lsn,
    promote_on_machine,
    role,
    shutdown_lsn,
    stop,
)
from runbook.kinds.sql_common import DatabaseName, answer, packed, server, unpacked
from runbook.model.actions import Action, ExecuteSql
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll

# A promotion that was asked for shows only once it is done, so it must not be left alone before:
# a rollback would find a standby, as before, that becomes a primary a moment later. The server's
# own waiting looks every 100 ms; writes are refused meanwhile.
_PROMOTED = f"""\
DO $$ BEGIN
  FOR i IN 1 .. {PATIENCE * 200} LOOP
    IF NOT pg_is_in_recovery() THEN RETURN; END IF;
    PERFORM pg_sleep(0.005);
  END LOOP;
  RAISE EXCEPTION 'still in recovery after {PATIENCE} s';
END $$"""


class PostgresPromote(Kind):
    """Make a standby the primary.

    Only while the old primary is stopped (`postgres.fence`) and the standby has replayed its very
    last record: a side that misses an acknowledged write is never promoted.

    Undone without losing a write that the new primary has taken since: the old one follows it,
    catches up while writes are refused, is promoted in its turn, the new one follows it again,
    and the old one is stopped as it was. That works because it was stopped cleanly; `replication`
    of both databases says how they follow each other. Writes are refused meanwhile.
    """

    name: ClassVar[str] = "postgres.promote"
    idempotent: ClassVar[bool] = True
    estimate: ClassVar[float] = 1.0
    estimate_undo: ClassVar[float | None] = 10.0
    poll: ClassVar[Poll | None] = Poll(every=0.02, timeout=60.0)
    example: ClassVar[str] = """\
- id: promote
  kind: postgres.promote
  with: {database: west, old: east}
"""

    database: DatabaseName = Field(description="The standby that shall be the primary.")
    old: DatabaseName = Field(description="The primary so far; stopped by now.")

    def databases(self) -> tuple[str, ...]:
        return (self.database, self.old)

    def observe(self, reads: Reads) -> Observation:
        new = server(reads, self.database, "postgres")
        old = server(reads, self.old, "postgres")
        evidence: dict[str, Any] = {
            "database": packed(new.database), "old": packed(old.database),
        }
        roles = {"role": role(reads, new), "old": role(reads, old)}
        if roles["role"] != "stopped":
            evidence["altered"] = frozen(new)["altered"]
            evidence["sockets"], evidence["replayed"] = answer(
                new, "SELECT split_part(current_setting('unix_socket_directories'), ',', 1), "
                "pg_last_wal_replay_lsn()"
            ).rows[0]
        if roles["old"] == "stopped":
            evidence["last"] = shutdown_lsn(reads, old.database)
        return Observation(state=roles, evidence=evidence, at=reads.now())

    def plan(self, before: Observation) -> Planned:
        if before.state["role"] == "primary":
            return Planned(reason=f"already done: {self.database} is the primary")
        self._check(before)
        return Planned(actions=(ExecuteSql(
            database=self.database, idempotent=True, timeout=PATIENCE + 10.0,
            statements=("SELECT pg_promote(false) WHERE pg_is_in_recovery()", _PROMOTED),
        ),))

    def _check(self, before: Observation) -> None:
        """Raises Refused where promoting could lose a write, or make a second primary."""
        if before.state["old"] != "stopped":
            raise Refused(
                f"{self.old} still runs as {before.state['old']}: there would be two primaries",
                hint="fence it first, with postgres.fence",
            )
        last, replayed = before.evidence.get("last"), before.evidence.get("replayed")
        if last is None:
            raise Refused(
                f"{self.old} was not stopped cleanly: what it last acknowledged is not known, and "
                f"{self.database} may miss writes",
                hint=f"start {self.old} again and fence it, or promote by hand and accept the loss",
            )
        if replayed is None or lsn(replayed) <= lsn(last):
            raise Refused(
                f"{self.database} has replayed up to {replayed}, and {self.old} has written up to "
                f"{last}: acknowledged writes would be lost",
                hint="let it catch up first, with postgres.catch_up",
            )

    def verify(self, before: Observation, after: Observation) -> Verdict:
        is_now = after.state["role"]
        return Verdict(ok=is_now == "primary", seen=f"{self.database} is "
                       f"{'the' if is_now == 'primary' else 'still a'} {is_now}")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        if before.state.get("role") != "standby":
            return ()
        new, old = (unpacked(before.evidence[key]) for key in ("database", "old"))
        if new.replication is None or old.replication is None:
            return Irreversible(
                why="`replication` of both databases has to be known to follow each other"
            )
        return (
            ExecuteSql(database=self.database, statements=FREEZE, idempotent=True),
            follow(old, new),
            hand_over(new, old, before.evidence["sockets"]),
            promote_on_machine(old),
            follow(new, old),
            stop(old),
            ExecuteSql(
                database=self.database, idempotent=True,
                statements=back_to(before.evidence.get("altered")),
            ),
        )


class PostgresRejoin(Kind):
    """Let the old primary, stopped cleanly, follow the new one.

    From then on every write of the new side is on the old side too: the shortest way back. It
    needs `replication` of the new primary. Undone by stopping it.
    """

    name: ClassVar[str] = "postgres.rejoin"
    idempotent: ClassVar[bool] = True
    estimate: ClassVar[float] = 2.0
    poll: ClassVar[Poll | None] = Poll(every=0.1, timeout=60.0)
    example: ClassVar[str] = """\
- id: rejoin
  kind: postgres.rejoin
  with: {database: east, primary: west}
"""

    database: DatabaseName = Field(description="The server that shall follow.")
    primary: DatabaseName = Field(description="The server that it shall follow.")

    def databases(self) -> tuple[str, ...]:
        return (self.database, self.primary)

    def observe(self, reads: Reads) -> Observation:
        own = server(reads, self.database, "postgres")
        leader = server(reads, self.primary, "postgres")
        streaming = answer(
            leader, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND "
            f"application_name = '{self.database}'"
        ).value
        return Observation(
            state={"role": role(reads, own), "follows": bool(streaming)},
            evidence={"database": packed(own.database), "primary": packed(leader.database)},
            at=reads.now(),
        )

    def plan(self, before: Observation) -> Planned:
        if before.state["follows"]:
            return Planned(reason=f"already done: {self.database} follows {self.primary}")
        if before.state["role"] != "stopped":
            raise Refused(
                f"{self.database} runs as {before.state['role']}: it has to be stopped first",
                hint="fence it, with postgres.fence",
            )
        own, leader = (unpacked(before.evidence[key]) for key in ("database", "primary"))
        return Planned(actions=(follow(own, leader),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        ok = after.state["follows"] and after.state["role"] == "standby"
        return Verdict(ok=ok, seen=f"{self.database} {'follows' if ok else 'does not follow'} "
                       f"{self.primary}")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """It is stopped again. That it would follow stays written in its files."""
        if before.state.get("role") != "stopped":
            return ()
        return (stop(unpacked(before.evidence["database"])),)
