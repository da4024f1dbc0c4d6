"""Signs of life for as long as this controller drives a run.

What a step left behind may act by itself when its controller is gone (a dead man's switch). So
the sign comes from a thread of its own: a long step, or a question to people, must not look like
death. It ends with the driving, whatever way that ends.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from runbook.engine.context import RunContext
from runbook.engine.late import render_late
from runbook.engine.mishaps import PASSING, words
from runbook.errors import RunbookError
from runbook.journal import Draft
from runbook.model.observation import Heartbeat, Observation
from runbook.model.state import NodeState

_LOOK_EVERY = 0.25
"""Real seconds between two looks for steps that want signs of life."""
_STANDS = frozenset({
    NodeState.STARTED, NodeState.APPLIED, NodeState.VERIFIED, NodeState.FAILED,
    NodeState.IN_DOUBT,
})


@contextmanager
def heartbeats(ctx: RunContext) -> Iterator[None]:
    """Gives signs of life inside the ``with``; nothing is started for plans that want none."""
    wanting = frozenset(
        step.id for step in ctx.plan.steps if ctx.kinds[step.kind].wants_heartbeat
    )
    if not wanting:
        yield
        return
    hearts = _Hearts(ctx, wanting)
    thread = threading.Thread(target=hearts.beat, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        hearts.ended.set()
        thread.join()


class _Hearts:
    def __init__(self, ctx: RunContext, wanting: frozenset[str]) -> None:
        self._ctx = ctx
        self._wanting = wanting
        self._known: dict[tuple[str, int], Heartbeat | None] = {}
        self._due: dict[str, float] = {}
        self._silent: set[str] = set()
        """Nodes whose host does not hear us, told once."""
        self.ended = threading.Event()

    def beat(self) -> None:
        try:
            while not self.ended.is_set():
                for node, sign in self._signs():
                    if self._due.get(node, 0.0) <= self._ctx.real.now():
                        self._give(node, sign)
                self.ended.wait(_LOOK_EVERY)
        except PASSING:
            # The journal broke, or another controller took over: whoever drives finds it too,
            # and signs of life are no longer ours to give.
            return

    def _signs(self) -> Iterator[tuple[str, Heartbeat]]:
        for name in self._wanting:
            for node in self._ctx.plan.by_id[name].nodes:
                status = self._ctx.status(node.id)
                if status.state not in _STANDS or not status.intended:
                    continue
                sign = self._sign(node.id, status.attempt)
                if sign is not None:
                    yield node.id, sign

    def _sign(self, name: str, attempt: int) -> Heartbeat | None:
        key = (name, attempt)
        if key not in self._known:
            ctx = self._ctx
            node = ctx.plan.nodes[name]
            step = ctx.plan.by_id[node.step]
            args = render_late(ctx, step, node, node.args, node.late)
            before = Observation.model_validate(ctx.status(name).before or {})
            self._known[key] = ctx.kind_of(step.kind, args).heartbeat(before)
        return self._known[key]

    def _give(self, node: str, sign: Heartbeat) -> None:
        """A sign that does not arrive is tried again at the next look."""
        try:
            told = self._ctx.world.host(sign.host).query(
                sign.command, run_as=sign.run_as, timeout=max(1.0, sign.every), env=sign.env
            ).stdout.strip()
        except RunbookError as fault:
            if node not in self._silent:
                self._silent.add(node)
                self._ctx.append(Draft("note", node, data={
                    "text": f"no sign of life can be given for {node}: {words(fault)}"}))
            return
        if told:
            self._ctx.append(Draft("note", node, data={"text": told}))
        self._silent.discard(node)
        self._due[node] = self._ctx.real.now() + sign.every
