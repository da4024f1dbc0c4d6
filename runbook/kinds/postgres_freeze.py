"""The kinds ``postgres.freeze`` and ``postgres.thaw``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from runbook.errors import Refused
from runbook.kinds._dead_mans_switch import Leased
from runbook.kinds._postgres_needs import may_freeze, sees_writers
from runbook.kinds._postgres_waits import hint, unanswered
from runbook.kinds.needs_common import writes_turn
from runbook.kinds.postgres_common import (
    FREEZE,
    back_to,
    psql,
    serving,
    still_writing,
    writers,
)
from runbook.kinds.sql_common import DatabaseName, server, unpacked
from runbook.model.actions import Action, ExecuteSql
from runbook.model.kind import Kind
from runbook.model.need import Need
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll


class _ReadOnlyDefault(Kind):
    """What both share: the server-wide default that new transactions are read-only."""

    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
    estimate: ClassVar[float] = 0.2
    poll: ClassVar[Poll | None] = Poll(every=0.01, timeout=10.0)

    database: DatabaseName = Field(description="The server, as declared under `databases:`.")

    def databases(self) -> tuple[str, ...]:
        return (self.database,)

    def observe(self, reads: Reads) -> Observation:
        seen = serving(server(reads, self.database, "postgres"))
        return Observation(
            state=seen.frozen, evidence={"role": seen.role, "sockets": seen.sockets},
            at=reads.now(),
        )

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The right to `ALTER SYSTEM` and to reload."""
        return (may_freeze(reads, self.database),)

    def would_change(self, reads: Reads, seen: Observation) -> tuple[str, ...]:
        return writes_turn(self.database, refused=bool(seen.state["read_only"]))

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """Exactly what ``ALTER SYSTEM`` had said before, or nothing where it had said nothing."""
        return (self._execute(back_to(before.state.get("altered"))),)

    def _execute(self, statements: tuple[str, ...]) -> ExecuteSql:
        return ExecuteSql(database=self.database, statements=statements, idempotent=True)


class PostgresFreeze(_ReadOnlyDefault, Leased):
    """Let PostgreSQL refuse new writes, in open sessions too.

    `ALTER SYSTEM SET default_transaction_read_only = on`, with a reload: sessions refuse from
    their next transaction on, while reads go on. Transactions that were under way may still
    commit: `drained: true`, or `postgres.drain` after it, waits for them. A client can override
    the default for itself; what keeps everybody out is `postgres.fence`.

    With `lease` there is a dead man's switch on the server's machine: when the controller has been
    silent for that long, writes come back by themselves. `postgres.fence` takes it away before it
    stops the server, so it never acts after a promotion.

    Undone by what `ALTER SYSTEM` had said before.
    """

    name: ClassVar[str] = "postgres.freeze"
    example: ClassVar[str] = """\
- id: freeze
  kind: postgres.freeze
  with: {database: east, lease: 60s}
"""

    drained: bool = Field(
        default=False, description="Wait, too, until no transaction that has written is under way."
    )

    def observe(self, reads: Reads) -> Observation:
        seen = super().observe(reads)
        postgres = server(reads, self.database, "postgres")
        more = self.leased(reads, postgres.database)
        if self.drained:
            more["writers"] = writers(postgres)[:20]
        return seen.model_copy(update={"evidence": seen.evidence | more})

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The right to `ALTER SYSTEM` and to reload; with `drained`, to see who writes; with
        `lease`, a login for the dead man's switch on the server's own machine."""
        more = (sees_writers(reads, self.database),) if self.drained else ()
        return (*super().needs(reads, seen), *more, *self.switch_needs(reads, seen))

    def asking(self, evidence: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        return psql(unpacked(evidence["database"]), evidence["sockets"], "SELECT 1"), {}

    def plan(self, before: Observation) -> Planned:
        if before.evidence.get("role") == "standby":
            raise Refused(f"{self.database} is a standby: it takes no writes anyway")
        if before.state["read_only"]:
            return Planned(reason=f"already done: {self.database} refuses writes")
        freeze = self._execute(FREEZE)
        if self.lease is None:
            return Planned(actions=(freeze,))
        database = unpacked(before.evidence["database"])
        thaw = psql(database, before.evidence["sockets"], *back_to(before.state["altered"]))
        return Planned(actions=(*self.armed(before, thaw), freeze))

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """The switch goes first, then what ``ALTER SYSTEM`` had said before."""
        return self.unarmed(before, super().undo(before))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        ok = bool(after.state.get("read_only"))
        told = f"{self.database} {'refuses' if ok else 'still takes'} new writes"
        busy = after.evidence.get("writers", [])
        if ok and busy:
            return Verdict(ok=False, seen=f"{told}; {still_writing(self.database, busy)}")
        if ok and self.drained:
            told += ", and none is under way"
        return Verdict(ok=ok, seen=told)


class PostgresThaw(_ReadOnlyDefault):
    """Let PostgreSQL take writes again.

    Takes back what `postgres.freeze` set, also on a new side whose files were copied from a
    frozen one. It fails while commits would wait for standbys that do not follow
    (`synchronous_standby_names`). Undone by freezing again.

    With `standby: true` it is for the old side, which follows the new one by then
    (`postgres.rejoin`): so that it takes writes in an emergency, when it is promoted by hand.
    """

    name: ClassVar[str] = "postgres.thaw"
    example: ClassVar[str] = """\
- id: thaw
  kind: postgres.thaw
  with: {database: west}
"""

    standby: bool = Field(
        default=False, description="It is a standby: what the freeze left there is taken away."
    )

    def observe(self, reads: Reads) -> Observation:
        seen = super().observe(reads)
        if seen.evidence["role"] != "primary":
            return seen
        waits = unanswered(server(reads, self.database, "postgres"))
        return seen.model_copy(update={"evidence": {**seen.evidence, "waits": waits}})

    def plan(self, before: Observation) -> Planned:
        if not before.state["read_only"] and before.state["altered"] != "on":
            return Planned(reason=f"already done: {self.database} takes writes")
        return Planned(actions=(self._execute(back_to(None)),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        role = after.evidence.get("role")
        if self.standby and role != "standby":
            return Verdict(ok=False, seen=f"{self.database} is no standby")
        if not self.standby and role != "primary":
            return Verdict(ok=False, seen=f"{self.database} is no primary: it takes no writes")
        ok = not after.state.get("read_only")
        if self.standby:
            return Verdict(ok=ok, seen=f"{self.database} would {'take' if ok else 'refuse'} writes "
                           "if it became the primary")
        if ok and after.evidence["waits"]:
            return Verdict(ok=False, seen=f"{self.database} refuses no writes, but "
                           f"{after.evidence['waits']}: {hint(self.database)}")
        return Verdict(
            ok=ok, seen=f"{self.database} {'takes' if ok else 'still refuses'} writes"
        )
