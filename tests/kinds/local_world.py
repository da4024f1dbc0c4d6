"""The controller itself as a world for kinds: the real local transport, files below a folder."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runbook.errors import NotFound
from runbook.model.actions import Action, ActionKey, ActionResult
from runbook.model.dns import Change
from runbook.model.inventory import Inventory
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Planned, Verdict
from runbook.model.ports import DnsReads, HostReads
from runbook.model.secrets import Redactor, SecretRef
from runbook.transports.clock import SystemClock
from runbook.transports.net import NetTransport
from runbook.transports.secrets import SecretStore
from runbook.transports.ssh.pool import SshPool

SECRET = "hunter2-very-secret"


class LocalWorld:
    """``Reads`` of a node on no host, and the way to carry its actions out."""

    def __init__(self, root: Path, node: str = "step") -> None:
        self.root = root
        self.node = node
        redactor = Redactor()
        secrets = SecretStore(
            [SecretRef(name="db", source="env", argument="DB")], directory=root,
            redactor=redactor, environ={"DB": SECRET},
        )
        self.clock = SystemClock()
        self.pool = SshPool(
            Inventory(), run_id="test", state_dir=root / "state", secrets=secrets,
            redactor=redactor, clock=self.clock,
        )
        self.net = NetTransport(
            endpoints=None, tunnel=None, secrets=secrets, redactor=redactor
        )
        self._attempts = itertools.count(1)

    @property
    def here(self) -> HostReads:
        return self.pool.host_reads(None)

    def on(self, host: str | None) -> HostReads:
        return self.pool.host_reads(host)

    @property
    def dns(self) -> DnsReads:
        raise NotFound("no zones here")

    def now(self) -> float:
        return self.clock.now()

    def outputs(self, step: str) -> Mapping[str, Any]:
        raise NotFound(f"no step {step}")

    @property
    def progress(self) -> Mapping[str, Any]:
        return {}

    def record_changes(self, zone: str) -> tuple[Change, ...]:
        return ()

    def read_local(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    @property
    def key(self) -> str:
        return f"test/{self.node}"

    def perform(self, actions: tuple[Action, ...]) -> list[ActionResult]:
        attempt = next(self._attempts)
        return [
            self.pool.perform(
                action,  # type: ignore[arg-type]
                ActionKey(run="test", node=self.node, op="do", attempt=attempt, index=index),
                lambda line: None,
            )
            for index, action in enumerate(actions)
        ]


class Life:
    """One step's life: observe, plan, perform, verify; then undo."""

    def __init__(self, world: LocalWorld, kind: Kind) -> None:
        self.world = world
        self.kind = kind
        self.before: Observation = Observation()
        self.results: list[ActionResult] = []

    def forward(self) -> Verdict:
        """Apply it; it must plan something, and every action must succeed."""
        self.before = self.look()
        planned = self.kind.plan(self.before)
        assert planned.actions
        self.results = self.world.perform(planned.actions)
        assert all(result.ok for result in self.results), self.results
        return self.kind.verify(self.before, self.look())

    def back(self) -> None:
        """Undo it; the world must then be as it was observed before."""
        actions = self.kind.undo(self.before)
        assert not isinstance(actions, Irreversible), actions.why
        results = self.world.perform(actions)
        assert all(result.ok for result in results), results
        assert self.look().state == self.before.state

    def look(self) -> Observation:
        return self.kind.observe(self.world)

    def again(self) -> Planned:
        """What a second run would do."""
        return self.kind.plan(self.look())


@contextmanager
def local_world(root: Path, node: str = "step") -> Iterator[LocalWorld]:
    world = LocalWorld(root, node)
    try:
        yield world
    finally:
        world.pool.close()
