"""Events: the only thing a run is made of. Appended, hash-chained, never changed.

| kind | node | data |
|---|---|---|
| run_started | | who, controller, rehearsal level, faults: made on purpose, slowed: factor |
| resumed | | who, controller |
| host_opened | | host, marker: identity of the host's spool |
| intent | yes | before, actions: *durable before any effect*; clock?: as the step began |
| acted | yes | index, result: one action of several has ended well, others follow |
| done | yes | results: every action reported success |
| verified | yes | before?, after, seen, outputs, reason (already done) |
| failed | yes | error, results, after?: the world said no; goes_back: it is to be undone now |
| errored | yes | error: nobody could be asked; nothing changed by the attempt |
| in_doubt | yes | error, action index |
| skipped | yes | why, outputs, when: the condition that does not hold |
| ask / answered | yes | a question; that enough people have answered it |
| decision | maybe | verb, who, role, why, evidence: what a person said; turn: what it begins |
| amended | | who, why, digest, was: the one before, changes in words, plan: from here on |
| paused / continued / held | | why; heard: every decided turn is taken into account |
| rollback_started | | why, to, who, accepted losses and drift |
| restored | yes | how: an undo is verified, or there was nothing to undo |
| rollback_failed | yes | error; unsettled: nobody knows what came of it |
| irreversible | yes | why |
| breach | | what (budget, window, way back), limit, measured, action, why?, detail? |
| late | | a step that would be too late for the way back: arithmetic, what came of it |
| probe | | budget, and all that its probe has measured so far |
| run_finished | | phase, why |
| progress | yes | progress: what a long look has found so far; seen |
| note | maybe | text |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EVENT_SCHEMA = 1
GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Event:
    """One appended event. ``ts`` is the run's time in Unix seconds; ``op`` is ``do``, ``undo``
    or empty for events of the whole run."""

    seq: int
    run_id: str
    epoch: int
    ts: float
    node: str
    op: str
    attempt: int
    kind: str
    data: Mapping[str, Any]
    prev_hash: str
    hash: str


def canonical(data: Mapping[str, Any]) -> str:
    """JSON in one defined form: what is stored, and what is hashed."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def event_hash(
    prev_hash: str, run_id: str, epoch: int, ts: float, node: str, op: str, attempt: int,
    kind: str, data_text: str,
) -> str:
    """sha256 over the previous hash and every field; hex."""
    parts = (prev_hash, run_id, str(epoch), repr(ts), node, op, str(attempt), kind, data_text)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
