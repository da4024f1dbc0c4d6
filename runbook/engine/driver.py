"""Drives a run: forward until it is done, or turned back, or held for a person.

``drive`` is re-entrant: it needs nothing but the journal and the world, and carries on from
wherever an earlier controller stopped or died.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from runbook.engine.context import ANSWER_LOOK_EVERY, RunContext, Stopping
from runbook.engine.graph_runner import GraphRunner
from runbook.engine.heartbeat import heartbeats
from runbook.engine.interrupts import interrupt_all
from runbook.engine.limits import next_limit, overruns
from runbook.engine.many import nodes_named, what_failed
from runbook.engine.mishaps import words
from runbook.engine.orders import FORWARD, why_not_skipped
from runbook.engine.outputs import given_outputs
from runbook.engine.perform import some_took_effect
from runbook.engine.probing import probes
from runbook.engine.rollback import begin_rollback, run_rollback
from runbook.engine.steps import StepOutcome, finished, run_step
from runbook.errors import ExitCode, Fenced, JournalFault, Refused
from runbook.journal import Draft, Message
from runbook.model.plan import PlannedStep
from runbook.model.state import NodeState, RunPhase


@dataclass(frozen=True, slots=True)
class Driven:
    """How driving ended. The run itself may go on later, see ``phase``."""

    phase: RunPhase
    exit_code: ExitCode
    why: str


@dataclass(slots=True)
class _Decision:
    """What shall happen once work has come to a checkpoint: ``rollback`` or ``hold``."""

    what: str
    why: str
    to: str | None = None
    accept_loss: tuple[str, ...] = ()
    who: str = ""
    accept_drift: tuple[str, ...] = ()

    @classmethod
    def owed(cls, data: Mapping[str, Any]) -> _Decision:
        """From the journal (``RunState.owed``)."""
        return cls(
            what=data["what"], why=data["why"], to=data.get("to"), who=data.get("who", ""),
            accept_loss=tuple(data.get("accept_loss", ())),
            accept_drift=tuple(data.get("accept_drift", ())),
        )


def drive(ctx: RunContext) -> Driven:
    """Drive until there is nothing left to do without a person.

    Raises JournalFault or Fenced, after which nothing further was started.
    """
    driver = _Driver(ctx)
    try:
        with _quick_threads(), heartbeats(ctx), probes(ctx):
            driven = driver.drive()
        ctx.tell_broken_screens()
        return driven
    except Stopping:
        why = "stopped on request; everything done so far is in the journal"
        ctx.append(Draft("paused", data={"why": why}))
        return Driven(ctx.state.phase, ExitCode.STOPPED, why)


_SWITCH = 0.0005


@contextmanager
def _quick_threads() -> Iterator[None]:
    """A thread that has something to do waits for the one at work for 5 ms by Python's default:
    longer than most of what is done inside a critical section."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _SWITCH))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


_ABOUT_STEPS = frozenset({"approve", "reject", "retry", "skip", "resolve"})


def _names(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


class _Driver:
    def __init__(self, ctx: RunContext) -> None:
        self.ctx = ctx
        self.decision: _Decision | None = None
        self._deciding = threading.Lock()
        ctx.next_limit = lambda: next_limit(
            ctx.plan, ctx.state, ctx.now(), reckoning=ctx.reckoning)
        self._next_look = 0.0

    def drive(self) -> Driven:
        ctx = self.ctx
        self._take_messages()
        if self.decision is None and ctx.state.owed is not None:
            # Decided before, by a person or a limit, and its controller died.
            self.decision = _Decision.owed(ctx.state.owed)
        if not ctx.state.rolling_back and self.decision is None:
            self._forward()
            # An order that came with the last step is heard before the run counts as done.
            self._take_messages()
        if self.decision is not None and self.decision.what == "rollback":
            refused = self._turn_back(self.decision)
            if refused is not None:
                return refused
        if ctx.state.rolling_back:
            return self._rollback()
        if self.decision is not None:
            return self._hold(self.decision.why)
        if ctx.signals.stop.is_set():
            raise Stopping
        left = [s.id for s in ctx.plan.steps if not finished(ctx.state, s)]
        if left:
            return self._hold(f"nothing more can be started; not finished: {', '.join(left)}")
        ctx.append(Draft("run_finished", data={"phase": RunPhase.DONE, "why": ""}))
        return Driven(RunPhase.DONE, ExitCode.OK, "")

    # -- forward ---------------------------------------------------------------------------

    def _forward(self) -> None:
        done: set[str] = set()
        for step in self.ctx.plan.steps:
            # A step that was left out is no shortcut past those before it.
            if done.issuperset(step.after) and finished(self.ctx.state, step):
                done.add(step.id)
        after = {
            s.id: tuple(name for name in s.after if name not in done)
            for s in self.ctx.plan.steps if s.id not in done
        }
        GraphRunner(self.ctx, after, self._work, tick=self._tick, go_on=self._may_start).run()
        while self.ctx.state.phase is RunPhase.PAUSED and not self.ctx.halt.is_set():
            with self.ctx.signals.changed:
                self.ctx.signals.changed.wait(ANSWER_LOOK_EVERY)
            if self._tick():
                self._forward()
        ended = all(finished(self.ctx.state, step) for step in self.ctx.plan.steps)
        self._watch_limits(ended=ended)

    def _work(self, name: str) -> bool:
        ctx = self.ctx
        step = ctx.plan.by_id[name]
        try:
            outcome = run_step(ctx, step)
        except Stopping:
            return False
        if outcome is StepOutcome.FINISHED:
            return True
        if outcome is StepOutcome.STOPPED:
            return False
        if outcome is StepOutcome.REFUSED:
            policy = ctx.plan.policy
            back = (policy.window.on_breach or policy.on_breach) == "rollback"
            self._decide(_Decision("rollback" if back else "hold", ctx.refused.pop(name)))
            return False
        if outcome is StepOutcome.IN_DOUBT:
            doubt = [n.id for n in step.nodes if ctx.status(n.id).state is NodeState.IN_DOUBT]
            self._decide(_Decision("hold", f"in doubt: {nodes_named(doubt)}"))
            return False
        return self._failed(step)

    def _failed(self, step: PlannedStep) -> bool:
        why = what_failed(self.ctx.state, step)
        if step.on_failure == "ask" and self.ctx.turn_back.is_set():
            return False  # What comes next is decided.
        if step.on_failure == "ask":
            return self._ask_about(step, why)
        self._decide(_Decision("rollback" if step.on_failure == "rollback" else "hold", why))
        return False

    def _ask_about(self, step: PlannedStep, why: str) -> bool:
        """Leave a failed step to people: retry, skip or roll back, from any terminal."""
        ctx = self.ctx
        bad = [n.id for n in step.nodes
               if ctx.status(n.id).state in {NodeState.FAILED, NodeState.ERRORED}]
        asked: dict[str, Any] = {
            "question": f"{why}. Retry, skip or roll back?", "roles": [], "quorum": 1,
            "verbs": ["retry", "skip", "rollback"],
        }
        for node in bad:
            ctx.node_event("ask", node, ctx.status(node).attempt, **asked)
        ctx.observer.on_question(bad[0], asked)
        while not ctx.halt.is_set():
            if ctx.fresh_tries & set(bad):
                return self._work(step.id)
            if not any(ctx.status(name).question for name in bad):
                return self._work(step.id)
            with ctx.signals.changed:
                ctx.signals.changed.wait(ANSWER_LOOK_EVERY)
        return False

    def _decide(self, decision: _Decision) -> None:
        """The first decision stands, but a rollback outweighs a hold. While the run goes back
        already, the latest order is what comes after."""
        with self._deciding:
            if self.ctx.state.rolling_back:
                self.decision = decision
                return
            if self.decision is None or (
                self.decision.what == "hold" and decision.what == "rollback"
            ):
                self.decision = decision
        self.ctx.turn()
        if decision.what == "rollback":
            interrupt_all(self.ctx)

    def _tick(self) -> bool:
        """Between two starts: hear people, watch limits. False: start nothing new."""
        self._look()
        return self._may_start()

    def _may_start(self) -> bool:
        return not self.ctx.halt.is_set() and self.ctx.state.phase is not RunPhase.PAUSED

    def _look(self) -> None:
        ctx = self.ctx
        if ctx.real.now() >= self._next_look or ctx.look_now.is_set():
            ctx.look_now.clear()
            self._next_look = ctx.real.now() + ANSWER_LOOK_EVERY
            ctx.tell_broken_screens()
            self._take_messages()
            self._watch_limits()

    def _watch_limits(self, *, ended: bool = False) -> None:
        """``ended``: the last step is done; what overran is told, and nothing turned back."""
        ctx = self.ctx
        now = ctx.now()
        found = overruns(ctx.plan, ctx.state, now, reckoning=ctx.reckoning, probes=ctx.probes())
        for overrun in found:
            action = "warn" if ended else overrun.action
            ctx.append(Draft("breach", data={
                "what": overrun.what, "limit": overrun.limit, "measured": overrun.measured,
                "action": action, "why": overrun.why, "detail": overrun.detail}))
            if action in {"rollback", "hold"} and not ctx.state.rolling_back:
                self._decide(_Decision(action, overrun.why))
        ctx.looked_at = now
        ctx.signals.notify()

    # -- people ----------------------------------------------------------------------------

    def _take_messages(self) -> None:
        for message in self.ctx.lease.store.inbox(self.ctx.state.run_id):
            try:
                self._take(message)
            except (JournalFault, Fenced):
                raise
            except Exception as fault:  # noqa: BLE001 - it would break every resume as well
                self._note(message, f"{message.verb} was not understood, or came too late: "
                                    f"{words(fault)}")

    def _take(self, message: Message) -> None:
        known = message.node in self.ctx.state.nodes
        if not known and (message.node or message.verb in _ABOUT_STEPS):
            self._note(message, f"{message.verb}: there is no step {message.node!r}")
        elif message.verb in {"approve", "reject"}:
            self._answer(message)
        elif self.ctx.state.rolling_back and message.verb in FORWARD:
            self._note(message, f"{message.verb} came when the run was going back")
        else:
            self._order(message)

    def _answer(self, message: Message) -> None:
        status = self.ctx.status(message.node)
        if status.asked.get("verbs"):
            self._note(message, f"{message.verb} is no answer here; say one of "
                                f"{', '.join(status.asked['verbs'])}")
        elif status.question:
            # The node that asked journals the answer and takes it from the inbox with it.
            if message.id not in self.ctx.delivered:
                self.ctx.delivered.add(message.id)
                self.ctx.deliver(message)
        else:
            self._note(message, f"{message.verb} came when nothing was asked")

    def _order(self, message: Message) -> None:
        ctx, data = self.ctx, message.data
        said = {**data, "verb": message.verb, "who": message.who}
        turn: _Decision | None = None
        effect: tuple[Draft, ...] = ()
        if message.verb == "pause":
            effect = (Draft("paused", data={"why": f"paused by {message.who}"}),)
        elif message.verb == "continue":
            effect = (Draft("continued"),)
        elif message.verb == "rollback":
            turn = self._asked_back(message)
            said["turn"] = asdict(turn)
        elif message.verb == "retry":
            state = ctx.status(message.node).state
            if state not in {NodeState.FAILED, NodeState.ERRORED}:
                self._note(message, f"retry came when {message.node} was {state}")
                return
        elif message.verb in {"skip", "resolve"}:
            effect = self._about_node(message)
        ctx.append(Draft("decision", node=message.node, data=said), *effect, taken=(message.id,))
        if turn is not None:
            self._decide(turn)
        not_done = message.verb == "resolve" and any(
            d.op == "do" and d.kind in {"errored", "failed"} for d in effect)
        if message.verb == "retry" or not_done:
            ctx.fresh_tries.add(message.node)
        if message.node:
            ctx.halt.rouse(ctx.plan.nodes[message.node].step)

    def _asked_back(self, message: Message) -> _Decision:
        data, to = message.data, message.data.get("to") or None
        why = f"asked by {message.who}: {data.get('why') or 'no reason given'}"
        if to is not None and to not in self.ctx.plan.by_id:
            # Neither way: to go on forward would be the opposite of what was wanted.
            return _Decision("hold", f"{why}; not gone back, as there is no step {to!r}")
        return _Decision(
            "rollback", why, to=to, accept_loss=_names(data.get("accept_loss")),
            accept_drift=_names(data.get("accept_drift")), who=message.who,
        )

    def _about_node(self, message: Message) -> tuple[Draft, ...]:
        ctx, node = self.ctx, message.node
        status = ctx.status(node)
        number = max(status.attempt, 1)
        why = f"{message.who}: {message.data.get('why') or 'no reason given'}"
        not_skipped = why_not_skipped(status) if message.verb == "skip" else ""
        if not_skipped:
            return (Draft("note", node, data={
                "text": f"skip by {message.who} did not count: {node}: {not_skipped}"}),)
        if message.verb == "skip":
            return (Draft("skipped", node, "do", number, {
                "why": f"skipped by {why}", "outputs": self._given(message, observed=False)}),)
        may_resolve = {NodeState.IN_DOUBT, NodeState.ROLLBACK_FAILED}
        if message.verb == "resolve" and status.state in may_resolve:
            done = message.data.get("outcome") == "done"
            how: dict[str, Any] = {"error": f"not done, says {why}"}
            if done:
                how = {"results": [], "how": why}
            if done and not status.undo_unsettled:
                how["outputs"] = self._given(message, observed=True)
            if status.undo_unsettled:
                return (Draft("done" if done else "rollback_failed", node, "undo",
                              status.undo_attempt, how),)
            if status.unsettled:
                # What came before the action in doubt is there, and is to be taken back.
                undone = "failed" if some_took_effect(status) else "errored"
                return (Draft("done" if done else undone, node, "do", number, how),)
        return (Draft("note", node, data={
            "text": f"{message.verb} by {message.who} came too late: {node} is {status.state}"}),)

    def _given(self, message: Message, *, observed: bool) -> dict[str, Any]:
        """Raises Refused, which is noted: the order does not hold then."""
        return given_outputs(
            self.ctx.plan, self.ctx.plan.nodes[message.node].step,
            message.data.get("outputs") or {}, observed=observed,
        )

    def _note(self, message: Message, text: str) -> None:
        self.ctx.append(Draft("note", data={"text": f"{text} ({message.who})"}),
                        taken=(message.id,))

    # -- back ------------------------------------------------------------------------------

    def _turn_back(self, decision: _Decision) -> Driven | None:
        """Begin the rollback; when it is past the point of no return, hold instead."""
        try:
            begin_rollback(
                self.ctx, why=decision.why, to=decision.to, accept_loss=decision.accept_loss,
                accept_drift=decision.accept_drift, who=decision.who,
            )
        except Refused as fault:
            return self._hold(f"{decision.why}; not taken back by itself: {fault.message}. "
                              f"{fault.hint}")
        return None

    def _rollback(self) -> Driven:
        """Go back; and once more, where people have ordered something further meanwhile."""
        while True:
            self.decision = None
            phase = run_rollback(self.ctx, tick=self._look)
            further: _Decision | None = self.decision
            if further is None or further.what == "hold" or phase is RunPhase.ROLLED_BACK:
                break
            refused = self._turn_back(further)
            if refused is not None:
                return refused
        code = {
            RunPhase.ROLLED_BACK: ExitCode.ROLLED_BACK,
            RunPhase.NOT_RESTORED: ExitCode.NOT_RESTORED,
        }.get(phase, ExitCode.HELD)
        return Driven(phase, code, self.ctx.state.why)

    def _hold(self, why: str) -> Driven:
        self.ctx.append(Draft("held", data={"why": why, "heard": True}))
        doubt = any(n.state is NodeState.IN_DOUBT for n in self.ctx.state.nodes.values())
        return Driven(RunPhase.HELD, ExitCode.IN_DOUBT if doubt else ExitCode.HELD, why)
