"""The kind ``postgres.fence``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from runbook.errors import Refused
from runbook.kinds._dead_mans_switch import disarm
from runbook.kinds.postgres_common import role, seal, shutdown_lsn, unseal
from runbook.kinds.sql_common import DatabaseName, packed, run_of, server, unpacked
from runbook.model.actions import Action
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll


class PostgresFence(Kind):
    """Stop the old primary cleanly, so that nobody can write to it any more.

    A clean stop ends every session and gives standbys that follow the last record, so that
    nothing is lost and this server can follow the new primary later without being rebuilt.
    Where it was not clean the step fails. It also fails, with nothing stopped, where the dead
    man's switch of `postgres.freeze` has fired: writes came back, and it has to be frozen anew.
    It is marked as a standby, so that it takes no writes either when its machine starts anew and
    starts it.

    Undone by starting it again, and only while the standby has not been promoted: there are never
    two primaries.
    """

    name: ClassVar[str] = "postgres.fence"
    idempotent: ClassVar[bool] = True
    estimate: ClassVar[float] = 1.0
    poll: ClassVar[Poll | None] = Poll(every=0.05, timeout=30.0)
    output_names: ClassVar[dict[str, str]] = {"lsn": "where its last record begins"}
    example: ClassVar[str] = """\
- id: fence
  kind: postgres.fence
  with: {database: east, standby: west}
"""

    database: DatabaseName = Field(description="The old primary.")
    standby: DatabaseName = Field(description="The server that shall take over.")

    def databases(self) -> tuple[str, ...]:
        return (self.database, self.standby)

    def observe(self, reads: Reads) -> Observation:
        declared = server(reads, self.database, "postgres").database
        own = role(reads, server(reads, self.database, "postgres"))
        peer = role(reads, server(reads, self.standby, "postgres"))
        last = shutdown_lsn(reads, declared) if own == "stopped" else None
        return Observation(
            # Stopped, or started since as the standby it is marked as: it takes no writes.
            state={"primary": own == "primary", "standby": peer},
            evidence={"database": packed(declared), "role": own, "lsn": last,
                      "run": run_of(reads)},
            at=reads.now(),
        )

    def plan(self, before: Observation) -> Planned:
        own = before.evidence["role"]
        if own == "stopped":
            return Planned(reason=f"already done: {self.database} is stopped")
        if own == "standby":
            raise Refused(f"{self.database} is a standby: there is nothing to fence")
        database = unpacked(before.evidence["database"])
        return Planned(actions=(disarm(database, before.evidence["run"]), seal(database)))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        if after.evidence["role"] != "stopped":
            return Verdict(ok=False, seen=f"{self.database} still runs")
        last = after.evidence["lsn"]
        if last is None:
            return Verdict(ok=False, seen=f"{self.database} is down and was not stopped cleanly")
        return Verdict(
            ok=True, seen=f"{self.database} is stopped, its last record at {last}",
            outputs={"lsn": last},
        )

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        if not before.state.get("primary"):
            return ()
        return (unseal(unpacked(before.evidence["database"])),)

    def undo_from(
        self, before: Observation, now: Observation
    ) -> tuple[Action, ...] | Irreversible:
        """Nothing is started while the other side is the primary, whatever else was accepted."""
        if now.state["standby"] == "primary" and not now.state["primary"]:
            return Irreversible(
                why=f"{self.standby} is the primary: starting {self.database} would make two"
            )
        return self.undo(before)
