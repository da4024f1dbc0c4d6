"""The arithmetic of caches: until when can somebody still hold an old answer? Pure.

An answer fetched from an authoritative server lives in a cache for the TTL it was given with
(RFC 1035 section 3.2.1, RFC 2181 section 8). The last moment at which a server can have given the
old answer is the moment its first new answer was *seen*; so for each changed set

    free = max over servers (first sight of the new answer) + greatest old TTL + skew

where the greatest old TTL is that of *any* authoritative server, a lagging one included. Measured
from the change itself instead, it is too early whenever a server follows late.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from runbook.model.dns import RRset
from runbook.model.duration import format_duration

CLAMP_ALLOWANCE = 3600.0
"""Seconds by which resolvers that raise small TTLs (``cache-min-ttl``) may be late."""
STALE_ALLOWANCE = 86400.0
"""Seconds for which resolvers may serve expired answers while nobody answers (RFC 8767)."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CachedSet(_Frozen):
    """A set of which caches may hold an old answer.

    ``old_ttl``: the greatest TTL any server gave it with. ``last_old``: when the last server was
    first seen with the new answer (Unix seconds): no old answer was given after that.
    """

    name: str
    old_ttl: int
    last_old: float

    @property
    def free(self) -> float:
        return self.last_old + self.old_ttl


class Deadline(_Frozen):
    """A moment (Unix seconds) and how it was computed."""

    until: float
    why: str


def moment(at: float) -> str:
    """``2009-09-12 05:00:03Z``."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def no_old_answer(sets: Iterable[CachedSet], *, skew: float, extra: float = 0.0) -> Deadline:
    """When no cache that keeps to the TTL can hold an old answer of any of the sets.

    ``skew`` covers answers under way and clocks that differ. Raises ValueError without sets.
    """
    several = sorted(sets, key=lambda one: (-one.free, one.name))
    if not several:
        raise ValueError("no record set was changed: there is nothing to wait for")
    worst = several[0]
    until = worst.free + skew + extra
    steps = [
        f"{worst.name}: every server seen with the new answer by {moment(worst.last_old)}",
        f"+ old TTL {worst.old_ttl}s",
        f"+ skew {format_duration(skew)}",
    ]
    if extra:
        steps.append(f"+ extra {format_duration(extra)}")
    others = f" (the latest of {len(several)} sets)" if len(several) > 1 else ""
    return Deadline(until=until, why=f"{' '.join(steps)} = {moment(until)}{others}")


def old_side_off(
    drained: float, *, clamp: float = CLAMP_ALLOWANCE, stale: float = STALE_ALLOWANCE
) -> Deadline:
    """When the old side may be switched off, as far as caches go; traffic has to confirm it."""
    until = drained + clamp + stale
    why = (
        f"drained {moment(drained)} + {format_duration(clamp)} for resolvers that raise TTLs "
        f"+ {format_duration(stale)} for resolvers that serve expired answers = {moment(until)}"
    )
    return Deadline(until=until, why=why)


def negative_ttl(soa: RRset) -> int:
    """How long *there is no such name* lives: min(TTL of the SOA, MINIMUM), RFC 2308 section 5.

    Raises ValueError where the set is not an SOA.
    """
    fields = soa.rdatas[0].split() if soa.rtype == "SOA" and soa.rdatas else []
    if len(fields) != 7:
        raise ValueError(f"{soa.name} {soa.rtype} is not an SOA record")
    return min(soa.ttl, int(fields[6]))
