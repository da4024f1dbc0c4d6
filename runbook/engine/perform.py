"""Carrying out the actions of one intent, the first time and after a crash alike.

The intent is durable before :func:`perform_all` is called. Every action has a key that takes
effect at most once, so carrying on after a crash means asking what became of each action and
performing those that never began, under the same keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from runbook.engine.actions_json import actions_from_json, to_json
from runbook.engine.checks import run_checks
from runbook.engine.context import RunContext
from runbook.engine.gates import ask_people
from runbook.engine.interrupts import interrupt, told, while_at_work
from runbook.engine.mishaps import PASSING, words
from runbook.engine.waits import wait_at_node
from runbook.errors import Errored, NotFound, Refused, RunbookError
from runbook.model.actions import (
    Action,
    ActionKey,
    ActionResult,
    AskOperator,
    Confirm,
    ExecuteSql,
    Notify,
    PutFile,
    RunCommand,
    SendRequest,
    WaitFor,
)
from runbook.model.plan import PlannedStep
from runbook.model.ports import Resolution
from runbook.model.runstate import NodeStatus

NO_EFFECT = WaitFor | AskOperator | Confirm | Notify
"""Actions that change nothing of what a step is about."""


class OutcomeUnknown(RunbookError):
    """An action was started and nobody can say what became of it. ``index`` names it."""

    def __init__(self, index: int, action: Action, detail: str) -> None:
        super().__init__(detail)
        self.index = index
        self.action = action


def complete(actions: Sequence[Action], step: PlannedStep) -> tuple[Action, ...]:
    """Put the step's own ``run_as`` and ``timeout`` into its actions."""
    done: list[Action] = []
    for action in actions:
        if isinstance(action, RunCommand):
            done.append(action.model_copy(update={
                "run_as": action.run_as or step.run_as,
                "timeout": action.timeout if action.timeout is not None else step.timeout,
            }))
        elif isinstance(action, PutFile):
            done.append(action.model_copy(update={"run_as": action.run_as or step.run_as}))
        else:
            done.append(action)
    return tuple(done)


def perform_all(
    ctx: RunContext, node: str, op: str, attempt: int, actions: Sequence[Action], *,
    resuming: bool = False,
) -> list[ActionResult]:
    """Perform actions in order until one fails; the results, the failed one last.

    ``resuming``: an earlier controller may have begun; each action is resolved before anything
    is started. Where an intent takes its time (it waits or looks between its effects) the end of
    each action is journaled: what came before the last of them is known and not asked again.
    Raises Errored (nothing of *this* action was changed and none before it was), OutcomeUnknown,
    Stopping, LeftOut, Fenced or JournalFault.
    """
    one_by_one = op == "do" and takes_its_time(actions)
    results = acted(ctx, node) if one_by_one and resuming else []
    for index, action in enumerate(actions[len(results):], start=len(results)):
        key = ctx.key(node, op, attempt, index)
        result, begun = _settle(ctx, index, action, key) if resuming else (None, False)
        if result is None:
            result = _perform(ctx, node, index, action, key, after_effect=bool(results),
                              begun=begun)
        results.append(result)
        if not result.ok:
            break
        if one_by_one and index + 1 < len(actions):
            ctx.node_event("acted", node, attempt, op, index=index, result=to_json(result))
    return results


def takes_its_time(actions: Sequence[Action]) -> bool:
    """Whether there are stages in it, with a wait or a look between them."""
    return len(actions) > 1 and any(isinstance(one, WaitFor | Confirm) for one in actions)


def acted(ctx: RunContext, node: str) -> list[ActionResult]:
    """Of the latest intent, what is journaled action by action."""
    return [ActionResult.model_validate(one) for one in ctx.status(node).acted]


def _settle(
    ctx: RunContext, index: int, action: Action, key: ActionKey
) -> tuple[ActionResult | None, bool]:
    """The result of an action that has ended; None when it may be performed now, and whether it
    may have begun already."""
    if isinstance(action, WaitFor | AskOperator | Confirm):
        return None, False
    if isinstance(action, Notify):
        return ActionResult(ok=True, detail="may have been sent before the restart"), True
    found = _resolve(ctx, action, key)
    if found.outcome == "done" and found.result is not None:
        return found.result, True
    if found.outcome in {"not_done", "running"}:
        return None, found.outcome == "running"
    if _may_repeat(action):
        return None, True
    raise OutcomeUnknown(index, action, found.detail or "the outcome cannot be found out")


def _resolve(ctx: RunContext, action: Action, key: ActionKey) -> Resolution:
    """What came of an action. When nobody can be asked that is unknown, and never *errored*,
    which would mean that nothing was done."""
    try:
        return ctx.world.actuator.resolve(action, key)
    except PASSING:
        raise
    except Exception as fault:  # noqa: BLE001 - whatever broke, the outcome is not known
        return Resolution(outcome="unknown", detail=words(fault))


def quiesce(
    ctx: RunContext, node: str, attempt: int, actions: Sequence[Action]
) -> bool:
    """Before undoing work that was cut short: make sure that none of it is still going on.

    What still runs is waited for; what never began stays undone. Returns whether anything of it
    had begun (waiting, asking and telling do not count). Raises OutcomeUnknown.
    """
    known = len(acted(ctx, node))
    begun = has_effect(actions[:known])
    for index, action in enumerate(actions[known:], start=known):
        if isinstance(action, NO_EFFECT):
            continue
        key = ctx.key(node, "do", attempt, index)
        found = _resolve(ctx, action, key)
        if found.outcome == "not_done":
            return begun
        if found.outcome == "running":
            interrupt(ctx, action, key)
            _perform(ctx, node, index, action, key, after_effect=False, begun=True)
        elif found.outcome != "done" and not _may_repeat(action):
            raise OutcomeUnknown(
                index, action, found.detail or "the outcome cannot be found out"
            )
        begun = True
    return begun


def has_effect(actions: Iterable[Action]) -> bool:
    """Whether any of them changes something of what its step is about."""
    return any(not isinstance(one, NO_EFFECT) for one in actions)


def some_took_effect(status: NodeStatus) -> bool:
    """Of a node in doubt: whether an action before the one in doubt has changed something."""
    return has_effect(actions_from_json(status.actions[:status.doubtful]))


def _may_repeat(action: Action) -> bool:
    return isinstance(action, RunCommand | SendRequest | ExecuteSql) and action.idempotent


def _perform(
    ctx: RunContext, node: str, index: int, action: Action, key: ActionKey, *,
    after_effect: bool, begun: bool,
) -> ActionResult:
    """``begun``: it may be at work already, so no failure here means that nothing was done."""
    if isinstance(action, WaitFor):
        since = ctx.status(node).acted_at or ctx.now()
        until = max(action.until, since + action.after_last) if action.after_last else action.until
        wait_at_node(ctx, node, key.op, until)
        return ActionResult(ok=True, detail=action.why)
    if isinstance(action, Confirm):
        return _confirm(ctx, node, action)
    if isinstance(action, AskOperator):
        with ctx.idle():
            return ask_people(ctx, node, key.op, key.attempt, action)
    if isinstance(action, Notify):
        ctx.node_event("note", node, key.attempt, key.op, text=f"{action.severity}: "
                       f"{action.message}", channel=action.channel)
        return ActionResult(ok=True, detail=f"{action.channel}: {action.message}")

    def progress(line: str) -> None:
        ctx.output(node, line)

    try:
        with while_at_work(ctx, action, key):
            result = ctx.world.actuator.perform(action, key, progress)
        return told(ctx, key, result)
    except PASSING:
        raise
    except (Errored, Refused, NotFound) as fault:
        if begun:
            raise OutcomeUnknown(index, action, fault.message) from fault
        if after_effect or not isinstance(fault, Errored):
            # Refused, or earlier actions of this intent took effect: the attempt as a whole has.
            return ActionResult(ok=False, detail=fault.message, data=_hint(fault))
        raise
    except Exception as fault:
        # InDoubt, or a transport that broke: in either case something may have been done.
        raise OutcomeUnknown(index, action, words(fault)) from fault


def _confirm(ctx: RunContext, name: str, action: Confirm) -> ActionResult:
    node = ctx.plan.nodes[name]
    seen, unmet = run_checks(ctx, ctx.step_of(node), node, node.verify)
    if unmet is not None:
        return ActionResult(ok=False, detail=f"{action.what}: {unmet.verdict.seen}")
    return ActionResult(ok=True, detail=f"{action.what}: {'; '.join(seen) or 'nothing to check'}")


def _hint(fault: RunbookError) -> dict[str, Any]:
    return {"hint": fault.hint} if fault.hint else {}
