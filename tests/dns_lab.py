"""A zone, a clock and servers for the DNS tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runbook.errors import NotFound
from runbook.model.actions import Action, ActionKey, ActionResult, ChangeRecordSet
from runbook.model.dns import Change, Zone
from runbook.model.endpoints import Endpoints
from runbook.model.kind import Kind
from runbook.model.observation import Irreversible, Observation, Verdict
from runbook.sandbox.nameserver import AuthoritativeServer
from runbook.sandbox.resolver import CachingResolver
from runbook.transports.dns import DnsTransport

SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtMDEyMzQ1Njc4OQ=="
KEYS = {"shop-key": ("hmac-sha256", SECRET)}
TSIG = f"shop-key:hmac-sha256:{SECRET}"
OLD, NEW = "198.51.100.10", "203.0.113.10"
OLD6, NEW6 = "2001:db8:1::10", "2001:db8:2::10"

SHOP = f"""\
$TTL 3600
@       IN SOA ns1 hostmaster 2009091200 7200 900 1209600 300
@       IN NS  ns1
@       IN NS  ns2
ns1     IN A   192.0.2.53
ns2     IN A   192.0.2.54
@       IN A   {OLD}
@       IN MX  10 mail
@       IN TXT "v=spf1 ip4:{OLD} a mx -all"
@       IN TXT "site-verification=1"
www     300 IN CNAME shop
shop    1800 IN A {OLD}
shop    1800 IN AAAA {OLD6}
shop    1800 IN HTTPS 1 . alpn="h2" ipv4hint="{OLD}" ipv6hint="{OLD6}"
mail    IN A   {OLD}
api     30 IN A {OLD}
api     30 IN A 192.0.2.99
*.tenant IN CNAME shop
_imap._tcp IN SRV 0 1 143 mail
other   IN A   192.0.2.77
"""


class HandClock:
    """A clock that stands until it is moved; waiting moves it."""

    def __init__(self, start: float = 1_252_731_600.0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def now(self) -> float:
        with self._lock:
            return self._now

    def wait(self, until: float, wake: threading.Event | None = None) -> bool:
        with self._lock:
            self._now = max(self._now, until)
        return True

    def move(self, seconds: float) -> None:
        self.wait(self.now() + seconds)


class OneSecret:
    def __init__(self, value: str = TSIG) -> None:
        self._value = value

    def value(self, name: str) -> str:
        return self._value


@dataclass
class Lab:
    """A primary ns1 and a secondary ns2 that may lag, and a transport that reaches both."""

    primary: AuthoritativeServer
    secondary: AuthoritativeServer
    clock: HandClock
    transport: DnsTransport
    zone: Zone
    given: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    begun: list[Change] = field(default_factory=list)

    # What kinds read (model.ports.Reads, as far as DNS kinds use it)
    @property
    def dns(self) -> DnsTransport:
        return self.transport

    def now(self) -> float:
        return self.clock.now()

    def outputs(self, step: str) -> Mapping[str, Any]:
        if step not in self.given:
            raise NotFound(f"no outputs of {step}")
        return self.given[step]

    @property
    def progress(self) -> Mapping[str, Any]:
        return {}

    def record_changes(self, zone: str) -> tuple[Change, ...]:
        return tuple(self.begun)

    def with_secret(self, secret: str) -> DnsTransport:
        return DnsTransport(
            (self.zone,), secrets=OneSecret(secret), clock=self.clock,
            endpoints=self._endpoints(), timeout=1.0,
        )

    def _endpoints(self) -> Endpoints:
        return endpoints(self.primary.port, self.secondary.port)

    def perform(self, action: Action) -> ActionResult:
        assert isinstance(action, ChangeRecordSet)
        self.begun += action.changes
        return self.transport.perform(action, KEY)

    def do(self, kind: Kind, polls: int = 90) -> tuple[Observation, Observation, Verdict]:
        """Run a kind's forward life as the engine does: (before, after, verdict)."""
        before = kind.observe(self)  # type: ignore[arg-type]
        for action in kind.plan(before).actions:
            if isinstance(action, ChangeRecordSet):
                result = self.perform(action)
                assert result.ok, result.detail
            else:
                self.clock.wait(action.until)  # type: ignore[union-attr]
        return self.until_verified(kind, before, polls)

    def until_verified(
        self, kind: Kind, before: Observation, polls: int = 90
    ) -> tuple[Observation, Observation, Verdict]:
        for _ in range(polls):
            after = kind.observe(self)  # type: ignore[arg-type]
            verdict = kind.verify(before, after)
            if verdict.ok or not verdict.retry:
                break
            self.clock.move(1)
        return before, after, verdict

    def undo(self, kind: Kind, before: Observation, after: Observation) -> Observation:
        """Undo as the engine does: no drift allowed before, restoration judged after."""
        now = kind.observe(self)  # type: ignore[arg-type]
        assert now.state == after.state, "drift"
        actions = kind.undo(before)
        assert not isinstance(actions, Irreversible)
        for action in actions:
            result = self.perform(action)
            assert result.ok, result.detail
        return kind.observe(self)  # type: ignore[arg-type]


KEY = ActionKey(run="r", node="n", op="do", attempt=1, index=0)


def endpoints(primary: int, secondary: int, resolver: int = 1) -> Endpoints:
    return Endpoints(
        dns={
            "192.0.2.53": f"127.0.0.1:{primary}",
            "192.0.2.54": f"127.0.0.1:{secondary}",
            "192.0.2.1": f"127.0.0.1:{resolver}",
        },
        resolver=f"127.0.0.1:{resolver}",
        clock=str(Path("clock")),
    )


@contextmanager
def dns_lab(text: str = SHOP, lag: float = 0.0, resolver: bool = False) -> Iterator[Lab]:
    """``resolver``: a caching resolver at 192.0.2.1 that asks both servers in turn."""
    clock = HandClock()
    primary = AuthoritativeServer({"shop.example.": text}, KEYS, clock)
    secondary = primary.secondary(lag)
    primary.start()
    secondary.start()
    both = [("127.0.0.1", primary.port), ("127.0.0.1", secondary.port)]
    cache = CachingResolver({"shop.example": both}, clock)
    place = cache.start() if resolver else 1
    zone = Zone(name="shop.example.", servers=("192.0.2.53",), key="tsig")
    transport = DnsTransport(
        (zone,), secrets=OneSecret(), clock=clock, timeout=1.0,
        endpoints=endpoints(primary.port, secondary.port, place),
    )
    try:
        yield Lab(primary, secondary, clock, transport, zone)
    finally:
        primary.stop()
        secondary.stop()
        cache.stop()
