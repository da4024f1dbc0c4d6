"""The report as plain data. See :func:`runbook.engine.report.build_report`.

Times are Unix seconds of the run's clock, durations are seconds. A report survives JSON:
``Report.model_validate_json(report.model_dump_json()) == report``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from runbook.engine.advice import Advice
from runbook.engine.simulate.foretold import Calibration, Came
from runbook.model.state import NodeState, RunPhase

REPORT_SCHEMA = 1

Outcome = Literal["good", "bad", "mixed", "open"]
Restoration = Literal[
    "restored", "nothing to undo", "failed", "irreversible", "in progress", "not reached"
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeLine(_Frozen):
    node: str
    host: str
    state: NodeState
    attempts: int
    started_at: float | None
    ended_at: float | None
    detail: str


class StepLine(_Frozen):
    """A step, planned against actual. ``seconds`` is None while it runs or never ran."""

    id: str
    title: str
    kind: str
    owner: str
    source: str
    state: NodeState
    forward: NodeState
    """What its doing came to, whatever a rollback has made of it since."""
    planned_start: float | None
    """None: planning had left the step out."""
    planned_end: float | None
    estimate: float
    started_at: float | None
    ended_at: float | None
    seconds: float | None
    undo_started_at: float | None
    undo_ended_at: float | None
    hosts: int
    hosts_done: int
    attempts: int
    critical: bool
    point_of_no_return: bool
    detail: str
    nodes: tuple[NodeLine, ...]
    """Only of a step on several hosts."""


class CriticalLink(_Frozen):
    step: str
    op: Literal["do", "undo"]
    start: float
    end: float | None
    waited: float


class BudgetLine(_Frozen):
    name: str
    from_edge: str
    to_edge: str
    limit: float
    state: Literal["waiting", "running", "closed"]
    since: float | None
    until: float | None
    seconds: float | None
    breached: bool
    by_rollback: bool
    probe: str = ""
    """What a client outside asked, and from where; empty: an interval of the journal."""
    counts: Literal["total", "longest"] = "total"
    service: Literal["", "up", "down", "unknown"] = ""
    unknown: float = 0.0
    """Seconds that nobody measured."""
    outages: int = 0
    samples: int = 0
    failed: int = 0
    why: str = ""


class ClockLine(_Frozen):
    """What the back-out clock said as a step began."""

    step: str
    ts: float
    remaining: float
    backout: float
    settle: float
    margin: float
    basis: str


class LateLine(_Frozen):
    """A step that would make it too late for the way back, and what came of it."""

    ts: float
    step: str
    action: str
    busy: float
    takes: float
    takes_by: str
    back: float
    back_by: str
    safety: float
    back_at: float
    over: float
    who: str
    why: str


class RollbackLine(_Frozen):
    step: str
    outcome: Restoration
    started_at: float | None
    seconds: float | None
    estimate: float
    detail: str


class Rollback(_Frozen):
    why: str
    to: str
    started_at: float
    ended_at: float | None
    seconds: float | None
    steps: tuple[RollbackLine, ...]
    reckoned: float | None = None
    """What the back-out clock said as it began."""


class DecisionLine(_Frozen):
    ts: float
    who: str
    role: str
    verb: str
    node: str
    why: str
    evidence: str
    outputs: dict[str, Any] = {}
    """What the person said that the step would have given, for the steps behind it."""


class BreachLine(_Frozen):
    ts: float
    what: str
    limit: float
    measured: float
    action: str
    detail: str = ""


class NoteLine(_Frozen):
    ts: float
    node: str
    text: str


class Incident(_Frozen):
    """Something that went wrong, whether or not a retry mended it."""

    ts: float
    node: str
    op: str
    attempt: int
    kind: str
    error: str


class Resumption(_Frozen):
    ts: float
    who: str
    controller: str


class OutputFile(_Frozen):
    """Where the whole output of one action is kept on the controller."""

    node: str
    op: str
    attempt: int
    index: int
    exit_code: int | None
    stdout_path: str
    stderr_path: str


class Measure(_Frozen):
    """A number from outside the journal: outage seconds, writes. ``good`` None: no judgement."""

    name: str
    label: str
    text: str
    good: bool | None = None


class AmendmentLine(_Frozen):
    """A change of the plan while the run was under way."""

    ts: float
    who: str
    why: str
    was: str
    """Digest of the plan before."""
    digest: str
    changes: tuple[str, ...]


class Forecast(_Frozen):
    """What a simulation had said before the run, what came, and how good earlier ones were.

    ``earlier`` counts the numbers of predictions before other runs of this runbook."""

    made_at: float
    """Unix seconds, of the real time."""
    who: str
    runs: int
    fits: float | None
    decide_by: float | None
    came: tuple[Came, ...]
    earlier: Calibration


class Report(_Frozen):
    schema_version: int = REPORT_SCHEMA
    run_id: str
    runbook: str
    title: str
    owner: str
    plan_digest: str
    """Of the plan as it was last amended."""
    level: str
    """``live`` or the rehearsal level."""
    phase: RunPhase
    outcome: Outcome
    headline: str
    """One sentence: what came of it."""
    why: str
    who: str
    written_at: float
    started_at: float | None
    ended_at: float | None
    seconds: float | None
    planned_seconds: float
    timezone: str
    window_start: float | None
    window_end: float | None
    inside_window: bool | None
    """None: there is no window, or the run has not ended."""
    steps: tuple[StepLine, ...]
    critical_path: tuple[CriticalLink, ...]
    budgets: tuple[BudgetLine, ...]
    rollback: Rollback | None
    decisions: tuple[DecisionLine, ...]
    amendments: tuple[AmendmentLine, ...]
    breaches: tuple[BreachLine, ...]
    clock: tuple[ClockLine, ...] = ()
    lateness: tuple[LateLine, ...] = ()
    incidents: tuple[Incident, ...]
    notes: tuple[NoteLine, ...]
    resumptions: tuple[Resumption, ...]
    measures: tuple[Measure, ...]
    forecast: Forecast | None = None
    """None: no simulation of this plan had been made."""
    outputs: tuple[OutputFile, ...]
    journal_events: int
    journal_head: str
    next: tuple[Advice, ...]
