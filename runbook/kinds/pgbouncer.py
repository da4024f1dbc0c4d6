"""The kinds ``pgbouncer.pause`` and ``pgbouncer.resume``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from runbook.kinds.needs_common import Seen, need
from runbook.kinds.sql_common import DatabaseName, answer
from runbook.model.actions import Action, ExecuteSql
from runbook.model.kind import Kind
from runbook.model.need import Need, coming, in_database
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll


class _Pool(Kind):
    """What both share."""

    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
    estimate: ClassVar[float] = 0.5
    poll: ClassVar[Poll | None] = Poll(every=0.02, timeout=10.0)

    console: DatabaseName = Field(
        description="PgBouncer's console, declared under `databases:` with `engine: pgbouncer`."
    )
    pool: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_.-]+$", description="The database, as "
                      "PgBouncer calls it.")

    def databases(self) -> tuple[str, ...]:
        return (self.console,)

    def observe(self, reads: Reads) -> Observation:
        console = reads.database(self.console)
        shown = answer(console, "SHOW DATABASES").dicts()
        found = next((row for row in shown if row["name"] == self.pool), None)
        paused = None if found is None else bool(int(found["paused"]))
        # A pause counts as one from its first moment, while transactions are still under way.
        active = sum(int(row["sv_active"]) for row in answer(console, "SHOW POOLS").dicts()
                     if row["database"] == self.pool)
        return Observation(
            state={"paused": paused}, evidence={"active": active}, at=reads.now()
        )

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """A user of the console among its `admin_users`, and a pool that pools by transaction."""
        made_by = (in_database(self.console), coming(self.console))
        return (
            need(f"{self.console} lets us pause and resume", lambda: self._admin(reads),
                 made_by=made_by, hint="name the user under admin_users of PgBouncer"),
            need(f"{self.pool} pools by transaction", lambda: self._pooling(reads),
                 made_by=made_by, hint="pool_mode = transaction: else a pause waits until every "
                 "client has gone"),
        )

    def would_change(self, reads: Reads, seen: Observation) -> tuple[str, ...]:
        paused = seen.state["paused"]
        return (f"{self.pool}: {_word(paused)} → {_word(not paused)}",)

    def _admin(self, reads: Reads) -> Seen:
        console = reads.database(self.console)
        user, admins = console.database.user, _setting(reads, self.console, "admin_users")
        if _setting(reads, self.console, "auth_type") == "any":
            return Seen(True, "auth_type is any: everybody is an admin")
        if user is None:
            return Seen(None, f"no `user` is given; admin_users: {admins}")
        names = [name.strip() for name in admins.split(",")]
        return Seen(user in names, f"admin_users: {admins}")

    def _pooling(self, reads: Reads) -> Seen:
        shown = answer(reads.database(self.console), "SHOW DATABASES").dicts()
        found = next((row for row in shown if row["name"] == self.pool), None)
        if found is None:
            return Seen(False, f"there is no {self.pool}")
        mode = str(found.get("pool_mode") or _setting(reads, self.console, "pool_mode"))
        return Seen(mode in {"transaction", "statement"}, f"pool_mode: {mode}", fact=mode)

    def _execute(self, verb: str) -> ExecuteSql:
        return ExecuteSql(
            database=self.console, statements=(f"{verb} {self.pool}",), idempotent=True
        )

    def _planned(self, before: Observation, wanted: bool) -> Planned:
        if before.state["paused"] is wanted:
            return Planned(reason=f"already done: {self.pool} is {_word(wanted)}")
        return Planned(actions=(self._execute(_VERB[wanted]),))

    def _verdict(self, after: Observation, wanted: bool) -> Verdict:
        paused = after.state["paused"]
        if paused is None:
            return Verdict(ok=False, seen=f"PgBouncer has no database {self.pool}", retry=False)
        return Verdict(ok=paused is wanted, seen=f"{self.pool} is {_word(paused)}")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """Paused or not, as it was."""
        paused = before.state.get("paused")
        return () if paused is None else (self._execute(_VERB[bool(paused)]),)


_VERB = {True: "PAUSE", False: "RESUME"}


def _setting(reads: Reads, console: str, name: str) -> str:
    shown = answer(reads.database(console), "SHOW CONFIG").dicts()
    return str(next((row["value"] for row in shown if row["key"] == name), "") or "")


def _word(paused: bool) -> str:
    return "paused" if paused else "open"


class PgbouncerPause(_Pool):
    """Hold clients of PgBouncer at a point between two transactions.

    Queries wait instead of failing, until `pgbouncer.resume`: a move inside a pause fails no write,
    as long as clients wait that long. It waits for transactions under way. The pool has to pool by
    transaction. Undone by resuming.
    """

    name: ClassVar[str] = "pgbouncer.pause"
    example: ClassVar[str] = """\
- id: hold
  kind: pgbouncer.pause
  with: {console: pool, pool: shop}
"""

    def plan(self, before: Observation) -> Planned:
        if before.state["paused"] and before.evidence["active"]:
            # Somebody's pause still waits, and who pauses again waits with it.
            return Planned(actions=(self._execute("PAUSE"),))
        return self._planned(before, True)

    def verify(self, before: Observation, after: Observation) -> Verdict:
        active = after.evidence["active"]
        if after.state["paused"] and active:
            return Verdict(ok=False, seen=f"{active} transactions in {self.pool} are under way")
        return self._verdict(after, True)


class PgbouncerResume(_Pool):
    """Let clients of PgBouncer go on. Undone by pausing them again."""

    name: ClassVar[str] = "pgbouncer.resume"
    example: ClassVar[str] = """\
- id: go-on
  kind: pgbouncer.resume
  with: {console: pool, pool: shop}
"""

    def plan(self, before: Observation) -> Planned:
        return self._planned(before, False)

    def verify(self, before: Observation, after: Observation) -> Verdict:
        return self._verdict(after, False)
