"""The kinds ``postgres.drain`` and ``postgres.catch_up``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from runbook.kinds._postgres_history import followed
from runbook.kinds._postgres_needs import follows, same_version, sees_writers
from runbook.kinds._shared import CheckKind
from runbook.kinds.postgres_common import lsn, standing, still_writing, writers
from runbook.kinds.sql_common import DatabaseName, server
from runbook.model.need import Need
from runbook.model.observation import Observation, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll


class PostgresDrain(CheckKind):
    """Wait until no transaction that has written is under way any more.

    For after `postgres.freeze`: what had begun before it may still commit. Prepared transactions
    (two-phase commit) count too.
    """

    name: ClassVar[str] = "postgres.drain"
    estimate: ClassVar[float] = 0.5
    poll: ClassVar[Poll | None] = Poll(every=0.02, timeout=30.0)
    example: ClassVar[str] = """\
- id: drained
  kind: postgres.drain
  with: {database: east}
"""

    database: DatabaseName = Field(description="The server, as declared under `databases:`.")

    def databases(self) -> tuple[str, ...]:
        return (self.database,)

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The right to see who writes."""
        return (sees_writers(reads, self.database),)

    def observe(self, reads: Reads) -> Observation:
        postgres = server(reads, self.database, "postgres")
        found = writers(postgres)
        return Observation(
            state={"busy": bool(found)}, evidence={"writers": found[:20]}, at=reads.now()
        )

    def verify(self, before: Observation, after: Observation) -> Verdict:
        found = after.evidence.get("writers", [])
        if found:
            return Verdict(ok=False, seen=still_writing(self.database, found))
        return Verdict(ok=True, seen=f"nobody is writing on {self.database}")


class PostgresCatchUp(CheckKind):
    """Wait until a standby has replayed everything its primary has.

    Strictly: the standby's replayed position against the primary's flushed one, read after the
    freeze; of a primary that was stopped cleanly, against the last record it wrote, which is read
    from its files. A primary that crashed, or cannot be asked, is never caught up with, nor is one
    by a standby of another cluster or another timeline, whatever its position.
    """

    name: ClassVar[str] = "postgres.catch_up"
    estimate: ClassVar[float] = 1.0
    poll: ClassVar[Poll | None] = Poll(every=0.02, timeout=60.0)
    output_names: ClassVar[dict[str, str]] = {
        "lsn": "the primary's position that was reached",
    }
    example: ClassVar[str] = """\
- id: caught-up
  kind: postgres.catch_up
  with: {primary: east, standby: west}
"""

    primary: DatabaseName = Field(description="The server that is followed.")
    standby: DatabaseName = Field(description="The server that follows it.")

    def databases(self) -> tuple[str, ...]:
        return (self.primary, self.standby)

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """Both sides of one major version, and the standby streams and is not far behind."""
        return (
            same_version(reads, self.primary, self.standby),
            follows(reads, self.standby, self.primary),
        )

    def observe(self, reads: Reads) -> Observation:
        leader = server(reads, self.primary, "postgres")
        follower = server(reads, self.standby, "postgres")
        stands = standing(reads, leader)
        own, stranger = followed(self.primary, leader, stands, self.standby, follower)
        stopped = stands.role == "stopped"
        evidence = {
            "role": stands.role, "target": stands.last if stopped else stands.end,
            "replayed": own.replayed, "stopped": stopped, "following": own.standby,
            "stranger": stranger,
        }
        return Observation(evidence=evidence, at=reads.now())

    def verify(self, before: Observation, after: Observation) -> Verdict:
        seen = after.evidence
        if not seen["following"]:
            return Verdict(ok=False, seen=f"{self.standby} is no standby", retry=False)
        if seen["stranger"]:
            return Verdict(ok=False, seen=seen["stranger"], retry=False)
        if seen["role"] == "standby":
            return Verdict(ok=False, seen=f"{self.primary} runs as a standby", retry=False)
        if seen["target"] is None:
            return Verdict(
                ok=False, retry=False, seen=f"{self.primary} is down and was not stopped "
                "cleanly: what it last acknowledged is not known",
            )
        if seen["replayed"] is None:
            return Verdict(ok=False, seen=f"{self.standby} has replayed nothing yet")
        # A shutdown record is named by where it begins: it is replayed once that is passed.
        missing = lsn(seen["target"]) - lsn(seen["replayed"]) + (1 if seen["stopped"] else 0)
        if missing > 0:
            return Verdict(ok=False, seen=f"{self.standby} lacks {missing} bytes of the log")
        return Verdict(
            ok=True, seen=f"{self.standby} has everything up to {seen['target']}",
            outputs={"lsn": seen["target"]},
        )
