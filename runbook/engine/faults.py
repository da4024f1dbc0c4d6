"""Faults a rehearsal injects on purpose."""

from __future__ import annotations

from collections.abc import Collection

from runbook.engine.context import Faults


class FailSteps(Faults):
    """The named steps fail right after their actions took effect: the worst moment."""

    def __init__(self, steps: Collection[str]) -> None:
        self._steps = frozenset(steps)

    def after_actions(self, node: str) -> str | None:
        if node.partition("@")[0] in self._steps:
            return "made to fail by the rehearsal"
        return None
