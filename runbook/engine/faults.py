"""Faults a rehearsal injects on purpose."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Collection, Sequence

from runbook.engine.context import Faults
from runbook.engine.slowed import SlowedWorld
from runbook.model.actions import Action, PutFile, RunCommand
from runbook.model.faults import Fault
from runbook.model.ports import Clock, World

MADE_UP = "made to fail by the rehearsal"
"""The error of a step that fails on purpose."""


CUT = "the rehearsal cut the connection"
"""How the note begins that tells of it."""


class FailSteps(Faults):
    """The named steps fail right after their actions took effect: the worst moment."""

    def __init__(self, steps: Collection[str]) -> None:
        self._failing = frozenset(steps)
        self.told = tuple(Fault(kind="fail", step=step).words for step in steps)

    def after_actions(self, node: str) -> str | None:
        return MADE_UP if _step(node) in self._failing else None


class Injected(FailSteps):
    """All faults of one controller.

    ``cut`` breaks the connection to a host as soon as the next request to it has been sent;
    ``real`` is real time, by which slowness is measured.
    """

    def __init__(
        self, faults: Sequence[Fault], *, cut: Callable[[str], None], real: Clock
    ) -> None:
        super().__init__([fault.step for fault in faults if fault.kind == "fail"])
        self.told = tuple(fault.words for fault in faults)
        self._cut = cut
        self._real = real
        self._kill = {(f.step, f.moment) for f in faults if f.kind == "kill"}
        self._cutting = {f.step for f in faults if f.kind == "cut"}
        self.slowed = max((f.factor for f in faults if f.kind == "slow"), default=1.0)
        self._once = threading.Lock()
        self._cut_already: set[str] = set()

    def around(self, world: World) -> World:
        return SlowedWorld(world, self.slowed, self._real) if self.slowed > 1 else world

    def intended(self, node: str, actions: Sequence[Action]) -> None:
        self._strike(node, "intent")
        if _step(node) not in self._cutting:
            return
        with self._once:
            new = node not in self._cut_already
            self._cut_already.add(node)
        if new:
            for host in ssh_hosts(actions):
                self._cut(host)

    def acted(self, node: str) -> None:
        self._strike(node, "effect")

    def undone(self, node: str) -> None:
        self._strike(node, "undo")

    def _strike(self, node: str, moment: str) -> None:
        if (_step(node), moment) in self._kill:
            os.kill(os.getpid(), signal.SIGKILL)


def ssh_hosts(actions: Sequence[Action]) -> tuple[str, ...]:
    """The hosts on which actions are carried out over SSH."""
    return tuple(dict.fromkeys(
        action.host for action in actions
        if isinstance(action, RunCommand | PutFile) and action.host is not None
    ))


def _step(node: str) -> str:
    return node.partition("@")[0]
