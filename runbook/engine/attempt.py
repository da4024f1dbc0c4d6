"""One node, forward: observe, intend, perform, verify. Retries wrap around it.

What the journal holds when the controller dies at any line below decides what resume does:
nothing → start over; an intent → settle the doubt; ``done`` → verify only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runbook.engine.actions_json import actions_from_json, to_json
from runbook.engine.checks import Looked, observe_until, run_checks
from runbook.engine.context import LeftOut, RunContext, Stopping
from runbook.engine.late import render_late
from runbook.engine.look_ahead import LookAhead
from runbook.engine.mishaps import PASSING, words
from runbook.engine.outputs import take_outputs
from runbook.engine.perform import OutcomeUnknown, complete, perform_all
from runbook.engine.reads import NodeReads
from runbook.engine.undo import undo_node
from runbook.engine.waits import pause_for
from runbook.errors import Errored
from runbook.model.actions import Action, ActionResult, Confirm
from runbook.model.kind import Kind
from runbook.model.observation import Observation, Verdict
from runbook.model.plan import Node, PlannedStep
from runbook.model.runstate import NodeStatus
from runbook.model.state import IllegalTransition, NodeState


def run_node(ctx: RunContext, step: PlannedStep, node: Node) -> NodeState:
    """Drive a node until it is verified, skipped, in doubt, or its retries are used up.

    Picks up where the journal stands. A person may leave it out at any moment that is not between
    an intent and its outcome. Raises Stopping at a checkpoint, JournalFault, Fenced.
    """
    try:
        return _run_node(ctx, step, node)
    except (IllegalTransition, LeftOut):
        if ctx.status(node.id).state is not NodeState.SKIPPED:
            raise
        return NodeState.SKIPPED


def given_up(ctx: RunContext, step: PlannedStep, node: Node) -> bool:
    """Whether a node has failed and has no try left: :func:`run_node` would leave it so."""
    status = ctx.status(node.id)
    return (
        status.state in {NodeState.FAILED, NodeState.ERRORED} and not status.goes_back
        and node.id not in ctx.fresh_tries
        and (status.final or status.attempt > step.retry.times)
    )


def _run_node(ctx: RunContext, step: PlannedStep, node: Node) -> NodeState:
    run = _NodeRun(ctx, step, node)
    status = run.status
    if status.goes_back:
        run.go_back()
    if status.state in {NodeState.STARTED, NodeState.IN_DOUBT}:
        run.settle()
    elif status.state is NodeState.APPLIED:
        run.verify([ActionResult.model_validate(r) for r in status.results])
    begin = {NodeState.PENDING, NodeState.ROLLED_BACK}
    fresh = status.state in begin or node.id in ctx.fresh_tries
    ctx.fresh_tries.discard(node.id)
    left = step.retry.times + 1 - (0 if fresh else status.attempt)
    if status.final and not fresh:
        left = 0
    wait = step.retry.wait
    again = status.state in {NodeState.FAILED, NodeState.ERRORED} and not fresh
    while status.state in _MAY_START and left > 0:
        if again:
            with ctx.idle():
                pause_for(ctx, step.id, wait, lambda: (
                    status.state not in _MAY_START or node.id in ctx.fresh_tries))
            wait *= step.retry.backoff
        if ctx.halt.is_set():
            raise Stopping
        if status.state not in _MAY_START:
            break
        if again and node.id in ctx.fresh_tries:
            # A person wants it tried anew, and did not want to wait.
            ctx.fresh_tries.discard(node.id)
            left, wait = step.retry.times + 1, step.retry.wait
        run.attempt(status.attempt + 1)
        again, left = True, 0 if status.final else left - 1
    return status.state


_MAY_START = frozenset(
    {NodeState.PENDING, NodeState.FAILED, NodeState.ERRORED, NodeState.ROLLED_BACK}
)


_OWES = frozenset({NodeState.FAILED, NodeState.UNDOING, NodeState.ROLLBACK_FAILED})


class _NodeRun:
    def __init__(self, ctx: RunContext, step: PlannedStep, node: Node) -> None:
        self.ctx = ctx
        self.step = step
        self.node = node
        self.reads = NodeReads(ctx.plan, ctx.state, ctx.world, node, node.host)
        self.began = ctx.now()
        self._kind: Kind | None = None

    @property
    def status(self) -> NodeStatus:
        return self.ctx.status(self.node.id)

    @property
    def kind(self) -> Kind:
        if self._kind is None:
            args = render_late(self.ctx, self.step, self.node, self.node.args, self.node.late)
            self._kind = self.ctx.kind_of(self.step.kind, args)
        return self._kind

    def event(self, kind: str, attempt: int, **data: Any) -> None:
        self.ctx.node_event(kind, self.node.id, attempt, **data)

    def attempt(self, number: int) -> None:
        try:
            kind = self.kind
        except Exception as fault:  # noqa: BLE001 - nothing was begun: the step fails
            self._fail(number, f"the step's values cannot be used: {words(fault)}")
            return
        _, unmet = run_checks(self.ctx, self.step, self.node, self.node.requires)
        if unmet is not None:
            self._unmet(number, "a requirement does not hold: ", unmet)
            return
        try:
            before = kind.observe(self.reads)
            planned = kind.plan(before)
        except Errored as fault:
            self.event("errored", number, error=words(fault), started_at=self.began)
            return
        except PASSING:
            raise
        except Exception as fault:  # noqa: BLE001 - a kind that breaks fails its step
            self._fail(number, words(fault))
            return
        if planned.actions:
            self._act(number, before, complete(planned.actions, self.step))
        else:
            self.ctx.faults.acted(self.node.id)
            reason = "" if kind.check else planned.reason
            self._conclude(number, before, [], reason=reason, first=before)

    def _act(self, number: int, before: Observation, actions: Sequence[Action]) -> None:
        clock = self.ctx.clock_as_begun.pop(self.step.id, None)
        self.event("intent", number, before=to_json(before), actions=[to_json(a) for a in actions],
                   **({"clock": clock} if clock else {}))
        self.ctx.faults.intended(self.node.id, actions)
        self._perform(number, actions, resuming=False)

    def _perform(self, number: int, actions: Sequence[Action], *, resuming: bool) -> None:
        try:
            results = perform_all(self.ctx, self.node.id, "do", number, actions, resuming=resuming)
        except Errored as fault:
            self.event("errored", number, error=words(fault))
            return
        except OutcomeUnknown as fault:
            self._doubt(number, fault)
            return
        found = [to_json(r) for r in results]
        if results and not results[-1].ok:
            if isinstance(actions[len(results) - 1], Confirm):
                self._fail(number, results[-1].detail, results=found, goes_back=True)
                self.go_back()
            else:
                self._fail(number, results[-1].detail, results=found)
            return
        self.ctx.faults.acted(self.node.id)
        ahead = LookAhead(self.kind, self.reads)
        try:
            self.event("done", number, results=found)
        finally:
            first = ahead.seen()
        self.verify(results, first)

    def go_back(self) -> None:
        """After a look that did not hold: take back what this step did, and leave it failed.

        Owed until it is done, so a controller that comes later takes it up where it stands. Where
        it cannot be taken back the node says so, as in any rollback.
        """
        why = self.status.goes_back
        if self.status.state in _OWES:
            undo_node(self.ctx, self.step, self.node, accept_drift=False)
        if self.status.state is NodeState.ROLLED_BACK:
            how = self.status.detail
            self._fail(self.status.attempt, f"{why}; it went back by itself ({how})")

    def settle(self) -> None:
        """After a crash between intent and outcome, or in doubt: find out, then carry on."""
        status = self.status
        self._perform(status.attempt, actions_from_json(status.actions), resuming=True)

    def _doubt(self, number: int, fault: OutcomeUnknown) -> None:
        """Nobody can say what became of an action. The world itself may still tell."""
        why = f"the outcome of action {fault.index + 1} is unknown: {fault.message}"
        if self.status.state is not NodeState.IN_DOUBT:
            self.event("in_doubt", number, error=why, index=fault.index)
        self._reconsider()

    def _reconsider(self) -> None:
        """Look at the world for a node in doubt: done, plainly not done, or still unknown."""
        number = self.status.attempt
        before = Observation.model_validate(self.status.before or {})
        try:
            now = self.kind.observe(self.reads)
            planned = self.kind.plan(now)
            verdict = self.kind.verify(before, now)
        except PASSING:
            raise
        except Exception:  # noqa: BLE001 - still unknown, whatever broke
            # The node stays in doubt, with the question already journaled.
            return
        changed = bool(now.state) and now.state != before.state
        if changed and not planned.actions and verdict.ok:
            self.event("done", number, results=[], how="the world shows that it was done")
            self.verify([])
        elif self.kind.idempotent:
            self.event("failed", number, error="started with unknown outcome; safe to repeat")

    def verify(
        self, results: Sequence[ActionResult], first: Observation | None = None
    ) -> None:
        status = self.status
        before = Observation.model_validate(status.before or {})
        self._conclude(status.attempt, before, results, reason="", first=first)

    def _conclude(
        self, number: int, before: Observation, results: Sequence[ActionResult], *, reason: str,
        first: Observation | None,
    ) -> None:
        made_up = self.ctx.faults.after_actions(self.node.id)
        if made_up is not None:
            self._fail(number, made_up)
            return
        original = Observation.model_validate(self.status.before) if self.status.before else before
        pending = [first] if first is not None else []

        def look() -> tuple[Observation, Verdict]:
            after = pending.pop() if pending else self.kind.observe(self.reads)
            verdict = self.kind.verify(original, after)
            if after.progress and after.progress != self.status.progress:
                self.event("progress", number, progress=dict(after.progress), seen=verdict.seen)
            return after, verdict

        try:
            looked = observe_until(
                self.ctx, self.node.id, "do", look, self.step.poll or self.kind.poll)
        except PASSING:
            raise
        except Exception as fault:  # noqa: BLE001 - a kind that breaks fails its step
            self._fail(number, f"verification is not possible: {words(fault)}")
            return
        if not looked.verdict.ok or looked.observation is None:
            self._unmet(number, "", looked)
            return
        seen, unmet = run_checks(self.ctx, self.step, self.node, self.node.verify)
        if unmet is not None:
            self._unmet(number, "", unmet)
            return
        try:
            given = self.status.given
            taken = take_outputs(self.step.outputs, results) if given is None else given
            outputs = {**looked.verdict.outputs, **taken}
        except Exception as fault:  # noqa: BLE001 - outputs are whatever a command printed
            self._fail(number, words(fault))
            return
        told = results[-1].detail if results and not looked.verdict.seen else looked.verdict.seen
        self.event(
            "verified", number, before=to_json(before), after=to_json(looked.observation),
            seen="; ".join([told, *seen]), reason=reason, outputs=outputs,
            started_at=self.began,
        )

    def _unmet(self, number: int, prefix: str, looked: Looked) -> None:
        name = "errored" if looked.errored and not self._effects(number) else "failed"
        after: dict[str, Any] = {}
        if looked.observation:
            after["after"] = to_json(looked.observation)
        if looked.verdict.final:
            after["final"] = True
        self.event(name, number, error=prefix + looked.verdict.seen, started_at=self.began, **after)

    def _effects(self, number: int) -> bool:
        return self.status.intended and self.status.attempt == number

    def _fail(self, number: int, error: str, **data: Any) -> None:
        self.event("failed", number, error=error, started_at=self.began, **data)
