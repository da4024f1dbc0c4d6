"""Drives a run: forward until it is done, or turned back, or held for a person.

``drive`` is re-entrant: it needs nothing but the journal and the world, and carries on from
wherever an earlier controller stopped or died.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runbook.engine.context import ANSWER_LOOK_EVERY, RunContext, Stopping
from runbook.engine.graph_runner import GraphRunner
from runbook.engine.limits import overruns
from runbook.engine.rollback import begin_rollback, past_return, run_rollback
from runbook.engine.steps import StepOutcome, finished, run_step
from runbook.errors import ExitCode, Refused
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
    accept_drift: tuple[str, ...] = ()
    who: str = ""


def drive(ctx: RunContext) -> Driven:
    """Drive until there is nothing left to do without a person.

    Raises JournalFault or Fenced, after which nothing further was started.
    """
    driver = _Driver(ctx)
    try:
        return driver.drive()
    except Stopping:
        why = "stopped on request; everything done so far is in the journal"
        ctx.append(Draft("paused", data={"why": why}))
        return Driven(ctx.state.phase, ExitCode.STOPPED, why)


class _Driver:
    def __init__(self, ctx: RunContext) -> None:
        self.ctx = ctx
        self.decision: _Decision | None = None
        self._next_look = 0.0

    def drive(self) -> Driven:
        ctx = self.ctx
        self._take_messages()
        if not ctx.state.rolling_back and self.decision is None:
            self._forward()
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
        GraphRunner(self.ctx, after, self._work, tick=self._tick).run()
        while self.ctx.state.phase is RunPhase.PAUSED and not self.ctx.halt.is_set():
            with self.ctx.signals.changed:
                self.ctx.signals.changed.wait(ANSWER_LOOK_EVERY)
            if self._tick():
                self._forward()
        self._watch_limits()

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
        if outcome is StepOutcome.IN_DOUBT:
            self._decide(_Decision("hold", f"step {name} is in doubt"))
            return False
        return self._failed(step)

    def _failed(self, step: PlannedStep) -> bool:
        bad = {NodeState.FAILED, NodeState.ERRORED}
        status = next(
            ctx_status for node in step.nodes
            if (ctx_status := self.ctx.status(node.id)).state in bad
        )
        why = f"step {step.id} {status.state}: {status.detail}"
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
            if finished(ctx.state, step):
                return True
            with ctx.signals.changed:
                ctx.signals.changed.wait(ANSWER_LOOK_EVERY)
        return False

    def _decide(self, decision: _Decision) -> None:
        """The first decision stands, but a rollback outweighs a hold."""
        if self.decision is None or (
            self.decision.what == "hold" and decision.what == "rollback"
        ):
            self.decision = decision
        self.ctx.turn()

    def _tick(self) -> bool:
        """Between two starts: hear people, watch limits. False: start nothing new."""
        ctx = self.ctx
        if ctx.real.now() >= self._next_look:
            self._next_look = ctx.real.now() + ANSWER_LOOK_EVERY
            self._take_messages()
            self._watch_limits()
        return not ctx.halt.is_set() and ctx.state.phase is not RunPhase.PAUSED

    def _watch_limits(self) -> None:
        for overrun in overruns(self.ctx.plan, self.ctx.state, self.ctx.now()):
            self.ctx.append(Draft("breach", data={
                "what": overrun.what, "limit": overrun.limit, "measured": overrun.measured,
                "action": overrun.action}))
            if overrun.action in {"rollback", "hold"}:
                self._decide(_Decision(overrun.action, f"{overrun.what} overran its limit"))

    # -- people ----------------------------------------------------------------------------

    def _take_messages(self) -> None:
        for message in self.ctx.lease.store.inbox(self.ctx.state.run_id):
            if message.node and message.node not in self.ctx.state.nodes:
                self._note(message, f"{message.verb}: there is no step {message.node!r}")
            elif message.verb in {"approve", "reject"}:
                self._answer(message)
            else:
                self._order(message)

    def _answer(self, message: Message) -> None:
        if self.ctx.status(message.node).question:
            # The node that asked journals the answer and takes it from the inbox with it.
            if message.id not in self.ctx.delivered:
                self.ctx.delivered.add(message.id)
                self.ctx.deliver(message)
        else:
            self._note(message, f"{message.verb} came when nothing was asked")

    def _order(self, message: Message) -> None:
        ctx, data = self.ctx, message.data
        decision = Draft("decision", node=message.node,
                         data={**data, "verb": message.verb, "who": message.who})
        effect: tuple[Draft, ...] = ()
        if message.verb == "pause":
            effect = (Draft("paused", data={"why": f"paused by {message.who}"}),)
        elif message.verb == "continue":
            effect = (Draft("continued"),)
        elif message.verb == "rollback":
            self._decide(_Decision(
                "rollback", f"asked by {message.who}: {data.get('why') or 'no reason given'}",
                to=data.get("to"), accept_loss=tuple(data.get("accept_loss", ())),
                accept_drift=tuple(data.get("accept_drift", ())), who=message.who))
        elif message.verb == "retry":
            ctx.fresh_tries.add(message.node)
        elif message.verb in {"skip", "resolve"}:
            effect = self._about_node(message)
        ctx.append(decision, *effect, taken=(message.id,))

    def _about_node(self, message: Message) -> tuple[Draft, ...]:
        ctx, node = self.ctx, message.node
        status = ctx.status(node)
        number = max(status.attempt, 1)
        why = f"{message.who}: {message.data.get('why') or 'no reason given'}"
        may_skip = {NodeState.PENDING, NodeState.FAILED, NodeState.ERRORED, NodeState.IN_DOUBT,
                    NodeState.ROLLED_BACK}
        if message.verb == "skip" and status.state in may_skip:
            return (Draft("skipped", node, "do", number, {
                "why": f"skipped by {why}", "outputs": message.data.get("outputs", {})}),)
        if message.verb == "resolve" and status.state is NodeState.IN_DOUBT:
            if message.data.get("outcome") == "done":
                return (Draft("done", node, "do", number, {"results": [], "how": why}),)
            ctx.fresh_tries.add(node)
            return (Draft("failed", node, "do", number, {
                "error": f"not done, says {why}"}),)
        return (Draft("note", node, data={
            "text": f"{message.verb} by {message.who} came too late: {node} is {status.state}"}),)

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
            names = ", ".join(s.id for s in past_return(self.ctx.state, decision.to))
            return self._hold(f"{decision.why}; not taken back by itself: {names} is past the "
                              f"point of no return. {fault.hint}")
        return None

    def _rollback(self) -> Driven:
        drift = self.decision.accept_drift if self.decision else ()
        phase = run_rollback(self.ctx, accept_drift=drift)
        code = {
            RunPhase.ROLLED_BACK: ExitCode.ROLLED_BACK,
            RunPhase.NOT_RESTORED: ExitCode.NOT_RESTORED,
        }.get(phase, ExitCode.HELD)
        return Driven(phase, code, self.ctx.state.why)

    def _hold(self, why: str) -> Driven:
        self.ctx.append(Draft("held", data={"why": why}))
        doubt = any(n.state is NodeState.IN_DOUBT for n in self.ctx.state.nodes.values())
        return Driven(RunPhase.HELD, ExitCode.IN_DOUBT if doubt else ExitCode.HELD, why)
