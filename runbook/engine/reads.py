"""What a node's ``observe`` is given: the world without its write side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runbook.engine.actions_json import actions_from_json
from runbook.errors import Errored, NotFound
from runbook.model.actions import ChangeRecordSet
from runbook.model.dns import Change
from runbook.model.inventory import Host
from runbook.model.plan import Node, Plan
from runbook.model.ports import (
    CommandResult,
    DatabaseReads,
    DnsReads,
    FileState,
    HostReads,
    NetReads,
    ServiceState,
    World,
)
from runbook.model.runstate import RunState
from runbook.model.state import NodeState


class _AsUser:
    """Reads of a host as the user a step becomes, where the kind names none itself."""

    def __init__(self, inner: HostReads, run_as: str) -> None:
        self._inner = inner
        self._run_as = run_as

    @property
    def host(self) -> Host | None:
        return self._inner.host

    def query(
        self, command: str, *, timeout: float = 60.0, run_as: str | None = None,
        env: Mapping[str, str] | None = None, cwd: str | None = None,
    ) -> CommandResult:
        return self._inner.query(
            command, timeout=timeout, run_as=run_as or self._run_as, env=env, cwd=cwd
        )

    def file(self, path: str, *, run_as: str | None = None) -> FileState:
        return self._inner.file(path, run_as=run_as or self._run_as)

    def service(self, name: str, *, run_as: str | None = None) -> ServiceState:
        return self._inner.service(name, run_as=run_as or self._run_as)


class NodeReads:
    """Implements :class:`runbook.model.ports.Reads` for one node of one run.

    What a step reads it reads as the user it acts as (``run_as``)."""

    def __init__(self, plan: Plan, state: RunState, world: World, node: Node, host: str | None):
        self._plan = plan
        self._state = state
        self._world = world
        self._node = node
        self._host = host
        self._kept: Mapping[str, Any] | None = None

    @property
    def here(self) -> HostReads:
        return self.on(self._host)

    def on(self, host: str | None) -> HostReads:
        reads = self._world.host(host)
        run_as = self._plan.by_id[self._node.step].run_as
        return _AsUser(reads, run_as) if run_as else reads

    @property
    def dns(self) -> DnsReads:
        return self._world.dns

    @property
    def net(self) -> NetReads:
        return self._world.net

    def database(self, name: str) -> DatabaseReads:
        return self._world.database(name)

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

    def record_changes(self, zone: str) -> tuple[Change, ...]:
        actions = [
            action
            for status in self._state.nodes.values()
            for action in actions_from_json(status.actions)
        ]
        return tuple(
            change
            for action in actions
            if isinstance(action, ChangeRecordSet) and action.zone == zone
            for change in action.changes
        )

    @property
    def progress(self) -> Mapping[str, Any]:
        if self._kept is not None:
            return self._kept
        return self._state.nodes[self._node.id].progress

    def keep(self, progress: Mapping[str, Any]) -> None:
        """What the next look is given, where it is not the step's own, in the journal."""
        self._kept = progress

    def read_local(self, path: str) -> bytes:
        try:
            return (Path(self._plan.directory) / path).read_bytes()
        except OSError as fault:
            raise Errored(f"the local file {path} cannot be read: {fault.strerror}") from fault

    @property
    def key(self) -> str:
        return f"{self._state.run_id}/{self._node.id}"
