"""Rollback coverage: which faults were played at which steps, and whether the way back held.

Pure: plays nothing. A *cell* is one fault at one step, played in a world of its own; all cells
together are the matrix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runbook.engine.actions_json import actions_from_json
from runbook.engine.faults import ssh_hosts
from runbook.engine.undo import needs_undo
from runbook.model.actions import AskOperator, Confirm, Notify, WaitFor
from runbook.model.events import Event
from runbook.model.faults import Fault
from runbook.model.plan import Plan
from runbook.model.runstate import NodeStatus, RunState
from runbook.model.state import NodeState, RunPhase

NOTHING = "none"
"""The column of runs without a fault."""


_LEAVES_NOTHING = (WaitFor, AskOperator, Notify, Confirm)


class Outcome(StrEnum):
    RESTORED = "restored"
    """The world is as it was before the run."""
    IRREVERSIBLE = "irreversible"
    """So is all but what steps have left that are declared to have no way back, or what was lost
    past a point of no return and accepted by name."""
    NOT_RESTORED = "not_restored"
    """Something that should have been put back was not."""
    LOST = "lost"
    """The outside client misses writes that were acknowledged."""
    BROKEN = "broken"
    """The run did not survive the fault, or did not end as it does without one."""
    NOT_REACHED = "not_reached"
    """The run never came to where the fault would have struck."""


GOOD = frozenset({Outcome.RESTORED, Outcome.IRREVERSIBLE, Outcome.NOT_REACHED})


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cell(_Frozen):
    """One fault at one step, and what came of it."""

    column: str
    """Which fault: ``none``, ``fail``, ``kill-intent``, ``kill-effect``,
    ``kill-undo``, ``cut``, ``slow-3x``."""
    step: str
    """Empty where the fault struck the whole run."""
    outcome: Outcome
    run: str = ""
    """The run in the journal."""
    why: str = ""
    """For people: what is wrong, or what is worth knowing."""
    back_seconds: float | None = None
    """How long going back took, of the run's time, from the decision to the end."""
    undo_seconds: dict[str, float] = Field(default_factory=dict)
    """The same of each step that was undone."""
    real_seconds: float = 0.0
    """How long playing it took."""
    irreversible: tuple[str, ...] = ()
    """Steps past which it went that have no way back."""
    not_restored: tuple[str, ...] = ()
    """Steps that should have been put back and were not."""
    leftovers: tuple[str, ...] = ()
    """What is not as before in the world, and is nobody's that has no way back."""
    declared: tuple[str, ...] = ()
    """What is not as before, left by steps that have no way back."""
    lost: int | None = None
    """Acknowledged writes that are gone; None: nobody counted."""
    accepted: tuple[str, ...] = ()
    """Points of no return whose loss had to be accepted."""

    @property
    def good(self) -> bool:
        return self.outcome in GOOD


class StepCoverage(_Frozen):
    """A row of the matrix."""

    step: str
    title: str = ""
    kind: str = ""
    acts: bool = False
    """It has changed something, or may have; else there is nothing to take back."""
    no_way_back: str = ""
    """Why it cannot be undone; empty: it can."""
    undo_missing: bool = False
    """It has no way back, and the runbook does not declare that."""
    point_of_no_return: bool = False
    touched: tuple[str, ...] = ()
    """What it changed in the world, where that was watched."""
    undo_seconds: float | None = None
    """The longest that undoing it took, of the run's time."""

    @property
    def undoable(self) -> bool:
        return self.acts and (not self.no_way_back or self.undo_missing)


class Coverage(_Frozen):
    """The whole matrix."""

    runbook: str
    title: str = ""
    digest: str
    level: str
    columns: tuple[str, ...]
    """The faults played, in order, without ``none``."""
    steps: tuple[StepCoverage, ...]
    cells: tuple[Cell, ...]
    only: tuple[str, ...] = ()
    """The steps that faults were played at, where it was not at all of them."""
    problems: tuple[str, ...] = ()
    """What is wrong with the whole, and not with one cell."""
    real_seconds: float = 0.0
    back_seconds: float | None = None
    """Going back from the very end, without a fault."""

    @property
    def undoable(self) -> tuple[str, ...]:
        return tuple(s.step for s in self.steps if s.undoable)

    @property
    def restored(self) -> tuple[str, ...]:
        """Steps that were put back every time."""
        bad = {step for cell in self.cells for step in cell.not_restored}
        # Where nobody is to blame, the step that the fault struck is.
        bad |= {c.step for c in self.cells if not c.good and not c.not_restored}
        return tuple(step for step in self.undoable if step not in bad)

    @property
    def irreversible(self) -> tuple[StepCoverage, ...]:
        return tuple(s for s in self.steps if s.no_way_back)

    @property
    def ok(self) -> bool:
        return (
            not self.problems and all(cell.good for cell in self.cells)
            and not any(s.undo_missing for s in self.steps)
        )

    def cell(self, step: str, column: str) -> Cell | None:
        return next((c for c in self.cells if c.step == step and c.column == column), None)

    def as_json(self) -> dict[str, Any]:
        """All of it, with what follows from it, for programs."""
        return {
            "ok": self.ok, "undoable": list(self.undoable), "restored": list(self.restored),
            "irreversible": [s.step for s in self.irreversible],
            **self.model_dump(mode="json"),
        }


def column_of(fault: Fault) -> str:
    if fault.kind == "kill":
        return f"kill-{fault.moment}"
    return f"slow-{fault.factor:g}x" if fault.kind == "slow" else fault.kind


def faults_to_play(
    state: RunState, wanted: Sequence[Fault], only: Iterable[str] = ()
) -> tuple[Fault, ...]:
    """One fault for each cell: each that is wanted, at each step that it can strike.

    ``state`` is of a run without a fault, which shows what each step does: a check has no intent
    to be killed after, and a step that speaks to no host has no SSH to be cut. ``only`` these
    steps, or all.
    """
    steps = set(only) or set(state.plan.by_id)
    found: list[Fault] = []
    for fault in wanted:
        if fault.kind == "slow":
            found.append(fault)
            continue
        for step in state.plan.steps:
            if step.id in steps and _can_strike(state, step.id, fault):
                found.append(fault.model_copy(update={"step": step.id}))
    return tuple(found)


def _can_strike(state: RunState, step: str, fault: Fault) -> bool:
    nodes = [state.nodes[node.id] for node in state.plan.by_id[step].nodes]
    begun = [node for node in nodes if node.started_at is not None
             and node.state is not NodeState.SKIPPED]
    acted = [node for node in begun if node.intended]
    if fault.kind == "cut":
        return any(ssh_hosts(actions_from_json(node.actions)) for node in acted)
    if fault.kind == "kill" and fault.moment == "intent":
        return bool(acted)
    if fault.kind == "kill" and fault.moment == "undo":
        return any(node.undo_attempt > 0 for node in nodes)
    return bool(begun)


def judge(
    state: RunState, events: Sequence[Event], *, column: str, step: str,
    changed: Sequence[tuple[str, str]], touched: Mapping[str, Sequence[str]],
    lost: int | None, real_seconds: float, trouble: str = "", struck: bool = True,
) -> Cell:
    """The verdict on one run that was taken back, or should have been.

    ``changed``: what is not as before the run, (thing, in words). ``touched``: by step the things
    that it changes. ``trouble``: what went wrong on the way. ``struck``: the fault came about.
    """
    plan = state.plan
    gone = [s.id for s in plan.steps
            if any(state.nodes[n.id].state is NodeState.IRREVERSIBLE for n in s.nodes)]
    missing = [step for step, reason in no_way_back(plan, events).items() if reason.missing]
    left = [s.id for s in plan.steps if any(needs_undo(state, n) for n in s.nodes)]
    accepted = accepted_losses(events)
    excused = {*gone, *accepted} - {*missing}
    # What is left of a step that has no undo is told once, and not laid at the others' door.
    known = _things(touched, {*excused, *missing})
    leftovers = [(thing, text) for thing, text in changed if thing not in known]
    blamed = [step for step in touched if _things(touched, {step}) & {t for t, _ in leftovers}]
    found = Cell(
        column=column, step=step, outcome=Outcome.RESTORED, run=state.run_id,
        back_seconds=back_seconds(state), undo_seconds=undo_seconds(state),
        real_seconds=real_seconds, irreversible=tuple(s for s in gone if s not in missing),
        not_restored=tuple(dict.fromkeys([*left, *missing, *blamed])),
        leftovers=tuple(text for _, text in leftovers), lost=lost, accepted=accepted,
        declared=tuple(text for thing, text in changed if thing in _things(touched, excused)),
    )

    def verdict(outcome: Outcome, why: str = "") -> Cell:
        return found.model_copy(update={"outcome": outcome, "why": why})

    if trouble:
        return verdict(Outcome.BROKEN, trouble)
    if left:
        told = [f"{n.node}: {n.detail}" for n in state.nodes.values()
                if n.state is NodeState.ROLLBACK_FAILED]
        return verdict(Outcome.NOT_RESTORED, "; ".join(told)
                       or f"it ended {state.phase} ({state.why}) with {', '.join(left)} left")
    if state.phase not in {RunPhase.ROLLED_BACK, RunPhase.NOT_RESTORED}:
        return verdict(Outcome.NOT_RESTORED, f"the run ended {state.phase}: {state.why}")
    if leftovers:
        return verdict(Outcome.NOT_RESTORED, "every step says that it was put back, but the world "
                       f"is not as it was: {_told(leftovers, touched)}")
    if missing:
        return verdict(Outcome.NOT_RESTORED, no_undo(missing))
    if lost and not (gone or accepted):
        return verdict(Outcome.LOST, f"{lost} acknowledged writes are gone")
    if not struck:
        return verdict(Outcome.NOT_REACHED, "the run did not come to where it would have struck")
    if gone or found.declared or lost:
        also = f"; {lost} acknowledged writes are gone" if lost else ""
        return verdict(Outcome.IRREVERSIBLE, f"no way back: {', '.join(gone or accepted)}{also}")
    return found


def no_undo(steps: Sequence[str]) -> str:
    return f"no undo is given for {', '.join(steps)}"


def _things(touched: Mapping[str, Sequence[str]], steps: Iterable[str]) -> set[str]:
    return {thing for step in steps for thing in touched.get(step, ())}


def _told(leftovers: Sequence[tuple[str, str]], touched: Mapping[str, Sequence[str]]) -> str:
    told = []
    for thing, text in leftovers:
        steps = [step for step, things in touched.items() if thing in things]
        told.append(f"{text} (changed by {', '.join(steps)})" if steps else text)
    return "; ".join(told)


class NoWayBack(_Frozen):
    """Why a step cannot be undone."""

    why: str
    missing: bool
    """A way back could be given, and neither is nor is it said that there is none."""


def no_way_back(plan: Plan, events: Sequence[Event]) -> dict[str, NoWayBack]:
    """By step, as far as a rollback came to it. A point of no return declares it, too."""
    found = {}
    for event in events:
        if event.kind == "irreversible":
            step = plan.by_id[plan.nodes[event.node].step]
            missing = bool(event.data.get("missing")) and not step.point_of_no_return
            found[step.id] = NoWayBack(why=str(event.data.get("why", "")), missing=missing)
    return found


def accepted_losses(events: Sequence[Event]) -> tuple[str, ...]:
    """Points of no return whose loss was accepted by name."""
    return tuple(dict.fromkeys(
        name for event in events if event.kind == "rollback_started"
        for name in event.data.get("accept_loss", ())
    ))


def back_seconds(state: RunState) -> float | None:
    """From the decision to go back to its end."""
    if state.rollback_started_at is None or state.ended_at is None:
        return None
    return max(0.0, state.ended_at - state.rollback_started_at)


def undo_seconds(state: RunState) -> dict[str, float]:
    """By step how long undoing it took; of many hosts, from the first to the last."""
    found = {}
    for step in state.plan.steps:
        nodes = [state.nodes[node.id] for node in step.nodes]
        began = [n.undo_started_at for n in nodes if n.undo_started_at is not None]
        ended = [n.undo_ended_at for n in nodes if n.undo_ended_at is not None]
        if began and ended and any(n.state is NodeState.ROLLED_BACK for n in nodes):
            found[step.id] = max(0.0, max(ended) - min(began))
    return found


def rows(
    plan: Plan, runs: Iterable[tuple[RunState, Sequence[Event]]], cells: Sequence[Cell],
    touched: Mapping[str, Sequence[str]],
) -> tuple[StepCoverage, ...]:
    """A row a step, from everything that was played."""
    acting: set[str] = set()
    reasons: dict[str, NoWayBack] = {}
    for run, events in runs:
        acting |= {plan.nodes[n.node].step for n in run.nodes.values() if _acted(n)}
        reasons |= no_way_back(plan, events)
    longest: dict[str, float] = {}
    for cell in cells:
        if cell.column.startswith("slow"):
            continue  # Not how long it takes, but how long it was made to take.
        for name, seconds in cell.undo_seconds.items():
            longest[name] = max(longest.get(name, 0.0), seconds)
    table = []
    for step in plan.steps:
        reason = reasons.get(step.id) or NoWayBack(why=step.irreversible or "", missing=False)
        table.append(StepCoverage(
            step=step.id, title=step.title, kind=step.kind, acts=step.id in acting,
            no_way_back=reason.why, undo_missing=reason.missing,
            point_of_no_return=step.point_of_no_return,
            touched=tuple(touched.get(step.id, ())), undo_seconds=longest.get(step.id),
        ))
    return tuple(table)


def _acted(node: NodeStatus) -> bool:
    """It changed something, or may have. To wait, to ask, to tell, to look leave nothing behind."""
    doing = actions_from_json(node.actions) if node.intended else []
    changing = any(not isinstance(a, _LEAVES_NOTHING) for a in doing)
    return changing or node.undo_attempt > 0 or node.state is NodeState.IRREVERSIBLE
