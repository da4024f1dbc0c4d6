"""The kinds ``redis.catch_up``, ``redis.promote`` and ``redis.rejoin``."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from runbook.errors import Refused
from runbook.kinds._compare import Found, missing
from runbook.kinds._dead_mans_switch import disarm, present
from runbook.kinds._redis_needs import LEADING, follows, may, same_version
from runbook.kinds._shared import CheckKind
from runbook.kinds.redis_common import (
    NOBODY,
    PERSIST,
    demand,
    demanded,
    execute,
    has_all,
    lacks,
    place,
    refuse_without_file,
    role,
    wait_for_replica,
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
    """Wait until a replica has everything its primary has; for after `redis.freeze`."""

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
        behind = lacks(first["offset"], second["offset"])
        if behind:
            return Verdict(ok=False, seen=f"{self.replica} lacks {behind} bytes")
        return Verdict(
            ok=True, seen=f"{self.replica} has everything up to {first['offset']}",
            outputs={"offset": first["offset"]},
        )


class RedisPromote(Kind):
    """Make a replica the primary.

    Only while the old primary refuses writes (`redis.freeze`) and the replica has all it has. The
    dead man's switch of the freeze is taken away first; where it has fired, writes came back, and
    nothing is promoted.

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
        one, other = role(new), role(old)
        evidence: dict[str, Any] = {
            "database": packed(new.database), "old": packed(old.database),
            "demanded": demanded(new), "old_demanded": demanded(old), "offset": one["offset"],
            "old_offset": other["offset"], "old_role": other["role"], "run": run_of(reads),
            "switch": one["role"] == "replica" and present(reads, old.database, run_of(reads)),
        }
        return Observation(state={"role": one["role"]}, evidence=evidence, at=reads.now())

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The right to `REPLICAOF`, as `ACL DRYRUN` tells; a replica of the same major version
        that is connected and not far behind."""
        if seen is not None and seen.state["role"] == "primary":
            return ()
        return (
            may(reads, self.database, "promote it", LEADING, persist=self.persist),
            same_version(reads, self.database, self.old),
            follows(reads, self.database, self.old),
        )

    def would_change(self, reads: Reads, seen: Observation) -> tuple[str, ...]:
        return (f"{self.database}: {seen.state['role']} → primary",)

    def plan(self, before: Observation) -> Planned:
        if before.state["role"] == "primary":
            return Planned(reason=f"already done: {self.database} is the primary")
        seen = before.evidence
        if seen["old_role"] != "primary" or seen["old_demanded"] < NOBODY:
            raise Refused(
                f"{self.old} takes writes: they would be lost", hint="freeze it, with redis.freeze"
            )
        behind = lacks(seen["old_offset"], seen["offset"])
        if seen["offset"] < 0 or behind:
            raise Refused(
                f"{self.database} lacks {behind or 'an unknown number of'} bytes of {self.old}: "
                "acknowledged writes would be lost",
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
            demand(new.name, NOBODY),
            execute(old.name, f"REPLICAOF {place(new)}"),
            wait_for_replica(new, old),
            execute(old.name, "REPLICAOF NO ONE", persist=self.persist),
            execute(new.name, f"REPLICAOF {place(old)}"),
            demand(new.name, before.evidence["demanded"], persist=self.persist),
        )


class RedisRejoin(Kind):
    """Let the old primary follow the new one. From then on it refuses writes by itself.

    On the way back nothing is done here: the undo of `redis.promote` turns both around.
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
        own = role(follower)
        leader = server(reads, self.primary, "redis")
        return Observation(
            state={"of": own["of"]}, at=reads.now(),
            evidence={"place": place(leader.database), "linked": own["offset"] >= 0,
                      "leader": role(leader)["role"]},
        )

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The right to `REPLICAOF`, as `ACL DRYRUN` tells."""
        return (may(reads, self.database, "make it follow another", LEADING,
                    persist=self.persist),)

    def plan(self, before: Observation) -> Planned:
        if before.state["of"] == before.evidence["place"]:
            return Planned(reason=f"already done: {self.database} follows {self.primary}")
        if before.evidence["leader"] != "primary":
            raise Refused(f"{self.primary} is no primary: {self.database} would lose its data")
        return Planned(
            actions=(execute(self.database, f"REPLICAOF {before.evidence['place']}",
                             persist=self.persist),)
        )

    def verify(self, before: Observation, after: Observation) -> Verdict:
        ok = after.state["of"] == after.evidence["place"] and after.evidence["linked"]
        return Verdict(
            ok=ok, seen=f"{self.database} {'follows' if ok else 'does not follow'} {self.primary}"
        )

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        return ()
