"""Taking one node back to the state that was observed before it acted.

Nothing is undone blindly: the present state must still be what the node left behind (else it has
drifted and a person decides), and afterwards it must be what was journaled before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from runbook.engine.actions_json import actions_from_json, to_json
from runbook.engine.checks import Looked, observe_until
from runbook.engine.context import RunContext, Stopping
from runbook.engine.late import render_late
from runbook.engine.mishaps import PASSING, words
from runbook.engine.perform import OutcomeUnknown, complete, has_effect, perform_all, quiesce
from runbook.engine.reads import NodeReads
from runbook.journal import Draft
from runbook.model.actions import Action, RunCommand
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Loss, Observation, Verdict
from runbook.model.plan import Node, PlannedStep
from runbook.model.runbook import Poll
from runbook.model.runstate import RunState
from runbook.model.state import NodeState

_CUT_SHORT = frozenset({NodeState.STARTED, NodeState.IN_DOUBT})
SETTLED = frozenset({NodeState.ROLLED_BACK, NodeState.IRREVERSIBLE})
_DEFAULT_POLL = Poll(every=1.0, timeout=30.0)


_Undo = tuple[Action, ...] | Irreversible


def needs_undo(state: RunState, node: Node) -> bool:
    """Whether a rollback has to look at the node: it once had an intent and is not yet back."""
    status = state.nodes[node.id]
    return status.intended and status.state not in SETTLED


def undo_node(ctx: RunContext, step: PlannedStep, node: Node, *, accept_drift: bool) -> None:
    """Undo a node; the outcome is journaled. Raises Stopping, JournalFault or Fenced."""
    _NodeUndo(ctx, step, node, accept_drift=accept_drift).run()


def loss_of(ctx: RunContext, step: PlannedStep, node: Node) -> Loss | None:
    """What taking a node back would lose for good, as far as anybody can tell; None: nothing."""
    if not ctx.kinds[step.kind].may_lose or node.undo is not None:
        return None
    reads = NodeReads(ctx.plan, ctx.state, ctx.world, node, node.host)
    try:
        before = Observation.model_validate(ctx.status(node.id).before or {})
        kind = ctx.kind_of(step.kind, render_late(ctx, step, node, node.args, node.late))
        return kind.loss(before, reads)
    except PASSING:
        raise
    except Exception as fault:  # noqa: BLE001 - whatever broke, what would be lost is not known
        return Loss(what=f"nobody can tell what would be lost: {words(fault)}")


def _lost(loss: Loss, step: PlannedStep) -> str:
    return f"going back over {step.id} loses something for good: {loss.what}"


def losses(ctx: RunContext, steps: Iterable[PlannedStep]) -> dict[str, str]:
    """What a rollback over these steps would lose, in words, by step. Nothing is changed."""
    found: dict[str, str] = {}
    for step in steps:
        for node in step.nodes:
            lost = loss_of(ctx, step, node) if needs_undo(ctx.state, node) else None
            if lost is not None:
                found[step.id] = _lost(lost, step)
    return found


class _NodeUndo:
    def __init__(
        self, ctx: RunContext, step: PlannedStep, node: Node, *, accept_drift: bool
    ) -> None:
        self.ctx = ctx
        self.step = step
        self.node = node
        self.accept_drift = accept_drift
        self.accept_loss = step.id in ctx.state.accept_loss
        self.began = ctx.now()
        self.status = ctx.status(node.id)
        self.before = Observation.model_validate(self.status.before or {})
        self.reads = NodeReads(ctx.plan, ctx.state, ctx.world, node, node.host)

    def run(self) -> None:
        try:
            if self.status.undo_unsettled or self.status.state is NodeState.UNDOING:
                if self.status.undo_applied == self.status.undo_attempt:
                    self._verify()
                    return
                self._perform(self.status.undo_attempt,
                              actions_from_json(self.status.undo_actions), resuming=True)
                return
            self._begin()
        except PASSING:
            raise
        except OutcomeUnknown as fault:
            self._in_doubt(fault)
        except Exception as fault:  # noqa: BLE001 - one broken undo must not keep the others back
            self._failed(words(fault))

    def _begin(self) -> None:
        if self.status.unsettled and not self._quiesced():
            return
        if self.step.irreversible is not None:
            self._irreversible(Irreversible(why=self.step.irreversible))
            return
        kind = self._kind()
        actions = self._actions(kind)
        if not isinstance(actions, Irreversible) and not actions:
            self._restored("nothing to undo")
            return
        looked, actions = self._look_back(kind, actions)
        if looked.observation is None:
            self._failed(looked.verdict.seen)
            return
        now = looked.observation
        known = bool(self.before.state)
        if known and now.state == self.before.state and self.node.undo is None:
            self._restored("the world is as it was before the step")
            return
        if not self.accept_drift and self._drifted(kind, now):
            self._failed(
                f"drift: the present state is not what this step left; {self._left(now)}. "
                f"Nothing was undone here. To overwrite it: runbook rollback "
                f"{self.ctx.state.run_id} --accept-drift {self.step.id}"
            )
            return
        lost = loss_of(self.ctx, self.step, self.node)
        if lost is not None and not self.accept_loss:
            self._failed(f"{_lost(lost, self.step)}. Nothing was undone here. To accept that: "
                         f"runbook rollback {self.ctx.state.run_id} --accept-loss {self.step.id}")
            return
        given_up = {"loss": to_json(lost)} if lost is not None else {}
        if isinstance(actions, Irreversible):
            self._irreversible(actions, **given_up)
            return
        if not actions:
            self._restored("nothing to undo any more")
            return
        number = self.status.undo_number + 1
        actions = complete(actions, self.step)
        self.ctx.node_event("intent", self.node.id, number, "undo",
                            actions=[to_json(a) for a in actions], **given_up)
        self._perform(number, actions, resuming=False)

    def _quiesced(self) -> bool:
        """Nothing of the doing is at work any more; False when nothing of it had begun either,
        which is journaled. Raises OutcomeUnknown."""
        doing = actions_from_json(self.status.actions)
        begun = quiesce(self.ctx, self.node.id, self.status.attempt, doing)
        if begun or self.status.intended_before:
            if self.status.state in _CUT_SHORT:
                self.ctx.append(self._cut_short())
            return True
        waited = not has_effect(doing)
        how = "it had only waited or asked" if waited else "nothing of it had begun"
        # Together: what is known here must not be lost between two events.
        cut = [self._cut_short()] if self.status.state in _CUT_SHORT else []
        self.ctx.append(*cut, self._draft("restored", how=how))
        return False

    def _cut_short(self) -> Draft:
        return Draft("failed", self.node.id, "do", self.status.attempt,
                     {"error": "cut short by the rollback"})

    def _kind(self) -> Kind:
        args = render_late(self.ctx, self.step, self.node, self.node.args, self.node.late)
        return self.ctx.kind_of(self.step.kind, args)

    def _actions(self, kind: Kind) -> _Undo:
        if self.node.undo is not None:
            made = render_late(self.ctx, self.step, self.node, {"undo": self.node.undo},
                               self.node.late)
            return (RunCommand(host=self.node.host, script=str(made["undo"])),)
        return kind.undo(self.before)

    def _look_back(
        self, kind: Kind, actions: _Undo
    ) -> tuple[Looked, _Undo]:
        """What is there now, and the actions that fit it; looked at again where nobody could be
        asked, as long as the kind polls."""
        chosen = actions

        def look() -> tuple[Observation, Verdict]:
            nonlocal chosen
            now = kind.observe(self.reads)
            if self.node.undo is None:
                chosen = kind.undo_from(self.before, now)
            return now, Verdict(ok=True, seen="")

        looked = observe_until(self.ctx, self.node.id, "undo", look, kind.poll)
        return looked, chosen

    def _drifted(self, kind: Kind, now: Observation) -> bool:
        """Only a verified step left a state that is known; half-done work cannot drift, unless
        its kind knows every state that it comes by."""
        if self.status.undo_begun:
            return False
        if self.status.after is None:
            ways = () if self.node.undo is not None else kind.on_the_way(self.before)
            return bool(ways) and now.state not in (self.before.state, *ways)
        after = Observation.model_validate(self.status.after)
        return bool(after.state) and now.state not in (after.state, self.before.state)

    def _left(self, now: Observation) -> str:
        """What has changed since this step."""
        after = Observation.model_validate(self.status.after or self.status.before or {})
        return _difference(after.state, now.state)

    def _perform(self, number: int, actions: Sequence[Action], *, resuming: bool) -> None:
        results = perform_all(self.ctx, self.node.id, "undo", number, actions, resuming=resuming)
        if results and not results[-1].ok:
            self._failed(f"the undo was refused: {results[-1].detail}")
            return
        self.ctx.faults.undone(self.node.id)
        self.ctx.node_event("done", self.node.id, number, "undo",
                            results=[to_json(r) for r in results])
        self._verify()

    def _verify(self) -> None:
        if not self.before.state:
            self._restored("the undo command succeeded")
            return
        kind = self._kind()

        def look() -> tuple[Observation, Verdict]:
            now = kind.observe(self.reads)
            ok = now.state == self.before.state
            return now, Verdict(
                ok=ok, seen="as before" if ok else _difference(self.before.state, now.state)
            )

        looked = observe_until(
            self.ctx, self.node.id, "undo", look, kind.poll or _DEFAULT_POLL)
        if looked.verdict.ok:
            self._restored("observed: the world is as it was before the step")
        elif self.node.undo is not None and not looked.errored:
            self._failed(f"the undo command ran, but {looked.verdict.seen}")
        else:
            self._failed(f"undone, but not as before: {looked.verdict.seen}")

    def _draft(self, kind: str, **data: Any) -> Draft:
        acting = self.status.undo_unsettled or self.status.state is NodeState.UNDOING
        number = self.status.undo_attempt if acting else self.status.undo_number + 1
        return Draft(kind, self.node.id, "undo", number, {**data, "started_at": self.began})

    def _event(self, kind: str, **data: Any) -> None:
        self.ctx.append(self._draft(kind, **data))

    def _in_doubt(self, fault: OutcomeUnknown) -> None:
        """Nobody knows whether the doing, or an undo, is at work: a person has to look."""
        run, node = self.ctx.state.run_id, self.node.id
        why = (f"in doubt: {fault.message}; look at it, then say `runbook resolve {run} {node} "
               f"--done` or `--not-done`, and `runbook resume {run}`")
        if self.status.state is NodeState.STARTED:
            self.ctx.node_event("in_doubt", node, self.status.attempt, error=why,
                                index=fault.index)
        elif self.status.state is NodeState.IN_DOUBT:
            self.ctx.node_event("note", node, self.status.attempt, text=why)
        else:
            self._event("rollback_failed", error=why, unsettled=True)

    def _restored(self, how: str) -> None:
        self._event("restored", how=how)

    def _irreversible(self, found: Irreversible, **more: Any) -> None:
        self._event("irreversible", why=found.why, missing=found.missing, **more)

    def _failed(self, error: str) -> None:
        if self.ctx.signals.stop.is_set() and self.status.state is NodeState.UNDOING:
            raise Stopping
        self._event("rollback_failed", error=error)


def _difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    parts = list(_differences(was, now))
    more = f" and {len(parts) - 4} more" if len(parts) > 4 else ""
    return "; ".join(parts[:4]) + more


def _differences(was: Any, now: Any, at: str = "") -> Iterator[str]:
    """``place: is this, was that``, down to where two states really differ."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in sorted({*was, *now}):
            yield from _differences(was.get(key), now.get(key), f"{at}.{key}" if at else str(key))
    elif isinstance(was, list) and isinstance(now, list):
        lost = [item for item in was if item not in now]
        new = [item for item in now if item not in was]
        if len(lost) == len(new):
            for one, other in zip(lost, new, strict=True):
                yield from _differences(one, other, at)
        else:
            yield from (f"{at}: is there, was not: {_short(item)}" for item in new)
            yield from (f"{at}: is gone: {_short(item)}" for item in lost)
    elif was != now:
        yield f"{at}: is {_short(now)}, was {_short(was)}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "…"
