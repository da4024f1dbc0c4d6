"""Commands that a decision to go back ends half-way, where their step says that it may.

Everything that waits wakes up by itself when the run turns. A command on a host does not: it would
go on for as long as it takes, while the outage lasts. Only for steps with ``interrupt`` it is
ended; all others come to their end first, and the back-out clock reckons with that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from runbook.engine.context import RunContext, Stopping
from runbook.engine.mishaps import PASSING, words
from runbook.journal import Draft
from runbook.model.actions import Action, ActionKey, ActionResult, RunCommand
from runbook.model.ports import Interrupting

_AGAIN_AFTER = 1.0
"""Real seconds: a command may be launched only just now, or its host out of reach for a moment."""


@contextmanager
def while_at_work(ctx: RunContext, action: Action, key: ActionKey) -> Iterator[None]:
    """Around the performance of an action. Raises Stopping instead where it may be interrupted,
    the run has turned already, and it was not begun yet."""
    if not isinstance(action, RunCommand) or not _may(ctx, key):
        yield
        return
    at_work = ctx.at_work
    with at_work.mutex:
        if ctx.turn_back.is_set():
            raise Stopping
        at_work.commands[str(key)] = (action, key)
    try:
        yield
    finally:
        with at_work.mutex:
            at_work.commands.pop(str(key), None)


def interrupt_all(ctx: RunContext) -> None:
    """The run goes back: end what may be ended. Returns at once."""
    at_work = ctx.at_work
    with at_work.mutex:
        if at_work.commands and not at_work.ending:
            at_work.ending = True
            threading.Thread(target=_end_all, args=(ctx,), name="interrupt", daemon=True).start()


def interrupt(ctx: RunContext, action: Action, key: ActionKey) -> None:
    """End one command, if its step allows it. What does not work is noted, once."""
    actuator = ctx.world.actuator
    if not isinstance(action, RunCommand) or not _may(ctx, key):
        return
    if not isinstance(actuator, Interrupting):
        return
    new = str(key) not in ctx.at_work.interrupted
    ctx.at_work.interrupted.add(str(key))
    try:
        actuator.interrupt(action, key)
    except PASSING:
        raise
    except Exception as fault:  # noqa: BLE001 - it then comes to its end by itself
        if new:
            ctx.append(Draft("note", key.node, data={
                "text": f"{key.node} could not be interrupted: {words(fault)}"}))


def told(ctx: RunContext, key: ActionKey, result: ActionResult) -> ActionResult:
    """The result of a command, which says where it was ended from here."""
    if result.ok or str(key) not in ctx.at_work.interrupted:
        return result
    detail = f"interrupted, as the run goes back ({result.detail})"
    return result.model_copy(update={"detail": detail})


def _may(ctx: RunContext, key: ActionKey) -> bool:
    return key.op == "do" and ctx.plan.by_id[ctx.plan.nodes[key.node].step].interrupt


def _end_all(ctx: RunContext) -> None:
    """Again and again, until none is at work: one may be about to be launched."""
    at_work = ctx.at_work
    try:
        while True:
            with at_work.mutex:
                commands = list(at_work.commands.values())
                if not commands:
                    at_work.ending = False
                    return
            for action, key in commands:
                interrupt(ctx, action, key)
            ctx.signals.stop.wait(_AGAIN_AFTER)
    except PASSING:
        # The journal broke, or another controller took over: whoever drives finds it too.
        return
