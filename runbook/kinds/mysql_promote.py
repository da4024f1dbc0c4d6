"""The kinds ``mysql.catch_up``, ``mysql.promote`` and ``mysql.rejoin``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from runbook.errors import Refused
from runbook.kinds._compare import Found, Walk, missing
from runbook.kinds._dead_mans_switch import disarm, present
from runbook.kinds._mysql_events import asleep, stay_off, wake_up
from runbook.kinds._mysql_following import doubt
from runbook.kinds._mysql_grants import unread
from runbook.kinds._mysql_needs import LEADING, PROMOTING, follows, may, same_version
from runbook.kinds._shared import CheckKind
from runbook.kinds.mysql_common import (
    CLOSE,
    FREEZE,
    OPEN,
    catch_up,
    execute,
    follow,
    lacks,
    own_since,
    state,
)
from runbook.kinds.mysql_compare import DIALECT
from runbook.kinds.sql_common import DatabaseName, packed, run_of, server, unpacked
from runbook.model.actions import Action
from runbook.model.kind import Kind
from runbook.model.need import Need
from runbook.model.observation import Irreversible, Loss, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll

_COUNTING = 60.0
"""Seconds that rows which would be lost are counted, at most."""


class MysqlCatchUp(CheckKind):
    """Wait until a replica has every transaction of its primary.

    By global transaction ids, for after `mysql.freeze`. It has to follow that very server: by the
    `server_id` of what it follows, and by host and port, where `replication` of the primary says
    them. A replica of another one, and a replication that has stopped, are told at once.
    """

    name: ClassVar[str] = "mysql.catch_up"
    estimate: ClassVar[float] = 1.0
    poll: ClassVar[Poll | None] = Poll(every=0.05, timeout=60.0)
    output_names: ClassVar[dict[str, str]] = {"gtid": "the position that was reached"}
    example: ClassVar[str] = """\
- id: caught-up
  kind: mysql.catch_up
  with: {primary: east-mysql, replica: west-mysql}
"""

    primary: DatabaseName = Field(description="The server that is followed.")
    replica: DatabaseName = Field(description="The server that follows it.")

    def databases(self) -> tuple[str, ...]:
        return (self.primary, self.replica)

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """A replica of the same series that replays and is not far behind."""
        return (
            same_version(reads, self.primary, self.replica),
            follows(reads, self.replica, self.primary),
        )

    def observe(self, reads: Reads) -> Observation:
        first = state(server(reads, self.primary, "mysql"))
        second = state(server(reads, self.replica, "mysql"))
        return Observation(evidence={"primary": first, "replica": second}, at=reads.now())

    def verify(self, before: Observation, after: Observation) -> Verdict:
        first, second = after.evidence["primary"], after.evidence["replica"]
        why = doubt(self.primary, first, second)
        if why is not None:
            return Verdict(
                ok=False, retry=why.passing,
                seen=f"{self.replica} does not follow {self.primary}: {why.words} ({why.hint})",
            )
        missing = lacks(first, second)
        if missing:
            return Verdict(ok=False, seen=f"{self.replica} lacks transactions: {missing}")
        return Verdict(
            ok=True, seen=f"{self.replica} has everything up to {first['gtid']}",
            outputs={"gtid": first["gtid"]},
        )


class MysqlPromote(Kind):
    """Make a replica the primary.

    Only while the old primary refuses writes (`mysql.freeze`) and the replica follows that very
    server, replays without an error, and has every one of its transactions. It keeps refusing
    writes itself until `mysql.thaw`. The dead man's switch of the freeze is taken away first; where
    it has fired, writes came back, and nothing is promoted.

    Events of the old one are off on a replica, and stay off: the verdict names them, for a step of
    your own after the thaw (`ALTER EVENT … ENABLE`).

    Undone without losing a write that the new primary has taken since: it is frozen, followed by
    the old one until that has everything, and follows in its turn. A replica that took writes
    before takes them again.

    Where the old one has transactions of its own since, neither can follow the other any more. Then
    going back loses what the new one has taken: those rows are counted and shown before anything
    is undone, and the way back waits until `--accept-loss` names this step. The old one is the
    primary again, with its own; the new one stays frozen and has to be made anew from it.
    """

    name: ClassVar[str] = "mysql.promote"
    may_lose: ClassVar[bool] = True
    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
    estimate: ClassVar[float] = 0.5
    estimate_undo: ClassVar[float | None] = 5.0
    poll: ClassVar[Poll | None] = Poll(every=0.1, timeout=30.0)
    example: ClassVar[str] = """\
- id: promote
  kind: mysql.promote
  with: {database: west-mysql, old: east-mysql}
"""

    database: DatabaseName = Field(description="The replica that shall be the primary.")
    old: DatabaseName = Field(description="The primary so far; frozen by now.")

    def databases(self) -> tuple[str, ...]:
        return (self.database, self.old)

    def observe(self, reads: Reads) -> Observation:
        new = server(reads, self.database, "mysql")
        old = server(reads, self.old, "mysql")
        # In this order: what a follower has its primary had before.
        other = state(old)
        one = state(new)
        # Who takes writes is a matter of the thaw, once it is a primary.
        replica = {"read_only": one["read_only"]} if one["role"] == "replica" else {}
        return Observation(
            state={"role": one["role"], **replica}, at=reads.now(),
            evidence={"new": one, "old": other, "database": packed(new.database),
                      "former": packed(old.database), "run": run_of(reads),
                      "asleep": asleep(new),
                      "switch": one["role"] == "replica" and present(
                          reads, old.database, run_of(reads))},
        )

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The privileges RELOAD, REPLICATION SLAVE ADMIN and READ_ONLY ADMIN (or SUPER); a replica
        of the same series that follows that very primary, replays and is not far behind. A
        warning: events that stay off."""
        if seen is not None and seen.state["role"] == "primary":
            return ()
        return (
            may(reads, self.database, "promote it", PROMOTING),
            same_version(reads, self.database, self.old),
            follows(reads, self.database, self.old),
            wake_up(reads, self.database, self.old),
        )

    def would_change(self, reads: Reads, seen: Observation) -> tuple[str, ...]:
        return (f"{self.database}: {seen.state['role']} → primary",)

    def plan(self, before: Observation) -> Planned:
        if before.state["role"] == "primary":
            return Planned(reason=f"already done: {self.database} is the primary")
        new, old = before.evidence["new"], before.evidence["old"]
        if not old["read_only"]:
            raise Refused(
                f"{self.old} takes writes: they would be lost", hint="freeze it, with mysql.freeze"
            )
        why = doubt(self.old, old, new)
        if why is not None:
            raise Refused(f"{self.database} does not follow {self.old}: {why.words}; promoted, it "
                          f"would serve without what {self.old} has", hint=why.hint)
        missing = lacks(old, new)
        if missing:
            raise Refused(
                f"{self.database} lacks transactions of {self.old} ({missing}): acknowledged "
                "writes would be lost",
                hint="let it catch up first, with mysql.catch_up",
            )
        # A replica need not refuse writes; once nothing replicates to it, it has to.
        promote = execute(self.database, CLOSE, "STOP SLAVE", "RESET SLAVE ALL")
        if not before.evidence["switch"]:
            return Planned(actions=(promote,))
        former = unpacked(before.evidence["former"])
        return Planned(actions=(disarm(former, before.evidence["run"]), promote))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        seen, off = after.state["role"], after.evidence["asleep"]
        if seen == "primary" and off:
            return Verdict(ok=True, seen=f"{self.database} is a primary; its events "
                           f"{stay_off(off)}")
        return Verdict(ok=seen == "primary", seen=f"{self.database} is a {seen}")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """What it does depends on what the new side has taken since: see :meth:`undo_from`."""
        return self._back(before, before)

    def loss(self, before: Observation, reads: Reads) -> Loss | None:
        if before.state.get("role") != "replica":
            return None
        own = _own(before, self.observe(reads))
        if not own:
            return None
        new, old = (reads.database(name) for name in (self.database, self.old))
        what = (f"{self.old} has transactions of its own since {self.database} was promoted "
                f"({own}), so it cannot follow any more; going back loses what {self.database} "
                "alone has")
        for side in (new, old):
            lacking = unread(side, ())
            if lacking:
                return Loss(what=f"{what}, and nobody can count it: {lacking}")
        walk = Walk(DIALECT, new, old, Found(), size=5000, one_sided=True)
        end = reads.now() + _COUNTING
        try:
            lost = missing(walk, self.database, self.old, lambda: reads.now() < end)
        finally:
            walk.close()
        return Loss(what=f"{what}: {lost.rows} rows: {lost.words}", rows=lost.rows)

    def undo_from(
        self, before: Observation, now: Observation
    ) -> tuple[Action, ...] | Irreversible:
        if before.state.get("role") == now.state["role"] == "replica":
            return (execute(self.database, "START SLAVE", *_opened(before)),)
        return self._back(before, now)

    def _back(self, before: Observation, now: Observation) -> tuple[Action, ...] | Irreversible:
        if before.state.get("role") != "replica":
            return ()
        new, old = (unpacked(before.evidence[key]) for key in ("database", "former"))
        if new.replication is None or old.replication is None:
            return Irreversible(
                why="`replication` of both databases has to be known to follow each other"
            )
        own = _own(before, now)
        if own:
            return Irreversible(
                why=f"{self.old} has transactions that {self.database} lacks ({own}), so neither "
                f"can follow the other: {self.database} has to be made anew from {self.old}"
            )
        return (
            # Whoever opened it: what it has is counted once it takes no more.
            execute(new.name, *FREEZE),
            catch_up(old.name, new, demoted=not now.evidence["old"]["of"]),
            execute(new.name, *follow(old, demoted=True), *_opened(before)),
        )


def _opened(before: Observation) -> tuple[str, ...]:
    """A replica that took writes takes them again."""
    return () if before.evidence["new"]["read_only"] else (OPEN,)


def _own(before: Observation, now: Observation) -> str:
    """What the old primary has written since the promotion that the new one lacks, in words."""
    if now.state["role"] != "primary":
        return ""
    return own_since(before.evidence["old"]["gtid"], now.evidence["old"], now.evidence["new"])


class MysqlRejoin(Kind):
    """Let the old primary follow the new one, by GTID. It keeps refusing writes.

    One that follows a third server already is left alone, and the step fails.

    On the way back nothing is done here: the undo of `mysql.promote` turns both around.
    """

    name: ClassVar[str] = "mysql.rejoin"
    idempotent: ClassVar[bool] = True
    contained: ClassVar[bool] = True
    estimate: ClassVar[float] = 1.0
    poll: ClassVar[Poll | None] = Poll(every=0.1, timeout=60.0)
    example: ClassVar[str] = """\
- id: rejoin
  kind: mysql.rejoin
  with: {database: east-mysql, primary: west-mysql}
"""

    database: DatabaseName = Field(description="The server that shall follow.")
    primary: DatabaseName = Field(description="The server that it shall follow.")

    def databases(self) -> tuple[str, ...]:
        return (self.database, self.primary)

    def observe(self, reads: Reads) -> Observation:
        leader = server(reads, self.primary, "mysql")
        other = state(leader)
        own = state(server(reads, self.database, "mysql"))
        return Observation(
            state={"of": f"{own['of']}:{own['port']}" if own["of"] else ""}, at=reads.now(),
            evidence={"own": own, "leader": other, "primary": packed(leader.database)},
        )

    def needs(self, reads: Reads, seen: Observation | None) -> tuple[Need, ...]:
        """The privileges RELOAD and REPLICATION SLAVE ADMIN (or SUPER)."""
        return (may(reads, self.database, "make it follow another", LEADING),)

    def plan(self, before: Observation) -> Planned:
        own, leader = before.evidence["own"], before.evidence["leader"]
        if not own["read_only"]:
            raise Refused(
                f"{self.database} takes writes: they would be lost",
                hint="freeze it, with mysql.freeze" if own["role"] == "primary" else
                f"SET GLOBAL read_only = 1 on {self.database}, and look what it took",
            )
        why = doubt(self.primary, leader, own)
        if why is None and own["running"]:
            return Planned(reason=f"already done: {self.database} follows {self.primary}")
        if why is not None and why.stranger:
            raise Refused(
                f"{self.database} does not follow {self.primary}: {why.words}",
                hint=f"if it shall leave that one, say so there (STOP SLAVE; RESET SLAVE ALL); "
                f"or {why.hint}",
            )
        if leader["role"] != "primary":
            raise Refused(f"{self.primary} is no primary")
        alone = lacks(own, leader)
        if alone:
            raise Refused(
                f"{self.database} has transactions that {self.primary} lacks ({alone}): it cannot "
                "follow any more", hint=f"make it anew from {self.primary}",
            )
        to = unpacked(before.evidence["primary"])
        statements = follow(to, demoted=own["role"] == "primary")
        return Planned(actions=(execute(self.database, *statements),))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        own, leader = after.evidence["own"], after.evidence["leader"]
        why = doubt(self.primary, leader, own)
        if why is not None or not own["running"]:
            words = why.words if why is not None else own["error"]
            return Verdict(
                ok=False, retry=why is None or not why.stranger,
                seen=f"{self.database} does not follow {self.primary}"
                + (f": {words}" if words else ""),
            )
        if not own["read_only"]:
            return Verdict(ok=False, retry=False, seen=f"{self.database} follows {self.primary}, "
                           "and takes writes itself")
        return Verdict(ok=True, seen=f"{self.database} follows {self.primary}")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        return ()
