"""The kinds ``redis.catch_up`` and ``redis.promote``."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from runbook.errors import Refused
from runbook.kinds._compare import Found, missing
from runbook.kinds._dead_mans_switch import disarm, present
from runbook.kinds._redis_machine import wait_for_replica
from runbook.kinds._redis_needs import LEADING, follows, may, same_version, way_back
from runbook.kinds._shared import CheckKind
from runbook.kinds.redis_common import (
    FROZEN,
    PERSIST,
    both,
    demand,
    demand_of,
    execute,
    frozen,
    has_all,
    lacks,
    place,
    refuse_without_file,
    role,
    strays,
)
from runbook.kinds.redis_compare import KeyWalk
from runbook.kinds.sql_common import DatabaseName, packed, run_of, server, unpacked
from runbook.model.actions import Action
from runbook.model.kind import Kind
from runbook.model.need import Need
from runbook.model.observation import Irreversible, Loss, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll

_COUNTING = 60.0
"""Seconds that keys which would be lost are counted, at most."""


class RedisCatchUp(CheckKind):
    """Wait until a replica has everything its primary has; for after `redis.freeze`.

    To the byte: whatever the primary had as it was asked, its replica has to have. And it has to
    be of this primary: where it follows another one, offsets mean nothing, and the step fails.
    """

    name: ClassVar[str] = "redis.catch_up"
    estimate: ClassVar[float] = 1.0
    poll: ClassVar[Poll | None] = Poll(every=0.05, timeout=60.0)
    output_names: ClassVar[dict[str, str]] = {"offset": "the position that was reached"}
    example: ClassVar[str] = """\
- id: caught-up
  kind: redis.catch_up
  with: {primary: east-redis, replica: west-redis}
"""

    primary: DatabaseName = Field(description="The server that is followed.")
    replica: DatabaseName = Field(description="The server that follows it.")

    def databases(self) -> tuple[str, ...]:
        return (self.primary, self.replica)

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """A replica of the same major version that is connected and not far behind."""
        return (
            same_version(reads, self.primary, self.replica),
            follows(reads, self.replica, self.primary),
        )

    def observe(self, reads: Reads) -> Observation:
        # In this order: what is under way meanwhile the replica may have, and need not.
        first = role(server(reads, self.primary, "redis"))
        second = role(server(reads, self.replica, "redis"))
        return Observation(evidence={"primary": first, "replica": second}, at=reads.now())

    def verify(self, before: Observation, after: Observation) -> Verdict:
        first, second = after.evidence["primary"], after.evidence["replica"]
        if (first["role"], second["role"]) != ("primary", "replica"):
            return Verdict(
                ok=False, retry=False,
                seen=f"{self.primary} is {first['role']}, {self.replica} is {second['role']}",
            )
        if second["offset"] < 0:
            return Verdict(ok=False, seen=f"{self.replica} is not connected to its primary")
        why = strays(first, second, self.primary)
        if why:
            return Verdict(ok=False, retry=False, seen=f"{self.replica} lacks everything: {why}")
        behind = lacks(first, second)
        if behind:
            return Verdict(ok=False, seen=f"{self.replica} lacks {behind} bytes")
        return Verdict(
            ok=True, seen=f"{self.replica} has everything up to {first['offset']}",
            outputs={"offset": first["offset"]},
        )


class RedisPromote(Kind):
    """Make a replica the primary.

    Only while the old primary refuses writes (`redis.freeze`) and the replica, which has to be one
    of this primary, has all it has, to the byte. Where the old primary does not answer, nobody can
    tell that, and nothing is promoted. The dead man's switch of the freeze is taken away first;
    where it has fired, writes came back, and nothing is promoted.

    Undone without losing a write that the new primary has taken since: it is frozen, the old one
    follows it until it has everything, becomes the primary again, and the new one follows it.

    What the old one has taken on its own since is lost by that. Those keys are counted and shown
    before anything is undone, and the way back waits until `--accept-loss` names this step.
    """

    name: ClassVar[str] = "redis.promote"
    may_lose: ClassVar[bool] = True
    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
    estimate: ClassVar[float] = 0.5
    estimate_undo: ClassVar[float | None] = 5.0
    poll: ClassVar[Poll | None] = Poll(every=0.05, timeout=30.0)
    example: ClassVar[str] = """\
- id: promote
  kind: redis.promote
  with: {database: west-redis, old: east-redis}
"""

    database: DatabaseName = Field(description="The replica that shall be the primary.")
    old: DatabaseName = Field(description="The primary so far; frozen by now.")
    persist: bool = Field(default=False, description=PERSIST)

    def databases(self) -> tuple[str, ...]:
        return (self.database, self.old)

    def observe(self, reads: Reads) -> Observation:
        new = server(reads, self.database, "redis")
        old = server(reads, self.old, "redis")
        if self.persist:
            refuse_without_file(new)
            refuse_without_file(old)
        # Whether it is frozen first: what it has by then is all that it will have.
        demanded = demand_of(old)
        other, one = both(old, new)
        evidence: dict[str, Any] = {
            "database": packed(new.database), "old": packed(old.database),
            "demand": demand_of(new), "old_demand": demanded, "replica": one,
            "primary": other, "run": run_of(reads),
            "switch": one["role"] == "replica" and present(reads, old.database, run_of(reads)),
        }
        return Observation(state={"role": one["role"]}, evidence=evidence, at=reads.now())

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The right to `REPLICAOF`, as `ACL DRYRUN` tells; a replica of the same major version
        that is connected to this primary and not far behind; and, which is a warning, what the
        way back asks both servers by, on the old one's machine."""
        if seen is not None and seen.state["role"] == "primary":
            return ()
        return (
            may(reads, self.database, "promote it", LEADING, persist=self.persist),
            same_version(reads, self.database, self.old),
            follows(reads, self.database, self.old),
            way_back(reads, self.database, self.old),
        )

    def would_change(self, reads: Reads, seen: Observation) -> tuple[str, ...]:
        return (f"{self.database}: {seen.state['role']} → primary",)

    def plan(self, before: Observation) -> Planned:
        if before.state["role"] == "primary":
            return Planned(reason=f"already done: {self.database} is the primary")
        seen = before.evidence
        primary, replica = seen["primary"], seen["replica"]
        if primary["role"] != "primary":
            raise Refused(f"{self.old} is a replica of {primary['of']}: it is no primary that "
                          f"{self.database} could take the place of")
        if not frozen(seen["old_demand"]):
            raise Refused(
                f"{self.old} takes writes: they would be lost", hint="freeze it, with redis.freeze"
            )
        if replica["offset"] < 0:
            raise Refused(
                f"{self.database} is not connected to its primary {replica['of']}, and lacks an "
                f"unknown number of bytes of {self.old}: acknowledged writes would be lost",
                hint="see INFO replication there; let it catch up first, with redis.catch_up",
            )
        why = strays(primary, replica, self.old)
        if why:
            raise Refused(
                f"{self.database} is no replica of {self.old}: {why}. Acknowledged writes would "
                "be lost",
                hint=f"let it follow {self.old} first, or name its own primary as `old`",
            )
        behind = lacks(primary, replica)
        if behind:
            raise Refused(
                f"{self.database} lacks {behind} bytes of {self.old}: acknowledged writes would be "
                "lost",
                hint="let it catch up first, with redis.catch_up",
            )
        promote = execute(self.database, "REPLICAOF NO ONE", persist=self.persist)
        if not seen["switch"]:
            return Planned(actions=(promote,))
        return Planned(actions=(disarm(unpacked(seen["old"]), seen["run"]), promote))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        seen = after.state["role"]
        return Verdict(ok=seen == "primary", seen=f"{self.database} is a {seen}")

    def loss(self, before: Observation, reads: Reads) -> Loss | None:
        new, old = (reads.database(name) for name in (self.database, self.old))
        if before.state.get("role") != "replica" or role(new)["role"] != "primary":
            return None
        if role(old)["role"] != "primary" or has_all(new, old):
            return None
        walk = KeyWalk(old, new, Found(), exclude=(), size=500, one_sided=True)
        end = reads.now() + _COUNTING
        lost = missing(walk, self.old, self.database, lambda: reads.now() < end)
        if not lost.rows and lost.exact:
            return None
        return Loss(
            what=f"{self.old} has taken writes since {self.database} was promoted; going back "
            f"discards what {self.database} lacks of them: {lost.rows} {lost.words}",
            rows=lost.rows,
        )

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        if before.state.get("role") != "replica":
            return ()
        new, old = (unpacked(before.evidence[key]) for key in ("database", "old"))
        if new.replication is None or old.replication is None:
            return Irreversible(
                why="`replication` of both databases has to be known to follow each other"
            )
        return (
            demand(new.name, FROZEN),
            execute(old.name, f"REPLICAOF {place(new)}"),
            wait_for_replica(new, old),
            execute(old.name, "REPLICAOF NO ONE", persist=self.persist),
            execute(new.name, f"REPLICAOF {place(old)}"),
            demand(new.name, before.evidence["demand"], persist=self.persist),
        )
