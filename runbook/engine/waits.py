"""Waits of a run's work. A halt ends them, and so does an order of a person that leaves nothing to
wait for: the step is left out, or is to be tried at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from runbook.engine.context import LeftOut, RunContext, Stopping
from runbook.model.state import NodeState


def wait_for(ctx: RunContext, step: str, until: float, needless: Callable[[], bool]) -> None:
    """Wait for a moment of the run's clock, or until ``needless`` holds, which is asked at first
    and with every order about the step. Raises Stopping."""
    _wait(ctx, step, lambda wake: ctx.clock.wait(until, wake), needless)


def pause_for(ctx: RunContext, step: str, seconds: float, needless: Callable[[], bool]) -> None:
    """The same for a time, however the clock is set meanwhile."""
    end = ctx.clock.steady() + seconds
    _wait(ctx, step, lambda wake: ctx.clock.pause(end - ctx.clock.steady(), wake), needless)


def _wait(
    ctx: RunContext, step: str, passed: Callable[[threading.Event], bool],
    needless: Callable[[], bool],
) -> None:
    while True:
        with ctx.halt.wake(step) as wake:
            if needless() or passed(wake):
                return
        if ctx.halt.is_set():
            raise Stopping


def wait_at_node(ctx: RunContext, node: str, op: str, until: float) -> None:
    """Wait inside a node's work; its slot is free for others meanwhile. Raises Stopping, and
    LeftOut as soon as a person has left the node out of the doing."""
    with ctx.idle():
        wait_for(ctx, ctx.plan.nodes[node].step, until, lambda: left_out(ctx, node, op))
    if left_out(ctx, node, op):
        raise LeftOut


def pause_at_node(ctx: RunContext, node: str, op: str, seconds: float) -> None:
    """The same for a time. Raises Stopping and LeftOut."""
    with ctx.idle():
        pause_for(ctx, ctx.plan.nodes[node].step, seconds, lambda: left_out(ctx, node, op))
    if left_out(ctx, node, op):
        raise LeftOut


def left_out(ctx: RunContext, node: str, op: str) -> bool:
    """Whether there is nothing more to do at a node; what is to be undone is not left out."""
    return op == "do" and ctx.status(node).state is NodeState.SKIPPED
