"""Reads of a world in memory, for what needs no real host. The real transports have their own
tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runbook.errors import NotFound
from runbook.model.dns import Change
from runbook.model.inventory import Host
from runbook.model.ports import (
    CertificateState,
    CommandResult,
    DatabaseReads,
    DnsReads,
    FileState,
    HttpResponse,
    ServiceState,
)


@dataclass
class FakeHost:
    host: Host | None = None
    answers: dict[str, CommandResult] = field(default_factory=dict)
    services: dict[str, ServiceState] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def query(
        self, command: str, *, timeout: float = 60.0, run_as: str | None = None,
        env: Mapping[str, str] | None = None, cwd: str | None = None,
    ) -> CommandResult:
        self.asked.append(command)
        return self.answers.get(command, CommandResult(exit_code=1))

    def file(self, path: str, *, run_as: str | None = None) -> FileState:
        self.asked.append(path)
        return FileState(exists=False)

    def service(self, name: str, *, run_as: str | None = None) -> ServiceState:
        self.asked.append(name)
        return self.services.get(name, ServiceState(exists=False))


@dataclass
class FakeNet:
    """Answers in order; the last one again and again."""

    http_answers: list[HttpResponse] = field(default_factory=list)
    tcp_answers: dict[str | None, str] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    certificates: dict[str, CertificateState] = field(default_factory=dict)

    def http(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None,
        timeout: float = 10.0, via: str | None = None, connect_to: str | None = None,
        follow: bool = False, verify_tls: bool = True,
    ) -> HttpResponse:
        self.asked.append({"url": url, "via": via, "connect_to": connect_to, "timeout": timeout})
        if not self.http_answers:
            return HttpResponse(status=0, url=url, error="nobody is there")
        more = len(self.http_answers) > 1
        return self.http_answers.pop(0) if more else self.http_answers[0]

    def certificate(
        self, host: str, port: int, *, name: str, timeout: float = 10.0, via: str | None = None,
    ) -> CertificateState:
        return self.certificates.get(name, CertificateState(error="nobody is there"))

    def tcp(self, host: str, port: int, *, timeout: float = 5.0, via: str | None = None) -> str:
        return self.tcp_answers.get(via, "nobody is there")


@dataclass
class FakeReads:
    here: FakeHost = field(default_factory=FakeHost)
    net: FakeNet = field(default_factory=FakeNet)
    time: float = 1_000_000.0
    key: str = "run/node"
    files: dict[str, bytes] = field(default_factory=dict)

    def on(self, host: str | None) -> FakeHost:
        return self.here

    @property
    def dns(self) -> DnsReads:
        raise NotFound("no zones here")

    def database(self, name: str) -> DatabaseReads:
        raise NotFound("no databases here")

    def now(self) -> float:
        return self.time

    def outputs(self, step: str) -> Mapping[str, Any]:
        raise NotFound(f"no outputs of {step}")

    @property
    def progress(self) -> Mapping[str, Any]:
        return {}

    def record_changes(self, zone: str) -> tuple[Change, ...]:
        return ()

    def read_local(self, path: str) -> bytes:
        return self.files.get(path, b"echo\n")
