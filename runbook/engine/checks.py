"""Checks: kinds that never act, asked once or polled until they hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runbook.engine.context import RunContext
from runbook.engine.late import render_late
from runbook.engine.mishaps import PASSING, words
from runbook.engine.reads import NodeReads
from runbook.engine.waits import pause_at_node
from runbook.errors import Errored
from runbook.model.kind import Kind
from runbook.model.observation import Observation, Verdict
from runbook.model.plan import Check, Node, PlannedStep
from runbook.model.runbook import Poll


@dataclass(frozen=True, slots=True)
class Looked:
    """The last observation of a poll and what it meant. ``errored``: nobody could be asked."""

    observation: Observation | None
    verdict: Verdict
    errored: bool = False


def observe_until(
    ctx: RunContext, node: str, op: str, look: Callable[[], tuple[Observation, Verdict]],
    poll: Poll | None,
) -> Looked:
    """Look once, or every ``poll.every`` seconds until it holds ``poll.stable`` times in a row.

    The node's slot is free for others between two looks. Raises Stopping when the run is to stop
    there, and LeftOut when the node is left out.
    """
    deadline = ctx.clock.steady() + (poll.timeout if poll else 0.0)
    held = 0
    while True:
        looked = _look(look)
        held = held + 1 if looked.verdict.ok else 0
        if poll is None or held >= poll.stable:
            return looked
        hopeless = not looked.verdict.ok and not looked.verdict.retry
        if hopeless or ctx.clock.steady() + poll.every > deadline:
            if looked.verdict.ok:
                return Looked(looked.observation, Verdict(
                    ok=False, seen=f"held only {held} of {poll.stable} times: "
                    f"{looked.verdict.seen}"))
            return looked
        pause_at_node(ctx, node, op, poll.every)


def _look(look: Callable[[], tuple[Observation, Verdict]]) -> Looked:
    try:
        observation, verdict = look()
    except Errored as fault:
        return Looked(None, Verdict(ok=False, seen=fault.message), errored=True)
    return Looked(observation, verdict)


def run_checks(
    ctx: RunContext, step: PlannedStep, node: Node, checks: tuple[Check, ...]
) -> tuple[list[str], Looked | None]:
    """Run checks in order; what was seen, and the first that does not hold (None: all hold)."""
    seen: list[str] = []
    for check in checks:
        try:
            kind = ctx.kind_of(check.kind, render_late(ctx, step, node, check.args, check.late))
        except Exception as fault:  # noqa: BLE001 - a check that breaks does not hold
            return seen, _broken(check, fault)
        reads = NodeReads(ctx.plan, ctx.state, ctx.world, node, check.host or node.host)
        reads.keep({})

        def look(kind: Kind = kind, reads: NodeReads = reads) -> tuple[Observation, Verdict]:
            found = kind.observe(reads)
            reads.keep(found.progress)
            return found, kind.verify(found, found)

        try:
            looked = observe_until(ctx, node.id, "do", look, check.poll or kind.poll)
        except PASSING:
            raise
        except Exception as fault:  # noqa: BLE001 - as above
            return seen, _broken(check, fault)
        if not looked.verdict.ok:
            told = Verdict(ok=False, seen=f"{check.kind}: {looked.verdict.seen}")
            return seen, Looked(looked.observation, told, looked.errored)
        seen.append(f"{check.kind}: {looked.verdict.seen}")
    return seen, None


def _broken(check: Check, fault: Exception) -> Looked:
    return Looked(None, Verdict(ok=False, seen=f"{check.kind}: {words(fault)}"))
