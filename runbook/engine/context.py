"""What every part of the engine shares about one run being driven."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from runbook.engine.halt import Halt
from runbook.engine.history import Reckoning
from runbook.journal import Draft, Lease, Message
from runbook.model.actions import Action, ActionKey, RunCommand
from runbook.model.events import Event
from runbook.model.folding import apply, check
from runbook.model.kind import Kind
from runbook.model.plan import Node, Plan, PlannedStep
from runbook.model.ports import Clock, OutsideClient, World
from runbook.model.runbook import REAL_LEVELS
from runbook.model.runstate import NodeStatus, ProbeSummary, RunState

ANSWER_LOOK_EVERY = 0.2
"""Real seconds between two looks into the inbox."""


class Observer:
    """Is told of everything as it is committed. Views subclass it; the base ignores all."""

    def on_event(self, event: Event, state: RunState) -> None:
        """One event is durable and folded in. Called one at a time, in order."""

    def on_output(self, node: str, line: str) -> None:
        """A line of live output, redacted. Called from many threads."""

    def on_question(self, node: str, question: Mapping[str, Any]) -> None:
        """A node asks people. Called once for each question; answers come by the inbox."""


@dataclass(slots=True)
class Signals:
    """How the rest of the program speaks to a run being driven."""

    stop: threading.Event = field(default_factory=threading.Event)
    """Set once: stop at the next checkpoint. Wakes every wait."""
    changed: threading.Condition = field(default_factory=threading.Condition)
    """Notified whenever something happened that the driver may wait for."""

    def notify(self) -> None:
        with self.changed:
            self.changed.notify_all()


class Faults:
    """Faults of a rehearsal. The base has none; a live run never has any."""

    told: tuple[str, ...] = ()
    """Each in words, for the journal."""
    slowed: float = 1.0
    """How many times as long everything takes: durations of such a run tell nothing."""

    def around(self, world: World) -> World:
        """The world as the run shall see it."""
        return world

    def intended(self, node: str, actions: Sequence[Action]) -> None:
        """The intent of a node's doing is durable, and nothing of it has begun."""

    def acted(self, node: str) -> None:
        """A node's actions took effect, or a check has looked; the journal does not know yet."""

    def undone(self, node: str) -> None:
        """The actions of a node's undo took effect; the journal does not know yet."""

    def after_actions(self, node: str) -> str | None:
        """Why the node fails after its actions took effect; None: it does not."""
        return None


@dataclass(slots=True)
class AtWork:
    """Commands at work that a decision to go back may end. See :mod:`runbook.engine.interrupts`."""

    commands: dict[str, tuple[RunCommand, ActionKey]] = field(default_factory=dict)
    interrupted: set[str] = field(default_factory=set)
    """Keys of those that were told to end."""
    ending: bool = False
    mutex: threading.Lock = field(default_factory=threading.Lock)


class Stopping(Exception):
    """A wait was cut short because the run is to stop or to turn back."""


class LeftOut(Exception):
    """A wait was cut short because a person has left out the node that waited."""


class RunContext:
    """One run under one lease. ``state`` changes only through :meth:`append`."""

    def __init__(
        self, *, plan: Plan, state: RunState, lease: Lease, world: World,
        kinds: Mapping[str, type[Kind]], observer: Observer, real: Clock, who: str,
        faults: Faults | None = None, reckoning: Reckoning | None = None,
        outside: OutsideClient | None = None,
    ) -> None:
        self.plan = plan
        self.state = state
        self.lease = lease
        self.faults = faults or Faults()
        self.world = self.faults.around(world)
        self.kinds = kinds
        self.observer = observer
        self.real = real
        """Real time, for looking into the inbox; the run's own time is ``world.clock``."""
        self.who = who
        self.reckoning = reckoning or Reckoning()
        """What steps and their undos are thought to take."""
        self.outside = outside
        """Who asks for the probes of budgets; None: nobody does."""
        self.at_work = AtWork()
        self.next_limit: Callable[[], float | None] = lambda: None
        """The next moment at which a limit is passed, were nothing else to happen; set by who
        watches them."""
        self.looked_at = float("-inf")
        """The run's time when the limits were last looked at."""
        self.look_now = threading.Event()
        self.probe_readings: dict[str, Callable[[], ProbeSummary]] = {}
        """Of the probes of budgets that are at work, what each knows now."""
        self.refused: dict[str, str] = {}
        """Steps that were not started, and why."""
        self.clock_as_begun: dict[str, Mapping[str, Any]] = {}
        """The back-out clock as a step began, until its first intent takes it along."""
        self.signals = Signals()
        self.turn_back = threading.Event()
        """Set when forward work shall end because a rollback or a hold was decided."""
        self.halt = Halt()
        """Set with either ``signals.stop`` or ``turn_back``: wakes waits of forward work."""
        self.fresh_tries: set[str] = set()
        """Nodes a person wants tried anew, whatever retries they have used."""
        self.slots = threading.BoundedSemaphore(plan.policy.max_parallel)
        """Nodes at work at the same time."""
        self.delivered: set[int] = set()
        """Inbox messages handed to a node that has not journaled them yet."""
        self._answers: dict[str, list[Message]] = {}
        self._answers_mutex = threading.Lock()
        self._broken_screens: list[str] = []
        lease.check = partial(check, state)
        lease.on_commit = self._committed

    @property
    def clock(self) -> Clock:
        """The run's time. Waits pause where a limit may be passed, until that was looked at."""
        return _Watched(self)

    def probes(self) -> Mapping[str, ProbeSummary]:
        """What the probes of budgets know now, by budget."""
        return {name: read() for name, read in self.probe_readings.items()}

    def now(self) -> float:
        return self.world.clock.now()

    def status(self, node: str) -> NodeStatus:
        return self.state.nodes[node]

    def append(self, *drafts: Draft, taken: Sequence[int] = ()) -> list[Event]:
        """Make events durable and fold them in. Raises JournalFault or Fenced."""
        return self.lease.append(
            [_redacted(self.world.redact, d) for d in drafts], ts=self.now(), taken=taken
        )

    def node_event(
        self, kind: str, node: str, attempt: int, op: str = "do", **data: Any
    ) -> None:
        self.append(Draft(kind, node=node, op=op, attempt=attempt, data=data))

    def _committed(self, event: Event) -> None:
        apply(self.state, event)
        try:
            self.observer.on_event(event, self.state)
        except Exception as fault:  # noqa: BLE001 - a screen that breaks must not end a run
            self._without_screen(fault)
        self.signals.notify()

    def output(self, node: str, line: str) -> None:
        """Show a line of live output, redacted."""
        try:
            self.observer.on_output(node, line)
        except Exception as fault:  # noqa: BLE001 - as above; the output itself is kept on disk
            self._without_screen(fault)

    def _without_screen(self, fault: Exception) -> None:
        self._broken_screens.append(f"the screen broke and was given up: "
                                    f"{type(fault).__name__}: {fault}")
        self.observer = Observer()

    def tell_broken_screens(self) -> None:
        """Journal it: not possible where it breaks, in the middle of a commit."""
        while self._broken_screens:
            self.append(Draft("note", data={"text": self._broken_screens.pop()}))

    def stop(self) -> None:
        self.signals.stop.set()
        self.halt.set()
        self.signals.notify()

    def turn(self) -> None:
        self.turn_back.set()
        self.halt.set()
        self.signals.notify()

    def key(self, node: str, op: str, attempt: int, index: int) -> ActionKey:
        return ActionKey(
            run=self.state.run_id, node=node, op="undo" if op == "undo" else "do",
            attempt=attempt, index=index, epoch=self.lease.epoch,
        )

    @contextlib.contextmanager
    def idle(self) -> Iterator[None]:
        """Around a wait inside a node's work: the slot is free for others meanwhile."""
        self.slots.release()
        try:
            yield
        finally:
            self.slots.acquire()

    def deliver(self, message: Message) -> None:
        """Hand a person's answer to the node that asked."""
        with self._answers_mutex:
            self._answers.setdefault(message.node, []).append(message)
        self.signals.notify()

    def answers(self, node: str) -> list[Message]:
        """Answers for a node not yet looked at; each is given once."""
        with self._answers_mutex:
            return self._answers.pop(node, [])

    def kind_of(self, name: str, args: Mapping[str, Any]) -> Kind:
        return self.kinds[name].model_validate(dict(args))

    def step_of(self, node: Node) -> PlannedStep:
        return self.plan.by_id[node.step]


class _Watched:
    """The clock of the world, for the waits of a run.

    In a sandbox time is played faster while somebody waits, and could pass a limit by hours
    between two looks. So a wait stops there and has the driver look, which may end it.
    """

    def __init__(self, ctx: RunContext) -> None:
        self._ctx = ctx

    def now(self) -> float:
        return self._ctx.world.clock.now()

    def wait(self, until: float, wake: threading.Event | None = None) -> bool:
        ctx, clock = self._ctx, self._ctx.world.clock
        while True:
            # Real time passes no limit unseen.
            limit = None if ctx.state.level in REAL_LEVELS else ctx.next_limit()
            if limit is None or limit >= until or limit <= clock.now():
                return clock.wait(until, wake)
            if not clock.wait(limit, wake):
                return False
            self._have_it_looked_at(limit, wake)

    def steady(self) -> float:
        return self._ctx.world.clock.steady()

    def pause(self, seconds: float, wake: threading.Event | None = None) -> bool:
        if self._ctx.state.level in REAL_LEVELS:
            return self._ctx.world.clock.pause(seconds, wake)
        return self.wait(self.now() + seconds, wake)

    def _have_it_looked_at(self, moment: float, wake: threading.Event | None) -> None:
        ctx = self._ctx
        for _ in range(_PATIENCE):
            if ctx.looked_at >= moment or (wake is not None and wake.is_set()):
                return
            ctx.look_now.set()
            ctx.signals.notify()
            with ctx.signals.changed:
                ctx.signals.changed.wait(ANSWER_LOOK_EVERY / 10)


_PATIENCE = 250
"""Looks for the driver's look at a limit, 20 ms apart; then time goes on without."""


def _redacted(redact: Callable[[str], str], draft: Draft) -> Draft:
    return Draft(draft.kind, draft.node, draft.op, draft.attempt, _clean(draft.data, redact))


def _clean(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {_clean(key, redact): _clean(item, redact) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item, redact) for item in value]
    return value
