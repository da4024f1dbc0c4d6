"""The kind ``redis.rejoin``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from runbook.errors import Refused
from runbook.kinds._redis_needs import FREEZING, LEADING, may
from runbook.kinds.redis_common import (
    PERSIST,
    demand,
    demand_of,
    execute,
    frozen,
    place,
    refuse_without_file,
    role,
    settings,
    strays,
)
from runbook.kinds.sql_common import DatabaseName, server
from runbook.model.actions import Action
from runbook.model.kind import Kind
from runbook.model.need import Need
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll


class RedisRejoin(Kind):
    """Let the old primary follow the new one. From then on it refuses writes by itself.

    So what `redis.freeze` demanded there goes: it would lie dormant, and the day this server has to
    take over again, in an emergency, it would refuse every write. It then demands no replica
    (`min-replicas-to-write 0`). Where your servers demand some, set it there again.

    On the way back only the freeze is put back: the undo of `redis.promote` turns both around.
    """

    name: ClassVar[str] = "redis.rejoin"
    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
    estimate: ClassVar[float] = 2.0
    poll: ClassVar[Poll | None] = Poll(every=0.1, timeout=60.0)
    example: ClassVar[str] = """\
- id: rejoin
  kind: redis.rejoin
  with: {database: east-redis, primary: west-redis}
"""

    database: DatabaseName = Field(description="The server that shall follow.")
    primary: DatabaseName = Field(description="The server that it shall follow.")
    persist: bool = Field(default=False, description=PERSIST)

    def databases(self) -> tuple[str, ...]:
        return (self.database, self.primary)

    def observe(self, reads: Reads) -> Observation:
        follower = server(reads, self.database, "redis")
        if self.persist:
            refuse_without_file(follower)
        leader = server(reads, self.primary, "redis")
        # Whom it follows is no state of this step: on the way back that is redis.promote's.
        return Observation(
            state=demand_of(follower), at=reads.now(),
            evidence={"place": place(leader.database), "own": role(follower),
                      "leader": role(leader)},
        )

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The rights to `REPLICAOF` and `CONFIG SET`, as `ACL DRYRUN` tells."""
        return (may(reads, self.database, "make it follow another", LEADING + FREEZING,
                    persist=self.persist),)

    def plan(self, before: Observation) -> Planned:
        seen = before.evidence
        follows = seen["own"]["of"] == seen["place"]
        if follows and not frozen(before.state):
            return Planned(reason=f"already done: {self.database} follows {self.primary}")
        if seen["leader"]["role"] != "primary":
            raise Refused(f"{self.primary} is no primary: {self.database} would lose its data")
        commands: tuple[str, ...] = () if follows else (f"REPLICAOF {seen['place']}",)
        if frozen(before.state):
            commands += settings({**before.state, "demanded": 0})
        return Planned(actions=(execute(self.database, *commands, persist=self.persist),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        own, leader = after.evidence["own"], after.evidence["leader"]
        if own["of"] != after.evidence["place"] or own["offset"] < 0:
            return Verdict(ok=False, seen=f"{self.database} does not follow {self.primary}")
        why = strays(leader, own, self.primary)
        if why:
            return Verdict(ok=False, seen=f"{self.database} does not follow {self.primary}: {why}")
        if frozen(after.state):
            return Verdict(ok=False, seen=f"{self.database} follows {self.primary}, and would "
                           "refuse every write as its successor")
        return Verdict(ok=True, seen=f"{self.database} follows {self.primary}")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        if not frozen(before.state):
            return ()
        return (demand(self.database, before.state, persist=self.persist),)
