"""Playing faults at every step in turn: each in a world of its own, several worlds at a time, or
one after the other in the one world there is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace

from runbook.cli import wiring
from runbook.cli.controllers import Job, control
from runbook.cli.stages import Snapshot, Stage, Stages
from runbook.engine.coverage import NOTHING, Cell, Coverage, column_of, faults_to_play, judge, rows
from runbook.engine.faults import CUT, MADE_UP
from runbook.engine.rollback import past_return
from runbook.errors import Errored, RunbookError
from runbook.journal import Store
from runbook.model.events import Event
from runbook.model.faults import Fault
from runbook.model.folding import fold
from runbook.model.plan import Plan
from runbook.model.runstate import RunState
from runbook.model.state import RunPhase

_WENT_BACK = frozenset({RunPhase.ROLLED_BACK, RunPhase.NOT_RESTORED})

Progress = Callable[[Cell, int, int], None]
"""A cell is played: the cell, how many are, how many there will be (0: not known yet)."""


@dataclass(frozen=True, slots=True)
class _Played:
    """One run in one world, when all was over."""

    cell: Cell
    state: RunState
    events: Sequence[Event]
    moved: Snapshot | None
    """The world at the end of the way forward, where the run came to it."""


@dataclass(slots=True)
class Campaign:
    """Every fault of ``faults`` at every step it can strike; ``steps``: at these alone.

    ``jobs`` worlds at a time, where there are several.
    """

    plan: Plan
    store: Store
    stages: Stages
    faults: Sequence[Fault]
    steps: Sequence[str] = ()
    jobs: int = 1
    progress: Progress = lambda cell, done, whole: None
    _touched: dict[str, list[str]] = field(default_factory=dict)
    _usual: Snapshot | None = None
    """The world after the move without a fault."""
    _unsteady: set[str] = field(default_factory=set)
    """Things that differ between two such moves."""
    _stop: threading.Event = field(default_factory=threading.Event)

    def play(self) -> Coverage:
        """Play it all; what goes wrong in one world is the verdict on its cell. Raises what
        keeps the first world from coming up at all: InvalidInput, Refused, Errored."""
        began = time.monotonic()
        # A second move without a fault tells what differs between two moves by itself. Only a
        # fault that lets the run go on to its end is held against the first.
        calm = 2 if any(fault.kind != "fail" for fault in self.faults) else 1
        jobs = 1 if self.stages.one else self.jobs
        with ThreadPoolExecutor(jobs, thread_name_prefix="world") as pool:
            try:
                first, *again = [task.result() for task in
                                 [pool.submit(self._calm, number) for number in range(calm)]]
                problems = self._learn(first, again) or self._left_behind(first, *again)
                played = [first]
                self.progress(first.cell, calm, 0)
                if not problems and self.stages.one:
                    problems = self._one_after_the_other(played, done=calm)
                elif not problems:
                    played += self._in_turn(pool, first.state, done=calm)
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        cells = [one.cell for one in played]
        return Coverage(
            runbook=self.plan.runbook, title=self.plan.title, digest=self.plan.digest,
            level=self.stages.level, columns=tuple(dict.fromkeys(map(column_of, self.faults))),
            steps=rows(self.plan, [(p.state, p.events) for p in played], cells, self._touched),
            cells=tuple(cells), only=self._only(), problems=problems,
            real_seconds=time.monotonic() - began, back_seconds=first.cell.back_seconds,
        )

    def _only(self) -> tuple[str, ...]:
        """Those of ``steps``, in the order of the plan, where some of its steps are left out."""
        struck = tuple(step.id for step in self.plan.steps if step.id in self.steps)
        return struck if len(struck) < len(self.plan.steps) else ()

    def _learn(self, first: _Played, again: Sequence[_Played]) -> tuple[str, ...]:
        """What a move without a fault does; or why nothing can be learned from it."""
        bad = [one.cell.why for one in (first, *again) if one.moved is None]
        if bad or first.moved is None:
            return (f"without any fault it does not get through: {bad[0]}",)
        self._usual = first.moved
        self._touched = self.stages.touched(first.state.run_id)
        for one in again:
            if one.moved is not None:
                found = self.stages.differences(first.moved, one.moved)
                self._unsteady |= {difference.thing for difference in found}
        return ()

    def _left_behind(self, *played: _Played) -> tuple[str, ...]:
        """Why the one world cannot be played in again; nothing where there are several."""
        # What a step without a way back has left would be there already for the next run.
        bad = next((p.cell for p in played if not p.cell.good or p.cell.declared), None)
        if bad is None or not self.stages.one:
            return ()
        what = f"{bad.column} at {bad.step}" if bad.step else "the move without a fault"
        return (f"it is not known to be as it was before, after {what} (run {bad.run}): nothing "
                "further was played",)

    def _one_after_the_other(self, played: list[_Played], *, done: int) -> tuple[str, ...]:
        """Adds to ``played``, as long as the world is as it was; why it is not."""
        faults = faults_to_play(played[0].state, self.faults, self.steps)
        for number, fault in enumerate(faults, 1):
            played.append(self._struck(fault))
            self.progress(played[-1].cell, done + number, done + len(faults))
            problems = self._left_behind(played[-1])
            if problems:
                return problems
        return ()

    def _in_turn(
        self, pool: ThreadPoolExecutor, usual: RunState, *, done: int
    ) -> list[_Played]:
        faults = faults_to_play(usual, self.faults, self.steps)
        tasks = [pool.submit(self._struck, fault) for fault in faults]
        for task in as_completed(tasks):
            done += 1
            self.progress(task.result().cell, done, done + sum(not t.done() for t in tasks))
        return [task.result() for task in tasks]

    def _calm(self, number: int) -> _Played:
        return _OneWorld(self, None, watched=number == 0).play()

    def _struck(self, fault: Fault) -> _Played:
        return _OneWorld(self, fault, watched=False).play()

    def unlike(self, moved: Snapshot) -> list[str]:
        """What a move left otherwise than one without a fault."""
        if self._usual is None:
            return []
        found = self.stages.differences(self._usual, moved)
        return [d.text for d in found if d.thing not in self._unsteady]

    def whose(self) -> dict[str, list[str]]:
        """By step the things of the world that it changes, as far as that is known yet."""
        return self._touched

    def check(self) -> None:
        """Raises Errored when the campaign has been called off."""
        if self._stop.is_set():
            raise Errored("the rehearsal was stopped")


class _OneWorld:
    """One fault, or none, in one world: forward, and back to where it began."""

    def __init__(self, campaign: Campaign, fault: Fault | None, *, watched: bool) -> None:
        self.campaign = campaign
        self.fault = fault
        self.watched = watched
        self.run = ""
        self.moved: Snapshot | None = None
        self.changed: list[tuple[str, str]] = []
        self.lost: int | None = None
        self.trouble = ""
        self.struck = True

    def play(self) -> _Played:
        """Raises only when no run came to be."""
        began = time.monotonic()
        campaign, fault = self.campaign, self.fault
        try:
            with campaign.stages.open() as stage:
                self._there_and_back(stage)
        except RunbookError as mishap:
            if not self.run:
                raise
            self.trouble = self.trouble or mishap.message
        state, events = self._journal()
        cell = judge(
            state, events, column=column_of(fault) if fault else NOTHING,
            step=fault.step if fault else "", changed=self.changed,
            touched=self._touched(), lost=self.lost,
            real_seconds=time.monotonic() - began, trouble=self.trouble, struck=self.struck,
        )
        return _Played(cell, state, events, self.moved)

    def _touched(self) -> dict[str, list[str]]:
        own = self.campaign.stages.touched(self.run) if self.watched else {}
        return own or self.campaign.whose()

    def _there_and_back(self, stage: Stage) -> None:
        campaign, store = self.campaign, self.campaign.store
        campaign.check()
        before = stage.snapshot()
        self.run = store.create(campaign.plan, who=wiring.person(), now=stage.now(),
                                level=campaign.stages.level)
        campaign.stages.pinned(self.run)
        self._forward(stage)
        state, _ = self._journal()
        if state.phase not in _WENT_BACK:
            self._back(state)
        self.lost = stage.lost(self.run)
        found = campaign.stages.differences(before, stage.snapshot())
        self.changed = [(d.thing, d.text) for d in found]

    def _forward(self, stage: Stage) -> None:
        fault = self.fault
        killed = self._control(replace(
            self._job(), endpoints_file=stage.endpoints_file,
            faults=(fault,) if fault and fault.moment != "undo" else (),
            watch=stage.watch if self.watched else None,
        ))
        if killed:
            if fault is None or fault.kind != "kill":
                raise Errored("the controller was killed, and not by the rehearsal")
            self._control(replace(self._job(), resume=True))
        state, events = self._journal()
        if fault is not None and fault.kind == "fail":
            self.struck = any(e.kind == "failed" and _on_purpose(e, fault) for e in events)
            return
        if fault is not None and fault.kind == "kill" and fault.moment != "undo":
            self.struck = killed
        if fault is not None and fault.kind == "cut":
            self.struck = any(text.startswith(CUT) for _, _, text in state.notes)
        if state.phase is not RunPhase.DONE:
            self.trouble = f"it did not get through: {state.phase}, {state.why}"
            return
        self.moved = stage.snapshot()
        unlike = self.campaign.unlike(self.moved)
        if unlike:
            self.trouble = f"it ended otherwise than without the fault: {'; '.join(unlike[:5])}"

    def _back(self, state: RunState) -> None:
        """As a person would order it, who accepts by name the loss that has to be accepted."""
        loss = [step.id for step in past_return(state, None)]
        fault = self.fault
        on_the_way = fault is not None and fault.moment == "undo"
        killed = self._control(replace(
            self._job(), resume=True, faults=(fault,) if fault and on_the_way else (), order={
                "why": "the way back is rehearsed", "to": None, "accept_loss": loss,
                "accept_drift": [],
            },
        ))
        if killed and not on_the_way:
            raise Errored("the controller was killed, and not by the rehearsal")
        if killed:
            self._control(replace(self._job(), resume=True))
        if on_the_way:
            self.struck = killed

    def _job(self) -> Job:
        campaign = self.campaign
        return Job(state=campaign.store.directory, run=self.run, level=campaign.stages.level)

    def _control(self, job: Job) -> bool:
        """One controller at work, to its end; whether it was killed."""
        self.campaign.check()
        return control(job) is None

    def _journal(self) -> tuple[RunState, list[Event]]:
        plan, events = self.campaign.store.load(self.run)
        return fold(self.run, plan, events), events


def _on_purpose(event: Event, fault: Fault) -> bool:
    made_up = event.data.get("error") == MADE_UP
    return made_up and event.node.partition("@")[0] == fault.step
