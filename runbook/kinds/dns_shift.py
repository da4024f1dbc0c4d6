"""``dns.shift``: move a name's traffic from one weighted variant to another, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from runbook.kinds._shared import Duration
from runbook.kinds.dns_common import (
    Texts,
    absolute,
    from_json,
    label,
    provider_evidence,
    to_json,
)
from runbook.model.actions import Action, ChangeRecordSet, Confirm, WaitFor
from runbook.model.dns import Change, RRset, show_weights, zone_name
from runbook.model.duration import format_duration
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import Reads
from runbook.model.runbook import Poll

_TYPES = ("A", "AAAA", "CNAME")
_SCALE = 100
"""Weights are written with this sum where it divides: they read as percentages."""

_SECONDS_A_CHANGE = 2.0


def _percentages(value: Any) -> Any:
    several = value if isinstance(value, list | tuple) else (value,)
    return tuple(_percentage(one) for one in several)


def _percentage(value: Any) -> str:
    text = str(value).strip()
    try:
        share = Fraction(text.removesuffix("%")) / 100
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not text.endswith("%") or not 0 < share <= 1:
        raise ValueError(f"{value!r} is no stage; write it like 5%, up to 100%")
    return text


Stages = Annotated[
    tuple[str, ...], BeforeValidator(_percentages), Field(min_length=1),
    WithJsonSchema({"type": "array", "items": {"type": "string", "pattern": "%$"}}),
]


class DnsShift(Kind):
    """Move a name's traffic from one weighted variant to another, in stages with a check each.

    For providers that have weights (Route 53). A stage is the share of what the two variants carry
    together that shall lie on `to`; what other variants carry stays in proportion. All address
    families of the name are shifted together, in one update guarded by every variant as it was.

    After each stage comes the `hold`, and then the step's own `verify:` checks: give it some, and a
    `hold` of at least the TTL, or caches hide what they are to see. Where a check does not hold the
    step goes back at once to the weights observed before, and has failed. Each stage is journaled;
    a run that was cut short goes on at the stage it had come to, and holds it in full.

    The provider's word is what is verified; its name servers may follow up to a minute later.
    Undone by the weights as they were before the first stage. It is refused while the weights are
    neither those nor of a stage: somebody else has shifted too.
    """

    name: ClassVar[str] = "dns.shift"
    poll: ClassVar[Poll | None] = Poll(every=1.0, timeout=60.0)
    estimate: ClassVar[float] = 60.0
    estimate_undo: ClassVar[float | None] = _SECONDS_A_CHANGE
    example: ClassVar[str] = """\
- id: shift
  kind: dns.shift
  with:
    zone: cdn.example
    name: www
    from: east
    to: west
    stages: [5%, 25%, 100%]
    hold: 10m
  verify:
    - {http: "https://www.cdn.example/health", status: 200, samples: 20}
"""
    output_names: ClassVar[dict[str, str]] = {
        "zone": "the zone",
        "weights": "by 'name TYPE': the weight of every variant, by its name",
        "before": "the same, as it was before the first stage",
    }

    zone: str = Field(description="The zone, as declared under `zones:`.")
    at: str = Field(alias="name", description="The name whose sets are weighted; `@` for the zone.")
    from_: str = Field(
        alias="from", min_length=1,
        description="The variant that loses the traffic (Route 53: the record's `SetIdentifier`).",
    )
    to: str = Field(min_length=1, description="The variant that gets it.")
    stages: Stages = Field(
        description="Shares of the traffic on `to`, each greater than the one before: `[5%, 100%]`."
    )
    hold: Duration = Field(description="How long each stage lasts before it is checked.")
    types: Texts = Field(
        default=(), description="Record types to shift; without it A, AAAA and CNAME, as there are."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.from_ == self.to:
            raise ValueError(f"`from` and `to` are the same variant, {self.to!r}")
        if any(one >= other for one, other in zip(self._shares, self._shares[1:], strict=False)):
            raise ValueError("`stages` have to grow: each one greater than the one before")
        return self

    def weighted_zones(self) -> tuple[str, ...]:
        return (self.zone,)

    def zones(self) -> tuple[str, ...]:
        return (self.zone,)

    def observe(self, reads: Reads) -> Observation:
        zone = reads.dns.zone(self.zone)
        name = absolute(self.at, self.zone)
        wanted = [one.upper() for one in self.types] or list(_TYPES)
        found = [reads.dns.get(zone, name, rtype) for rtype in wanted]
        return Observation(
            state={"sets": to_json(one for one in found if one is not None)},
            evidence={
                "provider": provider_evidence(reads, zone),
                "max_weight": reads.dns.caps(zone).max_weight,
            },
            at=reads.now(),
        )

    def plan(self, before: Observation) -> Planned:
        refusal = self._refusal(before)
        if refusal:
            return Planned(reason=f"refused: {refusal}")
        stages = self._ahead(before)
        if not stages:
            return Planned(reason=f"already done: {self._told(_sets(before))}")
        actions: list[Action] = []
        present = _sets(before)
        for number, (share, sets) in enumerate(stages, 1):
            stage = f"stage {number} of {len(stages)}, {share} on {self.to}"
            actions.append(ChangeRecordSet(
                zone=zone_name(self.zone), changes=_changes(present, sets)
            ))
            if self.hold:
                actions.append(WaitFor(
                    until=before.at, after_last=self.hold,
                    why=f"{stage}: held for {format_duration(self.hold)}, of which caches may give "
                    f"the answers before for {max(one.ttl for one in present)} s",
                ))
            actions.append(Confirm(what=stage))
            present = sets
        return Planned(actions=tuple(actions))

    def verify(self, before: Observation, after: Observation) -> Verdict:
        refusal = self._refusal(before)
        if refusal:
            return Verdict(ok=False, retry=False, seen=refusal)
        ahead = self._ahead(before)
        wanted = ahead[-1][1] if ahead else _sets(before)
        now = _sets(after)
        outputs = {
            "zone": zone_name(self.zone),
            "weights": {label(one): one.weights for one in now},
            "before": {label(one): one.weights for one in _sets(before)},
        }
        return Verdict(ok=now == wanted, seen=self._told(now), outputs=outputs)

    def undo(self, before: Observation) -> tuple[Action, ...] | Irreversible:
        """As it will be, were every stage done. See :meth:`undo_from`."""
        if self._refusal(before):
            return ()
        ahead = self._ahead(before)
        return self._back(before, ahead[-1][1]) if ahead else ()

    def undo_from(
        self, before: Observation, now: Observation
    ) -> tuple[Action, ...] | Irreversible:
        """From the stage it had come to."""
        return () if self._refusal(before) else self._back(before, _sets(now))

    def on_the_way(self, before: Observation) -> tuple[Mapping[str, Any], ...]:
        if self._refusal(before):
            return ()
        return tuple({"sets": to_json(sets)} for _, sets in self._ahead(before))

    def estimated(self) -> float:
        return len(self.stages) * (self.hold + _SECONDS_A_CHANGE)

    def preview(self) -> tuple[str, ...]:
        types = f" ({', '.join(self.types)})" if self.types else ""
        held = f", held for {format_duration(self.hold)}" if self.hold else ""
        stages = (
            f"stage {number} of {len(self.stages)}: {share} on {self.to}{held}, then the checks"
            for number, share in enumerate(self.stages, 1)
        )
        return (
            f"in {self.zone}: {self.at}{types}, from {self.from_} to {self.to}", *stages,
            "a check that does not hold: back at once to the weights observed before",
        )

    @property
    def _shares(self) -> tuple[Fraction, ...]:
        return tuple(Fraction(one.removesuffix("%")) / 100 for one in self.stages)

    def _told(self, sets: Iterable[RRset]) -> str:
        return "; ".join(f"{label(one)}: {show_weights(one.weights)}" for one in sets)

    def _back(self, before: Observation, now: Sequence[RRset]) -> tuple[Action, ...]:
        changes = _changes(now, _sets(before))
        return (ChangeRecordSet(zone=zone_name(self.zone), changes=changes),) if changes else ()

    def _ahead(self, before: Observation) -> list[tuple[str, list[RRset]]]:
        """Each stage that is still to come, with the sets as it makes them."""
        found: list[tuple[str, list[RRset]]] = []
        present = _sets(before)
        for text, share in zip(self.stages, self._shares, strict=True):
            sets = [
                one.with_weights(self._weights(one, share)) if self._share(one) < share else one
                for one in present
            ]
            if sets != present:
                found.append((text, sets))
            present = sets
        return found

    def _share(self, rrset: RRset) -> Fraction:
        """What `to` carries of what the two variants carry together."""
        weights = rrset.weights
        return Fraction(weights[self.to], weights[self.to] + weights[self.from_])

    def _weights(self, rrset: RRset, share: Fraction) -> dict[str, int]:
        """In lowest terms, so that a stage is the same from wherever it is come to; then as near
        to a sum of 100 as whole multiples lead."""
        weights = rrset.weights
        both = weights[self.from_] + weights[self.to]
        exact = {name: Fraction(weight) for name, weight in weights.items()} | {
            self.to: both * share, self.from_: both * (1 - share),
        }
        whole = math.lcm(*(one.denominator for one in exact.values()))
        parts = {name: int(one * whole) for name, one in exact.items()}
        common = math.gcd(*parts.values())
        lowest = {name: one // common for name, one in parts.items()}
        times = max(1, _SCALE // sum(lowest.values()))
        return {name: one * times for name, one in lowest.items()}

    def _refusal(self, before: Observation) -> str:
        """Why it must not act on what was seen; empty when it may."""
        sets = _sets(before)
        name = absolute(self.at, self.zone)
        if not sets:
            return f"{name} has no {' or '.join(self.types or _TYPES)} set"
        for one in sets:
            if not one.variants:
                return (
                    f"{label(one)} is not weighted: clients would go on using it as it is. Make it "
                    "weighted, or name the `types` to shift"
                )
            missing = [v for v in (self.from_, self.to) if v not in one.weights]
            if missing:
                return (
                    f"{label(one)} has no variant {' or '.join(missing)} (it has: "
                    f"{', '.join(one.weights)})"
                )
            if not one.weights[self.from_] + one.weights[self.to]:
                return f"{label(one)}: neither {self.from_} nor {self.to} carries any weight"
        most = before.evidence.get("max_weight", 0)
        for share, made in self._ahead(before):
            for one in made:
                if max(one.weights.values()) > most:
                    return (
                        f"{share} of {label(one)} beside its other variants would take weights "
                        f"above {most} ({show_weights(one.weights)}): choose another stage, or "
                        "rounder weights"
                    )
        return ""


def _sets(seen: Observation) -> list[RRset]:
    return from_json(seen.state.get("sets", {}))


def _changes(present: Iterable[RRset], wanted: Sequence[RRset]) -> tuple[Change, ...]:
    there = {one.key: one for one in present}
    return tuple(
        Change(before=there.get(one.key), after=one)
        for one in wanted if there.get(one.key) != one
    )
