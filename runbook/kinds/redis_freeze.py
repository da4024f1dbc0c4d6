"""The kinds ``redis.freeze`` and ``redis.thaw``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from runbook.errors import Refused
from runbook.kinds._dead_mans_switch import Leased
from runbook.kinds._redis_machine import cli
from runbook.kinds._redis_needs import FREEZING, may, stays_frozen
from runbook.kinds.needs_common import writes_turn
from runbook.kinds.redis_common import (
    FROZEN,
    PERSIST,
    REWRITE,
    demand,
    demand_of,
    frozen,
    refuse_without_file,
    role,
    settings,
)
from runbook.kinds.sql_common import DatabaseName, server, unpacked
from runbook.model.actions import Action
from runbook.model.kind import Kind
from runbook.model.need import Need
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads


class _Demand(Kind):
    """What both share: the number of replicas that must be there for a write."""

    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
    estimate: ClassVar[float] = 0.2

    database: DatabaseName = Field(description="The server, as declared under `databases:`.")
    persist: bool = Field(default=False, description=PERSIST)

    def databases(self) -> tuple[str, ...]:
        return (self.database,)

    def observe(self, reads: Reads) -> Observation:
        redis = server(reads, self.database, "redis")
        if self.persist:
            refuse_without_file(redis)
        return Observation(
            state=demand_of(redis), evidence={"role": role(redis)["role"]}, at=reads.now(),
        )

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The right to `CONFIG SET`, as `ACL DRYRUN` tells."""
        return (may(reads, self.database, "switch writes off and on", FREEZING,
                    persist=self.persist),)

    def would_change(self, reads: Reads, seen: Observation) -> tuple[str, ...]:
        return writes_turn(self.database, refused=frozen(seen.state))

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """Exactly what was demanded before."""
        return (demand(self.database, before.state, persist=self.persist),)


class RedisFreeze(_Demand, Leased):
    """Let Redis refuse every write, at once, while reads go on.

    By demanding more replicas for a write (`min-replicas-to-write`) than anybody has: clients get
    `NOREPLICAS`. A `min-replicas-max-lag` of 0 would make that void, so it is set, too, to 10 s.
    Unlike `CLIENT PAUSE` it does not end by itself in the middle of a move. Undone by what both
    were before.

    A server that is started again is what its configuration file says. `persist` writes it there,
    too; the undo does the same with what was before.

    With `lease` there is a dead man's switch on the server's machine: when the controller has been
    silent for that long, writes come back by themselves. `redis.promote` takes it away before it
    promotes, so it never acts afterwards.
    """

    name: ClassVar[str] = "redis.freeze"
    example: ClassVar[str] = """\
- id: freeze
  kind: redis.freeze
  with: {database: east-redis}
"""

    def observe(self, reads: Reads) -> Observation:
        seen = super().observe(reads)
        more = self.leased(reads, reads.database(self.database).database)
        return seen.model_copy(update={"evidence": seen.evidence | more})

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The right to `CONFIG SET`, as `ACL DRYRUN` tells; `persist`, without which a restart
        opens what is frozen, which is a warning; with `lease`, a login for the dead man's switch
        on the server's own machine."""
        return (*super().needs(reads, seen), stays_frozen(self.database, persist=self.persist),
                *self.switch_needs(reads, seen))

    def asking(self, evidence: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
        command, env = cli(unpacked(evidence["database"]))
        # redis-cli ends with 0 also where the server refused.
        return f'said=$({command} PING); echo "$said"; [ "$said" = PONG ]', env

    def plan(self, before: Observation) -> Planned:
        if before.evidence.get("role") == "replica":
            raise Refused(f"{self.database} is a replica: it takes no writes anyway")
        if frozen(before.state):
            return Planned(reason=f"already done: {self.database} refuses writes")
        freeze = demand(self.database, FROZEN, persist=self.persist)
        if self.lease is None:
            return Planned(actions=(freeze,))
        command, env = cli(unpacked(before.evidence["database"]))
        back = settings(before.state)
        if self.persist:
            back += (REWRITE,)
        # redis-cli ends with 0 also where the server refused.
        thaw = " && ".join(
            f'said=$({command} {one}) && echo "$said" && [ "$said" = OK ]' for one in back)
        return Planned(actions=(*self.armed(before, thaw, env), freeze))

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """The switch goes first."""
        return self.unarmed(before, super().undo(before))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        ok = frozen(after.state)
        return Verdict(ok=ok, seen=f"{self.database} {'refuses' if ok else 'takes'} writes")


class RedisThaw(_Demand):
    """Let Redis take writes. Undone by what was demanded before.

    `min-replicas-max-lag`, within which `replicas` have to have answered, stays as it is.
    """

    name: ClassVar[str] = "redis.thaw"
    example: ClassVar[str] = """\
- id: thaw
  kind: redis.thaw
  with: {database: west-redis}
"""

    replicas: int = Field(
        default=0, ge=0, description="How many replicas have to be there for a write from now on."
    )

    def plan(self, before: Observation) -> Planned:
        if before.state["demanded"] == self.replicas:
            return Planned(reason=f"already done: {self.database} takes writes")
        wanted = {**before.state, "demanded": self.replicas}
        return Planned(actions=(demand(self.database, wanted, persist=self.persist),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        if after.evidence["role"] != "primary":
            return Verdict(ok=False, seen=f"{self.database} is a replica: it takes no writes")
        ok = after.state["demanded"] == self.replicas
        return Verdict(ok=ok, seen=f"{self.database} {'takes' if ok else 'refuses'} writes")
