"""The kinds ``mysql.freeze`` and ``mysql.thaw``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from runbook.errors import Refused
from runbook.kinds._dead_mans_switch import Leased
from runbook.kinds._mysql_events import bound
from runbook.kinds._mysql_needs import FREEZING, may, stays_frozen
from runbook.kinds.mysql_common import FREEZE, OPEN, execute, on_machine, state
from runbook.kinds.needs_common import writes_turn
from runbook.kinds.sql_common import DatabaseName, server, unpacked
from runbook.model.actions import Action
from runbook.model.kind import Kind
from runbook.model.need import Need
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads


class _ReadOnly(Kind):
    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
    estimate: ClassVar[float] = 0.3

    database: DatabaseName = Field(description="The server, as declared under `databases:`.")

    def databases(self) -> tuple[str, ...]:
        return (self.database,)

    def observe(self, reads: Reads) -> Observation:
        seen = state(server(reads, self.database, "mysql"))
        return Observation(
            state={"read_only": seen["read_only"]}, evidence={"role": seen["role"]},
            at=reads.now(),
        )

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The privileges RELOAD and READ_ONLY ADMIN (or SUPER)."""
        return (may(reads, self.database, "switch writes off and on", FREEZING),)

    def would_change(self, reads: Reads, seen: Observation) -> tuple[str, ...]:
        return writes_turn(self.database, refused=bool(seen.state["read_only"]))

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """Read-only or not, as it was."""
        if before.state["read_only"]:
            return (execute(self.database, *FREEZE),)
        return (execute(self.database, OPEN),)


class MysqlFreeze(_ReadOnly, Leased):
    """Let MariaDB refuse every write of ordinary users, and wait for those under way.

    `FLUSH TABLES WITH READ LOCK` waits for commits, then `read_only = 1` keeps open and new
    sessions from writing. Only users with the right READ_ONLY ADMIN get past it: give it to none
    that the application uses, nor to the definer of an event. Undone exactly.

    A server that is started again does what its configuration says: with `read_only = 1` there, on
    both sides, a primary that has lost its power comes back closed.

    With `lease` there is a dead man's switch on the server's machine: when the controller has been
    silent for that long, writes come back by themselves. `mysql.promote` takes it away before it
    promotes, so it never acts afterwards.
    """

    name: ClassVar[str] = "mysql.freeze"
    example: ClassVar[str] = """\
- id: freeze
  kind: mysql.freeze
  with: {database: east-mysql}
"""

    def observe(self, reads: Reads) -> Observation:
        seen = super().observe(reads)
        more = self.leased(reads, reads.database(self.database).database)
        return seen.model_copy(update={"evidence": seen.evidence | more})

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The privileges RELOAD and READ_ONLY ADMIN (or SUPER); with `lease`, a login for the dead
        man's switch on the server's own machine. Warnings: whether a restart would open what is
        frozen, and whether there are events that get past it."""
        return (*super().needs(reads, seen), stays_frozen(reads, self.database),
                bound(reads, self.database), *self.switch_needs(reads, seen))

    def asking(self, evidence: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        return on_machine(unpacked(evidence["database"]), "SELECT 1")

    def plan(self, before: Observation) -> Planned:
        if before.evidence.get("role") == "replica":
            raise Refused(f"{self.database} is a replica: freeze its primary")
        if before.state["read_only"]:
            return Planned(reason=f"already done: {self.database} refuses writes")
        freeze = execute(self.database, *FREEZE)
        if self.lease is None:
            return Planned(actions=(freeze,))
        thaw, env = on_machine(unpacked(before.evidence["database"]), OPEN)
        return Planned(actions=(*self.armed(before, thaw, env), freeze))

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """The switch goes first."""
        return self.unarmed(before, super().undo(before))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        ok = after.state["read_only"]
        return Verdict(ok=ok, seen=f"{self.database} {'refuses' if ok else 'takes'} writes")


class MysqlThaw(_ReadOnly):
    """Let MariaDB take writes. Undone by freezing again."""

    name: ClassVar[str] = "mysql.thaw"
    example: ClassVar[str] = """\
- id: thaw
  kind: mysql.thaw
  with: {database: west-mysql}
"""

    def plan(self, before: Observation) -> Planned:
        if not before.state["read_only"]:
            return Planned(reason=f"already done: {self.database} takes writes")
        if before.evidence.get("role") == "replica":
            raise Refused(f"{self.database} is a replica: promote it first, with mysql.promote")
        return Planned(actions=(execute(self.database, OPEN),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        ok = not after.state["read_only"]
        return Verdict(ok=ok, seen=f"{self.database} {'takes' if ok else 'refuses'} writes")
