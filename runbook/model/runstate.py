"""What is known of a run: plain data, and what follows from it. :mod:`runbook.model.folding` makes
it of events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runbook.model.plan import Plan
from runbook.model.state import NodeState, RunPhase

WINDOW = "window"
"""Name of the limit that is passed when the window is over."""
WAY_BACK = "way back"
"""Name of the limit that is passed when going back has to begin now."""


@dataclass(slots=True)
class NodeStatus:
    """What the journal says of one node."""

    node: str
    state: NodeState = NodeState.PENDING
    attempt: int = 0
    """Attempts begun, of the doing."""
    undo_attempt: int = 0
    """The latest undo that acted; 0: none did."""
    undo_number: int = 0
    """The highest attempt number of all events of undoing, also of undos that had nothing to do."""
    undo_begun: bool = False
    """An undo intent exists since the last doing: the state may lie between the two."""
    undo_applied: int = 0
    """The undo attempt whose actions all reported success."""
    before: Mapping[str, Any] | None = None
    """Observation (JSON) journaled by the *first* intent: what undo goes back to."""
    after: Mapping[str, Any] | None = None
    actions: list[Mapping[str, Any]] = field(default_factory=list)
    """Of the latest intent."""
    undo_actions: list[Mapping[str, Any]] = field(default_factory=list)
    results: list[Mapping[str, Any]] = field(default_factory=list)
    acted: list[Mapping[str, Any]] = field(default_factory=list)
    """Results of the first actions of the latest intent, where they are journaled one by one."""
    acted_at: float | None = None
    """When the last of them ended; before that, when the intent was journaled."""
    goes_back: str = ""
    """Why it failed, where it is to go back by itself and has not yet."""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] | None = None
    """Outputs that a person gave who said that the doing is done; None: nobody did."""
    started_at: float | None = None
    ended_at: float | None = None
    undo_started_at: float | None = None
    undo_ended_at: float | None = None
    intended: bool = False
    """An intent exists that did not end as *errored*: effects may have happened."""
    intended_before: bool = False
    """The same, as it was before the latest intent."""
    doubtful: int = 0
    """Where the outcome of an action is not known: its place in ``actions``."""
    unsettled: bool = False
    """Nobody knows yet what came of the latest intent of the doing: it may be at work now."""
    undo_unsettled: bool = False
    """The same for the latest intent of the undo."""
    progress: Mapping[str, Any] = field(default_factory=dict)
    """What a look that takes long has found so far; empty when none is under way."""
    detail: str = ""
    """Last words: what was seen, the error, why skipped."""
    final: bool = False
    """It failed, and another try by itself cannot help."""
    question: str = ""
    """An open question to people; empty when none is open."""
    asked: Mapping[str, Any] = field(default_factory=dict)
    """Data of the open question: roles, quorum, …"""
    last_hash: str = ""

    @property
    def begun(self) -> bool:
        """Whether it has set about its work since it was last taken back."""
        return self.intended and self.state is not NodeState.ROLLED_BACK


@dataclass(slots=True)
class Decision:
    """What a person said, and when."""

    seq: int
    ts: float
    verb: str
    who: str
    role: str
    why: str
    node: str
    data: Mapping[str, Any]


@dataclass(slots=True)
class Breach:
    """A budget or the window was overrun."""

    ts: float
    what: str
    limit: float
    measured: float
    action: str
    detail: str = ""
    """The arithmetic, where there is any."""


@dataclass(frozen=True, slots=True)
class Lateness:
    """A step that would make it too late for the way back: the arithmetic, and what came of it."""

    ts: float
    step: str
    action: str
    """``ask``: people are asked whether to do it nevertheless; ``accepted`` or ``refused``: what
    they said; ``shown``: a rehearsal only tells it."""
    busy: float
    """Seconds that steps at work need before the way back could begin."""
    takes: float
    takes_by: str
    back: float
    back_by: str
    safety: float
    back_at: float
    """When the way back would have ended, were it to begin right after the step."""
    over: float
    """Seconds by which that is outside the window."""
    until: float
    """An acceptance holds for as long as the way back would end before this moment."""
    who: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class ProbeSummary:
    """What a budget's probe had measured when it last put it on record. All of it is known up to
    ``until`` only; after that somebody else has to know."""

    state: str
    """``up``, ``down``, or ``unknown``: nobody could ask."""
    since: float
    """Begin of that state."""
    until: float
    """Of the latest sample."""
    down: float = 0.0
    """Seconds of the outages that are over."""
    longest: float = 0.0
    """Of one of them."""
    outages: int = 0
    unknown: float = 0.0
    """Seconds nobody measured, those of an open gap left out."""
    samples: int = 0
    failed: int = 0
    why: str = ""
    """Last words of a sample that was not good."""
    began: float = 0.0
    """Of the measuring."""
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Amendment:
    """A change of the plan of a run that had begun."""

    seq: int
    ts: float
    who: str
    why: str
    was: str
    """Digest of the plan before."""
    digest: str
    changes: tuple[str, ...]
    """In words."""


@dataclass(slots=True)
class RunState:
    """A run, folded. ``plan`` is as it was last amended; ``nodes`` holds every node of it, in plan
    order."""

    run_id: str
    plan: Plan
    nodes: dict[str, NodeStatus]
    phase: RunPhase = RunPhase.RUNNING
    why: str = ""
    level: str = "live"
    """``live``, or the rehearsal level this run was."""
    who: str = ""
    faults: tuple[str, ...] = ()
    """What a rehearsal made go wrong on purpose, in words."""
    endpoints: str = ""
    """Of a sandbox run: the file that says where its world is; empty for a live run."""
    started_at: float | None = None
    ended_at: float | None = None
    rollback_started_at: float | None = None
    rollback_to: str | None = None
    rollback_why: str = ""
    accept_loss: tuple[str, ...] = ()
    """Steps whose loss was accepted with the latest order to go back."""
    accept_drift: tuple[str, ...] = ()
    """Steps whose drift was accepted with the latest order to go back."""
    owed: Mapping[str, Any] | None = None
    """A turn that was decided (``what``: rollback or hold; ``why``, and for a rollback ``to``,
    ``who``, ``accept_loss``, ``accept_drift``) and is not begun yet: it outlives a controller."""
    decisions: list[Decision] = field(default_factory=list)
    amendments: list[Amendment] = field(default_factory=list)
    retired: dict[str, NodeStatus] = field(default_factory=dict)
    """Nodes that an amendment took out of the plan: one that comes back goes on counting its
    attempts where it was."""
    breaches: list[Breach] = field(default_factory=list)
    told: frozenset[str] = frozenset()
    """Names of limits that are reported as passed, and are what they were then."""
    lateness: list[Lateness] = field(default_factory=list)
    accepted_until: float | None = None
    """Somebody has accepted, by name, that the way back ends up to then, outside the window."""
    probes: dict[str, ProbeSummary] = field(default_factory=dict)
    """By budget."""
    notes: list[tuple[float, str, str]] = field(default_factory=list)
    """(ts, node, text)."""
    spool_markers: dict[str, str] = field(default_factory=dict)
    resumed: int = 0
    rolling_back: bool = False
    last_seq: int = 0
    last_hash: str = ""
    last_ts: float = 0.0

    @classmethod
    def empty(cls, run_id: str, plan: Plan) -> RunState:
        return cls(run_id, plan, {name: NodeStatus(name) for name in plan.nodes})

    def step_state(self, step: str) -> NodeState:
        """One state for a whole step: the one that most needs a person's eye."""
        planned = self.plan.by_id[step]
        states = {self.nodes[node.id].state for node in planned.nodes}
        if not states:
            return NodeState.SKIPPED if planned.skipped else NodeState.PENDING
        for state in _WORST_FIRST:
            if state in states:
                if state is NodeState.PENDING and states - {NodeState.PENDING}:
                    return NodeState.STARTED
                return state
        return NodeState.PENDING

    def step_outputs(self, step: str) -> dict[str, Any]:
        """Outputs of a step: of its one node, or by host name where it has several."""
        planned = self.plan.by_id[step]
        found = {n.host or "": self.nodes[n.id].outputs for n in planned.nodes}
        if len(found) == 1:
            return dict(next(iter(found.values())))
        merged: dict[str, Any] = {"by_host": {host: dict(out) for host, out in found.items()}}
        return merged

    def step_times(self, step: str) -> tuple[float | None, float | None]:
        """(start of its first node, end of its last), the end only when all have ended."""
        nodes = [self.nodes[node.id] for node in self.plan.by_id[step].nodes]
        starts = [n.started_at for n in nodes if n.started_at is not None]
        ends = [n.ended_at for n in nodes if n.ended_at is not None]
        complete = bool(nodes) and len(ends) == len(nodes)
        return (min(starts) if starts else None, max(ends) if complete else None)


_WORST_FIRST = (
    NodeState.IN_DOUBT, NodeState.ROLLBACK_FAILED, NodeState.IRREVERSIBLE, NodeState.UNDOING,
    NodeState.FAILED, NodeState.ERRORED, NodeState.STARTED, NodeState.APPLIED,
    NodeState.PENDING, NodeState.ROLLED_BACK, NodeState.VERIFIED, NodeState.SKIPPED,
)
