"""What has changed in the world between two probes of a runbook.

What is kept of a probe is small: of each node the observed state in few words, of each need
whether it is met and what it stood at. Long texts are kept as the beginning of their digest, so
that nothing is kept that a state does not show at a glance; what is secret was redacted before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from runbook.engine.probe.report import NeedSeen, ProbeReport
from runbook.journal import Rehearsal
from runbook.model.plan import Plan

PLACES = 40
"""Places of one state that are kept one by one; what is left counts together."""
_LONGEST = 60
"""Characters of a text that is kept as it is."""
_DIGITS = 12
_NOTHING = "not there"

Recorded = Mapping[str, Any]
"""What is kept of a probe, as JSON."""


class Drifted(BaseModel):
    """One thing that stands otherwise. ``node`` is a node of the plan, or empty with ``host``."""

    model_config = ConfigDict(frozen=True)

    node: str = ""
    step: str = ""
    host: str = ""
    what: str
    then: str
    now: str


class Drift(BaseModel):
    """``since``: the moment of the probe that it is compared with (Unix seconds)."""

    model_config = ConfigDict(frozen=True)

    since: float
    same_plan: bool
    """Whether that probe was of the very same plan; else the steps of both are compared."""
    changed: tuple[Drifted, ...]


def standing(state: Mapping[str, Any], redact: Callable[[str], str]) -> dict[str, str]:
    """A state in few words, by place. Equal states give equal words; states that differ, others."""
    found = {where or "state": redact(word) for where, word in _leaves("", state)}
    words = {where: _short(word) for where, word in found.items()}
    if len(words) <= PLACES:
        return words
    first = sorted(words)[: PLACES - 1]
    rest = {where: word for where, word in found.items() if where not in first}
    digest = _digest(json.dumps(rest, sort_keys=True))
    return {where: words[where] for where in first} | {f"and {len(rest)} more": digest}


def recorded(report: ProbeReport) -> dict[str, Any]:
    """What is kept of a probe, for the next one."""
    return {
        "nodes": {
            one.node: {"how": one.how, "stands": one.stands, "needs": _needs(one.needs)}
            for one in report.nodes
        },
        "hosts": {
            one.name: {"answers": one.answers, "needs": _needs(one.needs)} for one in report.hosts
        },
    }


def look_back(plan: Plan, rehearsals: Sequence[Rehearsal]) -> Rehearsal | None:
    """The last probe of the same runbook; of this very plan, where there is one. ``rehearsals``
    are newest first."""
    probes = [
        one for one in rehearsals
        if one.level == "probe" and one.data.get("runbook") == plan.runbook and "seen" in one.data
    ]
    same = (one for one in probes if one.plan_digest == plan.digest)
    return next(same, probes[0] if probes else None)


def drift_since(before: Rehearsal | None, report: ProbeReport) -> Drift | None:
    """What stands otherwise than at an earlier probe; None: there is none."""
    if before is None:
        return None
    then: Recorded = before.data["seen"]
    changed = (*_hosts(then["hosts"], report), *_nodes(then["nodes"], report))
    return Drift(
        since=before.ts, same_plan=before.plan_digest == report.digest, changed=changed
    )


def _hosts(then: Recorded, report: ProbeReport) -> Iterator[Drifted]:
    words = {True: "answers", False: "does not answer"}
    for host in report.hosts:
        was = then.get(host.name)
        if was is None:
            continue
        name = host.name or "the controller"
        if was["answers"] != host.answers:
            yield Drifted(host=name, what="it", then=words[was["answers"]],
                          now=words[host.answers])
        for what, one, other in _between(was["needs"], host.needs):
            yield Drifted(host=name, what=what, then=one, now=other)


def _nodes(then: Recorded, report: ProbeReport) -> Iterator[Drifted]:
    for node in report.nodes:
        was = then.get(node.node)
        if was is None:
            continue
        # What is not looked at, as it depends on others, is no news; what nobody answers is.
        if was["how"] != node.how and "unknown" in {was["how"], node.how}:
            yield Drifted(node=node.node, step=node.step, what="looked at", then=was["how"],
                          now=node.how)
        changes = [*_between(was["needs"], node.needs)]
        if was["stands"] and node.stands:
            changes += [
                (where, was["stands"].get(where, _NOTHING), node.stands.get(where, _NOTHING))
                for where in dict.fromkeys((*was["stands"], *node.stands))
                if was["stands"].get(where) != node.stands.get(where)
            ]
        for what, one, other in changes:
            yield Drifted(node=node.node, step=node.step, what=what, then=one, now=other)


def _between(
    then: Mapping[str, Sequence[str]], now: Iterable[NeedSeen]
) -> Iterator[tuple[str, str, str]]:
    """Needs that became met or are not met any more, and facts that are others."""
    for need in now:
        was = then.get(need.what)
        if was is None or "skipped" in {was[0], need.state}:
            continue
        if was[0] != need.state:
            yield need.what, was[0], f"{need.state}: {need.seen}" if need.seen else need.state
        elif was[1] and need.fact and was[1] != need.fact:
            yield need.what, was[1], need.fact


def _needs(needs: Iterable[NeedSeen]) -> dict[str, list[str]]:
    return {one.what: [one.state, _short(one.fact)] for one in needs}


def _leaves(where: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(f"{where} {key}".strip(), inner)
    elif isinstance(value, list) and value and any(isinstance(one, Mapping) for one in value):
        for number, inner in enumerate(value, 1):
            yield from _leaves(f"{where} {number}".strip(), inner)
    else:
        yield where, _word(value)


def _word(value: Any) -> str:
    if value is None or value in ({}, []):
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _short(text: str) -> str:
    if len(text) == 64 and all(letter in "0123456789abcdef" for letter in text):
        return f"{text[:_DIGITS]}…"
    one_line = " ".join(text.split())
    if len(text) <= _LONGEST and one_line == text.strip():
        return text
    return f"{one_line[:20]}… ({len(text)} characters, {_digest(text)})"


def _digest(text: str) -> str:
    return f"#{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}"
