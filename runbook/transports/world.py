"""Everything outside as one run sees it: SSH, DNS, HTTP, secrets and time, put together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from runbook.errors import Refused
from runbook.model.actions import (
    Action,
    ActionKey,
    ActionResult,
    ChangeRecordSet,
    ExecuteSql,
    PutFile,
    RunCommand,
    SendRequest,
)
from runbook.model.endpoints import Endpoints
from runbook.model.plan import Plan
from runbook.model.ports import (
    Clock,
    DatabaseReads,
    DnsReads,
    HostReads,
    NetReads,
    Progress,
    Resolution,
)
from runbook.model.secrets import Redactor
from runbook.transports.database import DatabaseTransport
from runbook.transports.dns import DnsTransport
from runbook.transports.net import NetTransport
from runbook.transports.outside import Outside
from runbook.transports.secrets import SecretStore
from runbook.transports.ssh.pool import SshPool


class TransportWorld:
    """Implements :class:`runbook.model.ports.World` and its Actuator over real transports.

    With ``endpoints`` every connection is redirected into that sandbox, and what is not in its
    table is refused.
    """

    def __init__(
        self, plan: Plan, *, run_id: str, state_dir: Path, epoch: int, clock: Clock,
        endpoints: Endpoints | None, on_open: Callable[[str, str], None] | None = None,
    ) -> None:
        self.clock = clock
        self._directory = Path(plan.directory)
        self._endpoints = endpoints
        self._redactor = Redactor()
        self.secrets = SecretStore(
            plan.secrets, directory=Path(plan.directory), redactor=self._redactor,
            values=endpoints.secrets if endpoints else None,
        )
        self.pool = SshPool(
            plan.inventory, run_id=run_id, state_dir=state_dir, secrets=self.secrets,
            redactor=self._redactor, clock=clock, epoch=epoch, endpoints=endpoints,
            on_open=on_open,
        )
        self._dns = DnsTransport(
            plan.zones, secrets=self.secrets, clock=clock, endpoints=endpoints,
            directory=Path(plan.directory),
        )
        self._net = NetTransport(
            endpoints=endpoints, tunnel=self.pool.tunnel, secrets=self.secrets,
            redactor=self._redactor,
        )

        self._databases = DatabaseTransport(
            plan.databases, inventory=plan.inventory, secrets=self.secrets,
            redactor=self._redactor, dial=self.pool.tunnel, endpoints=endpoints,
        )

    @property
    def name_servers(self) -> DnsTransport:
        """Who serves the zones, and who takes their changes."""
        return self._dns

    @property
    def dns(self) -> DnsReads:
        return self._dns

    @property
    def net(self) -> NetReads:
        return self._net

    @property
    def actuator(self) -> TransportWorld:
        return self

    @functools.cached_property
    def outside(self) -> Outside:
        """The customer that the probes of budgets are."""
        return Outside(
            endpoints=self._endpoints, vantage=self.pool.vantage,
            alive=lambda name: self.host(name).query("true", timeout=5.0),
            secrets=self.secrets, redactor=self._redactor,
        )

    def host(self, name: str | None) -> HostReads:
        return self.pool.host_reads(name)

    def database(self, name: str) -> DatabaseReads:
        return self._databases.reads(name)

    def prepare(self, hosts: tuple[str, ...], run_as: Mapping[str, tuple[str, ...]]) -> None:
        self.secrets.prove(self.secrets.names)
        self.pool.prepare(hosts, run_as)

    def prepare_databases(self) -> None:
        self._databases.prepare()

    def redact(self, text: str) -> str:
        return self._redactor.text(text)

    def perform(self, action: Action, key: ActionKey, progress: Progress) -> ActionResult:
        if isinstance(action, RunCommand | PutFile):
            return self.pool.perform(self._located(action), key, progress)
        if isinstance(action, ChangeRecordSet):
            return self._dns.perform(action, key)
        if isinstance(action, SendRequest):
            return self._net.perform(action, key)
        if isinstance(action, ExecuteSql):
            return self._databases.perform(action, key)
        raise Refused(f"no transport carries out {action.action!r}")

    def interrupt(self, action: RunCommand, key: ActionKey) -> None:
        """As the port says."""
        self.pool.kill(action, key)

    def resolve(self, action: Action, key: ActionKey) -> Resolution:
        if isinstance(action, RunCommand | PutFile):
            return self.pool.resolve(self._located(action), key)
        if isinstance(action, ChangeRecordSet):
            return self._dns.resolve_change(action, key)
        if isinstance(action, SendRequest):
            return self._net.resolve(action, key)
        if isinstance(action, ExecuteSql):
            return self._databases.resolve(action, key)
        return Resolution(outcome="unknown", detail=f"nobody can be asked about {action.action!r}")

    def tidy(self, *, keep_saved: bool) -> None:
        """Remove from the hosts what the run no longer needs there: outputs, and with
        ``keep_saved`` false also the prior files kept for the undo. Raises Errored, Refused."""
        if keep_saved:
            self.pool.prune()
        else:
            self.pool.tidy()

    def _located(self, action: RunCommand | PutFile) -> RunCommand | PutFile:
        """Local files are named from the runbook's folder, wherever the command was typed."""
        if isinstance(action, RunCommand) or action.content is None or not action.content.local:
            return action
        path = str(self._directory / action.content.local)
        return action.model_copy(
            update={"content": action.content.model_copy(update={"local": path})}
        )

    def close(self) -> None:
        self._databases.close()
        self.pool.close()
