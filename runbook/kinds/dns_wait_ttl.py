"""``dns.wait_ttl``: wait until no cache can hold an old answer any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from runbook.kinds.dns_common import (
    EXCEPT_SERVERS,
    Seconds,
    Texts,
    changed_sets,
    listed,
    of_set,
    poll_servers,
)
from runbook.model.actions import Action, WaitFor
from runbook.model.dns import Zone
from runbook.model.dns_ttl import CachedSet, moment, negative_ttl, no_old_answer, old_side_off
from runbook.model.duration import format_duration
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Pause, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll


class DnsWaitTtl(Kind):
    """Wait until no cache that keeps to the TTL can still hold an old answer.

    After ``dns.ttl`` that is the moment from which a change is seen within the new TTL; after
    ``dns.flip`` the moment at which the old addresses are *drained*. The arithmetic is shown:

        last server seen with the new answer + greatest old TTL on any server + skew

    less, of course, the time that has gone by already. Every server is asked before and after the
    wait: one that cannot be asked or gives the old answer again makes the result unknown, and the
    step does not hold. Resolvers that raise TTLs or serve expired answers are not covered: see
    the output ``old_side_off``, and watch the traffic.
    """

    name: ClassVar[str] = "dns.wait_ttl"
    by_keys: ClassVar[bool] = True
    poll: ClassVar[Poll | None] = Poll(every=1.0, timeout=60.0)
    estimate: ClassVar[float] = 60.0
    estimate_undo: ClassVar[float | None] = 0.0
    idempotent: ClassVar[bool] = True
    example: ClassVar[str] = """\
- id: lower-ttl
  kind: dns.ttl
  with: {zone: shop.example, points_at: 198.51.100.10, ttl: 60}
- id: drained
  kind: dns.wait_ttl
  with: {of: lower-ttl}
"""
    output_names: ClassVar[dict[str, str]] = {
        "until": "Unix seconds from which no cache can hold an old answer",
        "why": "the arithmetic",
        "old_side_off": (
            "Unix seconds, until + 1 h for resolvers that raise TTLs + 24 h for resolvers that "
            "serve expired answers"
        ),
    }

    of: str = Field(description="Id of the dns.ttl or dns.flip step whose old answers to wait for.")
    skew: Seconds = Field(
        default=5.0, description="For answers under way and clocks that differ.",
    )
    extra: Seconds = Field(default=0.0, description="A further allowance, e.g. 1h.")
    negative: bool = Field(
        default=False,
        description="Wait for *there is no such name* too (min of the SOA's TTL and MINIMUM): "
        "needed where names or types that did not exist come next.",
    )
    except_servers: Texts = Field(default=(), description=EXCEPT_SERVERS)

    def pause(self) -> Pause:
        return Pause(seconds=self.skew + self.extra, of=self.of)

    def preview(self) -> tuple[str, ...]:
        also = ", and *there is no such name*" if self.negative else ""
        return (f"wait until no cache can hold an answer from before {self.of}{also}",)

    def references(self) -> tuple[str, ...]:
        return (self.of,)

    def observe(self, reads: Reads) -> Observation:
        source = changed_sets(reads, self.of, "seen_new_at")
        zone = reads.dns.zone(str(source["zone"]))
        sets: Mapping[str, Any] = source["sets"]
        cached = _cached(source["what"], sets)
        if self.negative:
            cached += self._negative(reads, sets, zone)
        if cached:
            deadline = no_old_answer(cached, skew=self.skew, extra=self.extra)
            until, why = deadline.until, deadline.why
        else:
            until = max(one["seen_new_at"] for one in sets.values())
            why = "every TTL was as low before: no cache holds anything older"
        served, unknown = poll_servers(reads, zone, sets, self.except_servers)
        return Observation(
            state={"until": until, "what": source["what"]},
            evidence={"why": why, "served": served, "back": _gone_back(source, served)},
            unknown=unknown,
            at=reads.now(),
        )

    def plan(self, before: Observation) -> Planned:
        problem = _problem(before)
        if problem:
            return Planned(reason=f"the wait does not start: {problem}")
        until = float(before.state["until"])
        if before.at >= until:
            gone = format_duration(before.at - until)
            return Planned(reason=f"already done: {before.evidence['why']}, {gone} ago")
        left = format_duration(until - before.at)
        return Planned(
            actions=(WaitFor(until=until, why=f"{before.evidence['why']}; {left} left"),)
        )

    def verify(self, before: Observation, after: Observation) -> Verdict:
        problem = _problem(after)
        if problem:
            return Verdict(ok=False, seen=f"unknown: {problem}")
        until = float(after.state["until"])
        if after.at < until:
            left = format_duration(until - after.at)
            return Verdict(ok=False, seen=f"{left} too early: {after.evidence['why']}")
        off = old_side_off(until)
        drained = after.state["what"] == "records"
        ending = f"; old side off at {moment(off.until)}" if drained else ""
        return Verdict(
            ok=True, seen=f"no cache can hold an old answer: {after.evidence['why']}{ending}",
            outputs={
                "until": until, "why": after.evidence["why"], "old_side_off": off.until,
            },
        )

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        return ()

    def _negative(self, reads: Reads, sets: Mapping[str, Any], zone: Zone) -> list[CachedSet]:
        soa = reads.dns.get(zone, zone.name, "SOA")
        if soa is None:
            return []
        since = max(one["seen_new_at"] for one in sets.values())
        return [
            CachedSet(
                name=f"{zone.called} (no such name)", old_ttl=negative_ttl(soa), last_old=since
            )
        ]


def _cached(what: str, sets: Mapping[str, Any]) -> list[CachedSet]:
    """Sets that caches can hold an old answer of; after dns.ttl not those that were low."""
    return [
        CachedSet(name=key, old_ttl=one["old_ttl"], last_old=one["seen_new_at"])
        for key, one in sets.items()
        if what == "records" or one["old_ttl"] > one["ttl"]
    ]


def _gone_back(source: Mapping[str, Any], served: Mapping[str, Any]) -> list[str]:
    """Servers that give an old answer (again)."""
    back = []
    for key, one in source["sets"].items():
        for server, now in of_set(served, key).items():
            if source["what"] == "records" and now["rdatas"] != list(one["rdatas"]):
                back.append(f"{server} gives {key} as {', '.join(now['rdatas']) or now['rcode']}")
            elif source["what"] == "ttl" and (now["ttl"] or 0) > one["ttl"]:
                back.append(f"{server} gives {key} with TTL {now['ttl']} again")
    return back


def _problem(seen: Observation) -> str:
    """Why nothing can be said; empty when all servers agree."""
    return listed([*seen.unknown, *seen.evidence["back"]])
