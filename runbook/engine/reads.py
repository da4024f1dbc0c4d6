"""What a node's ``observe`` is given: the world without its write side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runbook.errors import Errored, NotFound
from runbook.model.plan import Node, Plan
from runbook.model.ports import DnsReads, HostReads, NetReads, World
from runbook.model.runstate import RunState
from runbook.model.state import NodeState


class NodeReads:
    """Implements :class:`runbook.model.ports.Reads` for one node of one run."""

    def __init__(self, plan: Plan, state: RunState, world: World, node: Node, host: str | None):
        self._plan = plan
        self._state = state
        self._world = world
        self._node = node
        self._host = host

    @property
    def here(self) -> HostReads:
        return self._world.host(self._host)

    def on(self, host: str | None) -> HostReads:
        return self._world.host(host)

    @property
    def dns(self) -> DnsReads:
        return self._world.dns

    @property
    def net(self) -> NetReads:
        return self._world.net

    def now(self) -> float:
        return self._world.clock.now()

    def outputs(self, step: str) -> Mapping[str, Any]:
        if step not in self._plan.by_id:
            raise NotFound(f"there is no step {step!r} in the plan")
        if self._state.step_state(step) is not NodeState.VERIFIED:
            raise NotFound(
                f"step {step!r} has no outputs yet: it is {self._state.step_state(step)}",
                hint=f"this step has to come after {step!r}",
            )
        return self._state.step_outputs(step)

    def read_local(self, path: str) -> bytes:
        try:
            return (Path(self._plan.directory) / path).read_bytes()
        except OSError as fault:
            raise Errored(f"the local file {path} cannot be read: {fault.strerror}") from fault

    @property
    def key(self) -> str:
        return f"{self._state.run_id}/{self._node.id}"
