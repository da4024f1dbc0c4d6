"""The kinds ``postgres.promote`` and ``postgres.rejoin``."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from runbook.errors import Errored, Refused
from runbook.kinds._compare import Found, Walk, missing
from runbook.kinds._postgres_back import drained, hand_over
from runbook.kinds._postgres_history import HINT, Follower, stranger
from runbook.kinds._postgres_needs import (
    follows,
    machine,
    may_promote,
    room_for_clients,
    same_version,
)
from runbook.kinds._postgres_unlogged import HINT as UNLOGGED
from runbook.kinds._postgres_unlogged import given_up, left_behind, none_is_lost
from runbook.kinds._postgres_waits import none_waits
from runbook.kinds._shared import Names
from runbook.kinds.postgres_common import (
    FREEZE,
    PATIENCE,
    back_to,
    control_file,
    follow,
    lsn,
    others,
    promote_on_machine,
    rewind,
    role,
    running,
    serving,
    standing,
    stop,
)
from runbook.kinds.postgres_compare import DIALECT
from runbook.kinds.sql_common import DatabaseName, answer, packed, server, unpacked
from runbook.model.actions import Action, ExecuteSql
from runbook.model.database import Database
from runbook.model.kind import Kind
from runbook.model.need import Need
from runbook.model.observation import Irreversible, Loss, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll

_COUNTING = 60.0
"""Seconds that rows which would be lost are counted, at most."""

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
    last record and nothing after it: a side that misses an acknowledged write is never promoted,
    nor is a standby of another cluster or of another branch of the history.

    A standby has unlogged tables without their contents. It is not promoted where the old primary
    has such a table with contents, in the database of the connection (of others nothing is seen),
    unless `lose` names it; the way back leaves them empty as well.

    Undone without losing a write that the new primary has taken since: that one refuses writes,
    and what is under way ends; the old one follows it and catches up; the new one is stopped,
    and only where the old one has its very last record it is promoted in its turn, else the new
    one is started again. Then the new one follows it again, and the old one is stopped as it was.
    That works because it was stopped cleanly; `replication` of both databases says how they
    follow each other. Writes are refused meanwhile.

    Where the old one has been written to since, on its own, it is rewound first (`pg_rewind`, which
    needs `wal_log_hints` or checksums, and rights of the `replication` user to read files): what
    it has that the new one lacks is discarded. Those rows are counted and shown before anything
    is undone, and the way back waits until `--accept-loss` names this step.
    """

    name: ClassVar[str] = "postgres.promote"
    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
    estimate: ClassVar[float] = 1.0
    estimate_undo: ClassVar[float | None] = 10.0
    may_lose: ClassVar[bool] = True
    poll: ClassVar[Poll | None] = Poll(every=0.02, timeout=60.0)
    example: ClassVar[str] = """\
- id: promote
  kind: postgres.promote
  with: {database: west, old: east}
"""

    database: DatabaseName = Field(description="The standby that shall be the primary.")
    old: DatabaseName = Field(description="The primary so far; stopped by now.")
    lose: Names = Field(
        default=(), description="Unlogged tables whose contents are given up: names or patterns, "
        "with or without the schema."
    )

    def databases(self) -> tuple[str, ...]:
        return (self.database, self.old)

    def observe(self, reads: Reads) -> Observation:
        new = server(reads, self.database, "postgres")
        old = server(reads, self.old, "postgres")
        evidence: dict[str, Any] = {
            "database": packed(new.database), "old": packed(old.database),
        }
        own: str = "stopped"
        follower: Follower | None = None
        try:
            seen = serving(new)
        except Errored:
            if running(reads, new.database):
                raise
        else:
            own = seen.role
            follower = Follower(seen.standby, seen.replayed, seen.system)
            evidence |= {
                "altered": seen.altered, "sockets": seen.sockets, "replayed": seen.replayed,
            }
        other = standing(reads, old)
        evidence["old_role"] = other.role
        if other.role == "stopped":
            evidence["last"] = other.last
            if follower is not None and follower.standby:
                evidence["stranger"] = stranger(self.old, other, self.database, follower)
                evidence["unlogged"] = left_behind(reads, new, old.database)
        if own == "primary" and other.role != "standby":
            evidence["files"] = other.files or control_file(reads, old.database)
        return Observation(state={"role": own}, evidence=evidence, at=reads.now())

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The right to promote; both sides of one major version; a standby that streams, is not
        far behind, and takes as many connections as the old side has now; no unlogged table with
        contents but those of `lose`, in the database of the connection; and, as a warning, no
        `synchronous_standby_names` that nobody answers."""
        if seen is not None and seen.state["role"] == "primary":
            return ()
        return (
            may_promote(reads, self.database),
            same_version(reads, self.database, self.old),
            follows(reads, self.database, self.old),
            room_for_clients(reads, self.database, self.old),
            none_is_lost(reads, self.database, self.old, self.lose),
            none_waits(reads, self.database),
        )

    def would_change(self, reads: Reads, seen: Observation) -> tuple[str, ...]:
        return (f"{self.database}: {seen.state['role']} → primary",)

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
        other = before.evidence["old_role"]
        if other == "primary":
            raise Refused(
                f"{self.old} still runs as primary: there would be two primaries",
                hint="fence it first, with postgres.fence",
            )
        if other == "standby":
            raise Refused(
                f"{self.old} runs as a standby: what it last acknowledged can be read only while "
                "it is stopped",
                hint="stop it cleanly, as postgres.fence left it, and resume",
            )
        if before.evidence.get("stranger"):
            raise Refused(f"{before.evidence['stranger']}. Nothing was promoted", hint=HINT)
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
        lost = given_up(before.evidence.get("unlogged", []), self.lose)
        if lost:
            raise Refused(
                f"unlogged tables have contents on {self.old}, and would be empty on "
                f"{self.database}: {', '.join(lost)}. Nothing was promoted", hint=UNLOGGED,
            )

    def verify(self, before: Observation, after: Observation) -> Verdict:
        is_now = after.state["role"]
        return Verdict(ok=is_now == "primary", seen=f"{self.database} is "
                       f"{'the' if is_now == 'primary' else 'still a'} {is_now}")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        return self._back(before, diverged=False)

    def undo_from(
        self, before: Observation, now: Observation
    ) -> tuple[Action, ...] | Irreversible:
        diverged = _diverged(before, now)
        if diverged and not now.evidence["files"]["rewindable"]:
            raise Refused(_no_rewind(self.old, self.database))
        return self._back(before, diverged=diverged)

    def loss(self, before: Observation, reads: Reads) -> Loss | None:
        now = self.observe(reads)
        if before.state.get("role") != "standby" or not _diverged(before, now):
            return None
        since = f"{self.old} has been written to since {self.database} was promoted"
        files = now.evidence["files"]
        if not files["rewindable"]:
            return Loss(what=f"{since}. {_no_rewind(self.old, self.database)}")
        discards = f"{since}; going back discards what {self.database} lacks of it"
        if now.evidence["old_role"] != "primary":
            return Loss(what=f"{discards}. It is {files['state']}, its last checkpoint at "
                        f"{files['at']}: start it to have the rows counted")
        old, new = (reads.database(name) for name in (self.old, self.database))
        walk = Walk(DIALECT, old, new, Found(), size=5000, one_sided=True)
        end = reads.now() + _COUNTING
        try:
            lost = missing(walk, self.old, self.database, lambda: reads.now() < end)
        finally:
            walk.close()
        rest = others(old)
        if not lost.rows and lost.exact and not rest:
            return None
        unseen = f"; of the databases {', '.join(rest)} nothing was counted" if rest else ""
        return Loss(what=f"{discards}: {lost.rows} rows: {lost.words}{unseen}", rows=lost.rows)

    def _rewound(self, old: Database, new: Database) -> tuple[Action, ...]:
        # Where the new one's timeline began is known to pg_rewind only after a checkpoint.
        checkpoint = ExecuteSql(
            database=self.database, statements=("CHECKPOINT",), idempotent=True,
            timeout=PATIENCE * 2.0,
        )
        return (stop(old), checkpoint, rewind(old, new))

    def _back(
        self, before: Observation, *, diverged: bool
    ) -> tuple[Action, ...] | Irreversible:
        if before.state.get("role") != "standby":
            return ()
        new, old = (unpacked(before.evidence[key]) for key in ("database", "old"))
        if new.replication is None or old.replication is None:
            return Irreversible(
                why="`replication` of both databases has to be known to follow each other"
            )
        return (
            ExecuteSql(database=self.database, statements=FREEZE, idempotent=True),
            drained(new),
            *(self._rewound(old, new) if diverged else ()),
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


def _diverged(before: Observation, now: Observation) -> bool:
    """Whether the old primary has gone on by itself since the new one was promoted."""
    if now.state["role"] != "primary" or now.evidence["old_role"] == "standby":
        return False
    if now.evidence["old_role"] == "primary":
        return True
    files = now.evidence["files"]
    stopped_then = files["state"] == "shut down" and files["at"] == before.evidence.get("last")
    return not stopped_then and "recovery" not in files["state"]


def _no_rewind(old: str, new: str) -> str:
    return (f"{old} cannot be rewound (neither wal_log_hints nor checksums are on): stop it, and "
            f"make it anew from {new} with pg_basebackup")


class PostgresRejoin(Kind):
    """Let the old primary, stopped cleanly, follow the new one.

    From then on every write of the new side is on the old side too: the shortest way back. It
    needs `replication` of the new primary. What `postgres.freeze` set stays in its settings: it
    would refuse writes even as a primary, until `postgres.thaw` with `standby: true` takes that
    away. Undone by stopping it.
    """

    name: ClassVar[str] = "postgres.rejoin"
    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
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

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The server's programs and files on its machine, or the right to its systemd unit."""
        return machine(reads, self.database)

    def plan(self, before: Observation) -> Planned:
        if before.state["follows"]:
            return Planned(reason=f"already done: {self.database} follows {self.primary}")
        if before.state["role"] == "primary":
            raise Refused(
                f"{self.database} runs as primary: it has to be stopped first",
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

    def undo_from(
        self, before: Observation, now: Observation
    ) -> tuple[Action, ...] | Irreversible:
        """One that was made a primary by others is left running: its rows are counted by the undo
        of the promotion."""
        return () if now.state["role"] == "primary" else self.undo(before)
