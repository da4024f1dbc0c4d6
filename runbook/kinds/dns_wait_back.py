"""``dns.wait_back``: on the way back, wait until no cache leads to the new side any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from runbook.errors import Errored
from runbook.kinds.dns_common import (
    EXCEPT_SERVERS,
    Addresses,
    Seconds,
    Texts,
    Ttl,
    from_json,
    label,
    last_seen,
    listed,
    of_set,
    poll_servers,
)
from runbook.model.actions import Action, WaitFor
from runbook.model.dns import RRset, zone_name
from runbook.model.dns_literals import Network, parse_networks
from runbook.model.dns_rewrite import holds
from runbook.model.dns_ttl import CachedSet, no_old_answer
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll


class DnsWaitBack(Kind):
    """On the way back, wait until no cache can still lead to the new side. Forward: nothing.

    Put it after the steps that start the new side and before the flip. A rollback takes the flip
    back first, then comes here, and stops the new side only when nobody who keeps to the TTL can
    still be sent there:

        last server seen without the new addresses + greatest TTL they were given with + skew

    Which sets, and with which TTL, is taken from the journal: every change of the zone that this
    run began (a flip, a restored TTL). Where it began none there is nothing to wait for. Steps that
    this one does not come before are not held back: let the old side be opened again by one of
    those, and the wait costs nobody anything.
    """

    name: ClassVar[str] = "dns.wait_back"
    by_keys: ClassVar[bool] = True
    poll: ClassVar[Poll | None] = Poll(every=1.0, timeout=60.0)
    estimate_undo: ClassVar[float | None] = 65.0
    back_after: ClassVar[tuple[str, ...]] = ("dns.flip", "dns.restore_ttl")
    idempotent: ClassVar[bool] = True
    example: ClassVar[str] = """\
- id: new-side-stays
  kind: dns.wait_back
  with: {zone: shop.example, points_at: 203.0.113.10, ttl: 60}
"""

    zone: str = Field(description="The zone, as declared under `zones:`.")
    points_at: Addresses = Field(description="The new address, a network (CIDR), or a list.")
    ttl: Ttl = Field(
        default=60,
        description="The TTL the records will have at the flip: what the back-out time is "
        "reckoned with where nothing tells it. What is waited goes by the TTLs that were really "
        "given.",
    )
    skew: Seconds = Field(
        default=5.0, description="For answers under way and clocks that differ.",
    )
    except_servers: Texts = Field(default=(), description=EXCEPT_SERVERS)

    def preview(self) -> tuple[str, ...]:
        return (
            f"on the way back: wait until no cache can lead to {', '.join(self.points_at)} "
            f"any more",
        )

    def estimated_undo(self) -> float:
        return self.ttl + self.skew

    def back_pause(self, given: Sequence[RRset] | None) -> float:
        if given is None:
            return self.estimated_undo()
        ttls = [one.ttl for one in given if holds(one, self._networks)]
        return max(ttls) + self.skew if ttls else 0.0

    def zones(self) -> tuple[str, ...]:
        return (self.zone,)

    def observe(self, reads: Reads) -> Observation:
        """``state`` stays empty: what caches hold cannot be seen, and is nobody's drift."""
        zone = reads.dns.zone(self.zone)
        given = self._given(reads)
        if not given:
            return Observation(at=reads.now())
        served, unknown = poll_servers(reads, zone, given, self.except_servers)
        still = [
            f"{server} gives {key} as {', '.join(one['rdatas'])}"
            for key in given
            for server, one in of_set(served, key).items()
            if holds(_set(key, one["rdatas"]), self._networks)
        ]
        return Observation(
            evidence={"given": given, "served": served, "still": still}, unknown=unknown,
            at=reads.now(),
        )

    def plan(self, before: Observation) -> Planned:
        return Planned(actions=(
            WaitFor(until=before.at, why="nothing to wait for on the way forward"),
        ))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        return Verdict(ok=True, seen=f"the way back will wait: {self.preview()[0]}")

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """As it will be, were everything taken back at once. See :meth:`undo_from`."""
        return (WaitFor(until=before.at + self.estimated_undo(), why=self.preview()[0]),)

    def undo_from(
        self, before: Observation, now: Observation
    ) -> tuple[Action, ...] | Irreversible:
        """Raises Errored while a server gives the new answer, or cannot be asked."""
        given = now.evidence.get("given", {})
        if not given:
            return ()
        problems = [*now.unknown, *now.evidence["still"]]
        if problems:
            raise Errored(
                f"nobody can tell how long caches will lead to {', '.join(self.points_at)}: "
                f"{listed(problems)}",
                hint="mend the server, then `runbook rollback` again; or stop the new side by hand",
            )
        served = now.evidence["served"]
        deadline = no_old_answer(
            [CachedSet(name=key, old_ttl=ttl, last_old=last_seen(served, key))
             for key, ttl in given.items()],
            skew=self.skew,
        )
        if now.at >= deadline.until:
            return ()
        return (WaitFor(until=deadline.until, why=deadline.why),)

    @property
    def _networks(self) -> tuple[Network, ...]:
        return tuple(parse_networks(self.points_at))

    def _given(self, reads: Reads) -> dict[str, int]:
        """``name TYPE`` → the greatest TTL that this run may have given the new answer with."""
        found: dict[str, int] = {}
        for change in reads.record_changes(zone_name(self.zone)):
            for one in (change.before, change.after):
                if one is not None and holds(one, self._networks):
                    found[label(one)] = max(one.ttl, found.get(label(one), 0))
        return dict(sorted(found.items()))


def _set(key: str, rdatas: list[str]) -> RRset:
    return from_json({key: {"ttl": 0, "rdatas": rdatas}})[0]
