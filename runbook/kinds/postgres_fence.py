"""The kind ``postgres.fence``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from runbook.errors import Refused
from runbook.kinds._dead_mans_switch import disarm
from runbook.kinds._postgres_history import HINT, followed
from runbook.kinds._postgres_needs import follows, machine
from runbook.kinds.postgres_common import lsn, may_as_root, seal, standing, unseal
from runbook.kinds.sql_common import DatabaseName, packed, run_of, server, unpacked
from runbook.model.actions import Action, RunCommand
from runbook.model.kind import Kind
from runbook.model.need import Need
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll


class PostgresFence(Kind):
    """Stop the old primary cleanly, so that nobody can write to it any more.

    A clean stop ends every session and gives standbys that follow the last record, so that
    nothing is lost and this server can follow the new primary later without being rebuilt.
    Where it was not clean the step fails. It also fails, with nothing stopped, where the other
    server is no standby of this one (another cluster, another timeline, a longer log), and where
    the dead man's switch of `postgres.freeze` has fired: writes came back, and it has to be
    frozen anew. It is marked as a standby, so that it takes no writes either when its machine
    starts anew and starts it.

    With `caught_up` it ends only when the standby has replayed that very last record, and needs
    no `postgres.catch_up` after it.

    Undone by starting it again, and only while the standby has not been promoted: there are never
    two primaries.
    """

    name: ClassVar[str] = "postgres.fence"
    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
    estimate: ClassVar[float] = 1.0
    poll: ClassVar[Poll | None] = Poll(every=0.01, timeout=60.0)
    output_names: ClassVar[dict[str, str]] = {"lsn": "where its last record begins"}
    example: ClassVar[str] = """\
- id: fence
  kind: postgres.fence
  with: {database: east, standby: west}
"""

    database: DatabaseName = Field(description="The old primary.")
    standby: DatabaseName = Field(description="The server that shall take over.")
    caught_up: bool = Field(
        default=False, description="Wait, too, until the standby has every record."
    )

    def databases(self) -> tuple[str, ...]:
        return (self.database, self.standby)

    def observe(self, reads: Reads) -> Observation:
        postgres = server(reads, self.database, "postgres")
        own = standing(reads, postgres)
        other, stranger = followed(
            self.database, postgres, own, self.standby, server(reads, self.standby, "postgres")
        )
        return Observation(
            # Stopped, or started since as the standby it is marked as: it takes no writes.
            state={
                "primary": own.role == "primary",
                "standby": "standby" if other.standby else "primary",
            },
            evidence={
                "database": packed(postgres.database), "role": own.role, "lsn": own.last,
                "run": run_of(reads), "replayed": other.replayed, "stranger": stranger,
                "as_root": may_as_root(reads, postgres.database),
            },
            at=reads.now(),
        )

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The server's programs and files on its machine, or the right to its systemd unit; a
        standby that streams and is not far behind."""
        if seen is not None and seen.evidence["role"] == "stopped":
            return ()
        return (*machine(reads, self.database), follows(reads, self.standby, self.database))

    def would_change(self, reads: Reads, seen: Observation) -> tuple[str, ...]:
        return (f"{self.database}: runs → stopped, and marked as one that takes no writes",)

    def plan(self, before: Observation) -> Planned:
        own = before.evidence["role"]
        if own == "stopped":
            return Planned(reason=f"already done: {self.database} is stopped")
        if own == "standby":
            raise Refused(f"{self.database} is a standby: there is nothing to fence")
        if before.evidence["stranger"]:
            raise Refused(f"{before.evidence['stranger']}. Nothing was stopped", hint=HINT)
        return Planned(actions=self._stop(before))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        if after.evidence["role"] != "stopped":
            return Verdict(ok=False, seen=f"{self.database} still runs")
        last = after.evidence["lsn"]
        if last is None:
            return Verdict(ok=False, seen=f"{self.database} is down and was not stopped cleanly")
        told = f"{self.database} is stopped, its last record at {last}"
        if not self.caught_up:
            return Verdict(ok=True, seen=told, outputs={"lsn": last})
        if after.evidence["stranger"]:
            return Verdict(ok=False, retry=False, seen=f"{told}; {after.evidence['stranger']}")
        replayed = after.evidence["replayed"]
        # A record is named by where it begins: it is replayed once that is passed.
        if replayed is None or lsn(replayed) <= lsn(last):
            return Verdict(ok=False, seen=f"{told}; {self.standby} has replayed up to {replayed}")
        return Verdict(
            ok=True, seen=f"{told}; {self.standby} has it", outputs={"lsn": last}
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

    def _stop(self, before: Observation) -> tuple[RunCommand, ...]:
        """The dead man's switch goes, and only then the server: in one command, where one user
        may do both."""
        database, as_root = unpacked(before.evidence["database"]), before.evidence["as_root"]
        first = disarm(database, before.evidence["run"], as_root=as_root)
        then = seal(database, as_root=as_root)
        if first.run_as != then.run_as:
            return first, then
        script = f"(\n{first.script}) || exit\n{then.script}"
        return (then.model_copy(update={"script": script}),)
