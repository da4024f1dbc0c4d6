"""What the inner layers need of the outside, as Protocols. Transports implement them.

:class:`Reads` has no method that writes: a kind's ``observe`` cannot change the world, and so a
probe rehearsal is safe by construction. Effects go through :class:`Actuator` alone. A rehearsal
never passes a flag; it swaps the implementations.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from runbook.model.actions import Action, ActionKey, ActionResult, RunCommand
from runbook.model.database import Database, QueryResult
from runbook.model.dns import Answer, Change, NameServer, ProviderCaps, RRset, Zone
from runbook.model.inventory import Host


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Clock(Protocol):
    """The run's time. Injected everywhere; nothing else asks the time or sleeps."""

    def now(self) -> float:
        """Unix seconds of the run's time (in a rehearsal it may pass faster)."""

    def wait(self, until: float, wake: threading.Event | None = None) -> bool:
        """Wait until ``until``; True when it was reached, False when ``wake`` was set first."""

    def steady(self) -> float:
        """Seconds that pass as the run's time does, counted from anywhere: they tell how long
        something takes, whatever becomes of the time of day meanwhile."""

    def pause(self, seconds: float, wake: threading.Event | None = None) -> bool:
        """Wait for as long by :meth:`steady`; True when that has passed, False when ``wake`` was
        set first."""


class CommandResult(_Frozen):
    """A finished command. Output is decoded as UTF-8 with replacement."""

    exit_code: int
    stdout: str = ""
    stderr: str = ""
    duration: float = 0.0


class FileState(_Frozen):
    """A file as it stands; ``exists`` false leaves the rest at their defaults."""

    exists: bool
    kind: str = ""
    """``file``, ``directory``, ``link`` or ``other``."""
    sha256: str = ""
    size: int = 0
    mode: int = 0
    owner: str = ""
    group: str = ""


class ServiceState(_Frozen):
    """A system service: ``active`` (running now) and ``enabled`` (starts at boot)."""

    exists: bool
    active: bool = False
    enabled: bool = False


class HostReads(Protocol):
    """One host, read only. Every method raises Errored when the host cannot be asked."""

    @property
    def host(self) -> Host | None:
        """None: the controller itself."""

    def query(
        self, command: str, *, timeout: float = 60.0, run_as: str | None = None,
        env: Mapping[str, str] | None = None, cwd: str | None = None,
    ) -> CommandResult:
        """Run a POSIX-sh command that reads and does not change. May be repeated freely."""

    def file(self, path: str, *, run_as: str | None = None) -> FileState: ...

    def service(self, name: str, *, run_as: str | None = None) -> ServiceState: ...


class UpdateRight(_Frozen):
    """Whether record sets may be changed by us. ``may`` None: only a change would show it."""

    may: bool | None
    seen: str
    hint: str = ""


class DnsReads(Protocol):
    """Questions to name servers."""

    def zone(self, name: str) -> Zone:
        """The declared zone. Raises NotFound."""

    def caps(self, zone: Zone) -> ProviderCaps: ...

    def records(self, zone: Zone) -> tuple[RRset, ...]:
        """Every record set of the zone (AXFR, or the zone file where that is its source).

        DNSSEC's own types (RRSIG, NSEC, NSEC3, …) are left out. Raises Errored."""

    def get(self, zone: Zone, name: str, rtype: str) -> RRset | None:
        """The set as the *primary* has it now, or None where there is none."""

    def servers(self, zone: Zone) -> tuple[NameServer, ...]:
        """Every authoritative server, every address: NS of the zone and configured ones."""

    def ask(self, server: NameServer, name: str, rtype: str) -> Answer:
        """One authoritative answer; never raises, see ``Answer.rcode``."""

    def resolve(self, resolver: str, name: str, rtype: str) -> Answer:
        """What a recursive resolver (``address[:port]``) says; never raises."""

    def cached(self, resolver: str, name: str, rtype: str) -> Answer:
        """What a resolver holds already: it is asked not to look further (RFC 1035 section 4.1.1,
        RD clear), so that nothing comes into its cache by the question. Never raises."""

    def update_right(self, zone: Zone, changes: tuple[Change, ...]) -> UpdateRight:
        """Whether these changes of a zone would be let through, without changing anything.

        RFC 2136: by an update that removes from each set a record it does not have, guarded by
        the set as it was: the server judges the right to it, and can do nothing. By an API: only
        that the key may read. Raises Errored."""


class HttpResponse(_Frozen):
    """``status`` 0 means that no response came; ``error`` says why."""

    status: int
    url: str
    headers: dict[str, str] = Field(default_factory=dict)
    body: str = ""
    """At most 256 KiB."""
    elapsed: float = 0.0
    address: str = ""
    error: str = ""


class CertificateState(_Frozen):
    """What a TLS server presents. ``error`` says why a client would not trust it (chain, name,
    dates), or why there was no handshake at all: then the rest stays empty."""

    subject: str = ""
    issuer: str = ""
    names: tuple[str, ...] = ()
    not_before: float = 0.0
    """Unix seconds, as ``not_after``."""
    not_after: float = 0.0
    error: str = ""


class NetReads(Protocol):
    """HTTP, TLS and TCP as an outsider sees them. ``via`` names a host to look from."""

    def http(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None,
        timeout: float = 10.0, via: str | None = None, connect_to: str | None = None,
        follow: bool = False, verify_tls: bool = True,
    ) -> HttpResponse:
        """GET or HEAD. ``connect_to`` is an address to use in place of the URL's host name."""

    def certificate(
        self, host: str, port: int, *, name: str, timeout: float = 10.0, via: str | None = None,
    ) -> CertificateState:
        """The certificate that a server presents to who asks for ``name``."""

    def tcp(self, host: str, port: int, *, timeout: float = 5.0, via: str | None = None) -> str:
        """Empty when a connection opens, else why not."""


class OutsideClient(Protocol):
    """A customer: sends what a budget's probe says, which may write. Only runs have one."""

    def request(
        self, url: str, *, method: str, headers: Mapping[str, str], body: str | None,
        timeout: float, via: str | None, verify_tls: bool,
    ) -> HttpResponse:
        """One request over a new connection, the name resolved anew. Status 0 and ``error`` where
        no whole answer came in time. Raises Errored where it could not even be sent from there:
        the vantage point itself is out of reach."""


class DatabaseReads(Protocol):
    """One declared database, read only: what writes is refused by the session itself."""

    @property
    def database(self) -> Database: ...

    def query(self, statement: str, *, timeout: float = 30.0) -> QueryResult:
        """One statement that reads: SQL, or a Redis command as typed. A server's refusal is in
        the result. Raises Errored when the server cannot be asked."""


class Reads(Protocol):
    """All that ``observe`` may use."""

    @property
    def here(self) -> HostReads:
        """The node's host; for a node on no host the controller."""

    def on(self, host: str | None) -> HostReads: ...

    @property
    def dns(self) -> DnsReads: ...

    @property
    def net(self) -> NetReads: ...

    def database(self, name: str) -> DatabaseReads:
        """A database as declared under ``databases:``. Raises NotFound."""

    def now(self) -> float: ...

    def outputs(self, step: str) -> Mapping[str, Any]:
        """Outputs of an earlier step. Raises NotFound when it has none (yet)."""

    def record_changes(self, zone: str) -> tuple[Change, ...]:
        """Changes of record sets of a zone (absolute, lower case) that this run has begun in any
        step, whether or not they took effect or were taken back since. From the journal alone."""

    @property
    def progress(self) -> Mapping[str, Any]:
        """``progress`` of the look before this one; empty at the first."""

    def read_local(self, path: str) -> bytes:
        """A file of the runbook's own folder."""

    @property
    def key(self) -> str:
        """Identity of this node in this run; the same at every attempt and in its undo."""


Progress = Callable[[str], None]
"""Receives lines of live output, already redacted."""


class Resolution(_Frozen):
    """What could be found out about an action that was started and never reported.

    ``outcome`` is ``done`` (then ``result`` is set), ``not_done``, ``running`` (attach by
    performing it again under the same key) or ``unknown``.
    """

    outcome: str
    result: ActionResult | None = None
    detail: str = ""


class Actuator(Protocol):
    """Carries out actions. Every performance has a key, and one key takes effect at most once."""

    def perform(self, action: Action, key: ActionKey, progress: Progress) -> ActionResult:
        """Raises Errored (nothing changed), InDoubt (unknown), or Fenced (a newer controller)."""

    def resolve(self, action: Action, key: ActionKey) -> Resolution:
        """After a crash: find out, without repeating anything, what came of an action."""


@runtime_checkable
class Interrupting(Protocol):
    """An actuator that can end a command before it ends by itself."""

    def interrupt(self, action: RunCommand, key: ActionKey) -> None:
        """End a running command and its processes; whoever performs it is told its exit code.
        Does nothing where it has ended, or not begun. Raises Errored."""


class World(Protocol):
    """Everything outside, as one run sees it. Built by the command line's wiring alone."""

    @property
    def clock(self) -> Clock: ...

    @property
    def actuator(self) -> Actuator: ...

    @property
    def dns(self) -> DnsReads: ...

    @property
    def net(self) -> NetReads: ...

    def host(self, name: str | None) -> HostReads: ...

    def database(self, name: str) -> DatabaseReads:
        """Raises NotFound for a database that is not declared."""

    def prepare(self, hosts: tuple[str, ...], run_as: Mapping[str, tuple[str, ...]]) -> None:
        """Open every host and prove each ``run_as`` on it, before anything is changed.

        Raises Errored naming all that could not be opened."""

    def prepare_databases(self) -> None:
        """The same for every database that is not declared as ``later``."""

    def tidy(self, *, keep_saved: bool) -> None:
        """Remove what the run left on the hosts and no longer needs there."""

    def redact(self, text: str) -> str: ...

    def close(self) -> None: ...
