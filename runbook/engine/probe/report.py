"""What a probe learned, as values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runbook.model.need import EVERYWHERE, Need

How = Literal["read", "simulated", "skipped", "unknown"]
NeedState = Literal["met", "warning", "unmet", "unknown", "skipped"]
NEED_STATES: tuple[NeedState, ...] = ("met", "warning", "unmet", "unknown", "skipped")

CERTIFICATE_LEFT = 14 * 86400.0
"""Seconds that what ends by itself shall last after the window, or a person is told."""


class _Seen(BaseModel):
    model_config = ConfigDict(frozen=True)


class NeedSeen(_Seen):
    """A need and what became of it. *warning*: the step does not fail for it, and a person should
    know; *skipped*: it is not met now, and earlier steps act where it may be brought about."""

    what: str
    state: NeedState
    seen: str = ""
    hint: str = ""
    fact: str = ""


class Probed(_Seen):
    """What a probe learned of one node.

    ``how``: *read* from the world; *simulated* with pretended outputs; *skipped* because it
    depends on what earlier steps will do, or because nothing of it can be seen beforehand;
    *unknown* because nobody could be asked.
    """

    node: str
    step: str
    how: How
    would: tuple[dict[str, Any], ...] = ()
    """Actions the step would perform now."""
    changes: tuple[str, ...] = ()
    """What they would change, each in a line of words: before → after."""
    says: str = ""
    undo: str = ""
    """Whether what it would do can be undone: ``yes``, ``nothing to undo``, or why not."""
    problem: bool = False
    """Something a person should mend before the run."""
    needs: tuple[NeedSeen, ...] = ()
    stands: dict[str, str] = Field(default_factory=dict)
    """What was observed, in few words by its place in the state: what two probes compare."""

    @property
    def unmet(self) -> tuple[NeedSeen, ...]:
        return tuple(one for one in self.needs if one.state == "unmet")


class HostSeen(_Seen):
    """A host of the plan. ``answers`` false: it could not be asked, and ``says`` why."""

    name: str
    answers: bool
    says: str = ""
    ahead: float | None = None
    """Seconds by which its clock is ahead of the controller's; None: not known."""
    needs: tuple[NeedSeen, ...] = ()


class CacheHolds(_Seen):
    """What a resolver's cache holds of the sets that would change. ``left``: the longest time for
    which one of them may still be given; ``beyond``: sets that it will hold for longer than their
    TTL is now, since they were asked for before it was lowered, or it raises TTLs."""

    resolver: str
    asked: int
    held: int = 0
    left: float = 0.0
    longest: str = ""
    """The set that is held longest, ``name TYPE``."""
    beyond: tuple[str, ...] = ()
    says: str = ""
    """Why it could not be told."""


class ProbeReport(_Seen):
    digest: str
    nodes: tuple[Probed, ...]
    hosts: tuple[HostSeen, ...] = ()
    caches: tuple[CacheHolds, ...] = ()
    secrets: NeedSeen | None = None
    """Whether every declared secret can be read; None: there is none."""

    @property
    def counts(self) -> dict[str, int]:
        names: tuple[How, ...] = ("read", "simulated", "skipped", "unknown")
        return {how: sum(n.how == how for n in self.nodes) for how in names}

    @property
    def needs(self) -> Iterator[NeedSeen]:
        """Of all nodes and hosts."""
        if self.secrets is not None:
            yield self.secrets
        for host in self.hosts:
            yield from host.needs
        for node in self.nodes:
            yield from node.needs

    @property
    def needs_counts(self) -> dict[str, int]:
        states = [need.state for need in self.needs]
        return {state: states.count(state) for state in NEED_STATES}

    @property
    def fidelity(self) -> float:
        """Part of the nodes that were read from the real world, 0 to 1."""
        return self.counts["read"] / len(self.nodes) if self.nodes else 1.0

    @property
    def ok(self) -> bool:
        return not any(n.problem for n in self.nodes) and not self.needs_counts["unmet"]


def judged(need: Need, opened: frozenset[str], *, until: float) -> NeedSeen:
    """What becomes of a need, given the places where earlier steps act and the moment up to which
    it has to last."""
    ok, grave, seen = need.ok, need.grave, need.seen
    if ok and need.ends is not None and need.ends < until + CERTIFICATE_LEFT:
        ok, grave = False, need.ends < until
        seen += ", before the move is over" if grave else ", soon after the move"
    state: NeedState = (
        "met" if ok else "unknown" if ok is None else "unmet" if grave else "warning"
    )
    if state != "met" and need.made_by and opened.intersection((*need.made_by, EVERYWHERE)):
        state = "skipped"
    return NeedSeen(
        what=need.what, state=state, seen=seen, hint="" if state == "met" else need.hint,
        fact=need.fact,
    )
