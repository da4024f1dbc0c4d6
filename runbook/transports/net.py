"""HTTP and TCP as an outsider sees them, and requests that change something.

Every request resolves its name anew and opens a new connection; proxies of the environment are
not used. With ``endpoints`` everything goes into that sandbox.
"""

from __future__ import annotations

import functools
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from runbook.errors import Errored, InDoubt
from runbook.model.actions import ActionKey, ActionResult, SendRequest
from runbook.model.endpoints import Endpoints
from runbook.model.ports import CertificateState, HttpResponse, Resolution
from runbook.model.secrets import Redactor
from runbook.transports.net_dial import Deadline, Dialer, NoConnection, Tunnel

if TYPE_CHECKING:
    import httpx

_MOST = 256 * 1024
"""Bytes of a body that are read."""


class Marks(Protocol):
    def resolve_marks(self, text: str) -> str:
        """The text with secrets put in. Raises NotFound or Errored."""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: str
    headers: Mapping[str, str]
    timeout: float
    body: str | None = None
    via: str | None = None
    connect_to: str | None = None
    follow: bool = False
    verify_tls: bool = True


class _NotSent(Exception):
    """The request did not leave: nobody can have acted on it."""


class _NoAnswer(Exception):
    """The request left, at least in part, and no whole answer came."""


class NetTransport:
    """Implements :class:`runbook.model.ports.NetReads` and performs ``SendRequest``.

    ``tunnel`` opens connections from other hosts, for ``via``. Thread-safe.
    """

    def __init__(
        self, *, endpoints: Endpoints | None, tunnel: Tunnel | None, secrets: Marks,
        redactor: Redactor,
    ) -> None:
        self._dialer = Dialer(endpoints, tunnel)
        self._secrets = secrets
        self._redactor = redactor

    def http(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None,
        timeout: float = 10.0, via: str | None = None, connect_to: str | None = None,
        follow: bool = False, verify_tls: bool = True,
    ) -> HttpResponse:
        """GET or HEAD; status 0 and ``error`` where no whole answer came within ``timeout``.

        Raises Errored where ``via`` cannot be reached, or the sandbox has no such address.
        """
        return self._answer(_Request(
            method=method, url=url, headers=headers or {}, timeout=timeout, via=via,
            connect_to=connect_to, follow=follow, verify_tls=verify_tls,
        ))

    def send(
        self, url: str, *, method: str, headers: Mapping[str, str], body: str | None,
        timeout: float, via: str | None, verify_tls: bool,
    ) -> HttpResponse:
        """As :meth:`http`, with any method and a body: what it does there is the caller's to
        answer for, and it may be sent again and again."""
        return self._answer(_Request(
            method=method, url=url, headers=headers, timeout=timeout, body=body, via=via,
            verify_tls=verify_tls,
        ))

    def _answer(self, request: _Request) -> HttpResponse:
        began = time.monotonic()
        try:
            return self._exchange(request)
        except (_NotSent, _NoAnswer) as fault:
            return HttpResponse(
                status=0, url=request.url, error=str(fault), elapsed=time.monotonic() - began
            )

    def certificate(
        self, host: str, port: int, *, name: str, timeout: float = 10.0, via: str | None = None,
    ) -> CertificateState:
        """What it presents, whether or not it can be trusted. Raises as :meth:`http`."""
        from runbook.transports.net_tls import presented

        return presented(
            self._dialer, host, port, name=name, timeout=timeout, via=via,
            verifying=self._verifying, trusting=self._trusting,
        )

    def tcp(self, host: str, port: int, *, timeout: float = 5.0, via: str | None = None) -> str:
        """Empty when a connection opens, else why not. Raises as :meth:`http`."""
        try:
            sock, _ = self._dialer.connect(host, port, deadline=Deadline(timeout), via=via)
        except NoConnection as fault:
            return str(fault)
        sock.close()
        return ""

    def perform(self, action: SendRequest, key: ActionKey) -> ActionResult:
        """Send it once. ``data``: ``status``, ``body``, ``headers``, ``address``, ``duration``.

        It carries ``Idempotency-Key``, so that a server that knows it can refuse a repetition.
        Raises Errored (it was not sent) or InDoubt (sent, and no answer).
        """
        headers = dict(action.headers)
        if not any(name.lower() == "idempotency-key" for name in headers):
            headers["Idempotency-Key"] = str(key)
        request = _Request(
            method=action.method, url=action.url, headers=headers, timeout=action.timeout,
            body=action.body, via=action.via,
        )
        what = f"{action.method} {action.url}"
        try:
            answer = self._exchange(request)
        except _NotSent as fault:
            raise Errored(f"{what} was not sent: {fault}") from fault
        except _NoAnswer as fault:
            raise InDoubt(
                f"{what} was sent and no answer came: {fault}",
                hint="look at the service whether it took effect",
            ) from fault
        ok = answer.status in action.ok_status
        return ActionResult(
            ok=ok,
            detail=f"{what}: status {answer.status}",
            data={
                "status": answer.status, "body": answer.body[:65536], "headers": answer.headers,
                "address": answer.address, "duration": answer.elapsed,
            },
        )

    def resolve(self, action: SendRequest, key: ActionKey) -> Resolution:
        """A request leaves no trace here: only one that may be repeated is settled."""
        if action.idempotent:
            return Resolution(outcome="not_done", detail="it may be sent again")
        return Resolution(
            outcome="unknown", detail=f"{action.method} {action.url} may or may not have been sent"
        )

    @functools.cached_property
    def _verifying(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    @functools.cached_property
    def _trusting(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def _exchange(self, request: _Request) -> HttpResponse:
        import httpcore
        import httpx

        from runbook.transports.net_http import Backend, Transport

        deadline = Deadline(request.timeout)
        began = time.monotonic()
        fill = self._secrets.resolve_marks
        context = self._verifying if request.verify_tls else self._trusting
        try:
            url = fill(request.url)
            host = urlsplit(url).hostname or ""
            backend = Backend(
                self._dialer, deadline=deadline, via=request.via,
                redirected=(host, request.connect_to) if request.connect_to else None,
            )
            with (
                httpx.Client(
                    transport=Transport(backend, context), trust_env=False,
                    follow_redirects=request.follow, timeout=None,
                    headers={"User-Agent": "runbook", "Connection": "close"},
                ) as client,
                client.stream(
                    request.method, url, content=fill(request.body) if request.body else None,
                    headers={name: fill(value) for name, value in request.headers.items()},
                ) as answer,
            ):
                body = _body(answer)
                return HttpResponse(
                    status=answer.status_code, url=self._redactor.text(str(answer.url)),
                    headers={k: self._redactor.text(v) for k, v in answer.headers.items()},
                    body=self._redactor.text(body), elapsed=time.monotonic() - began,
                    address=backend.address,
                )
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as fault:
            raise _NotSent(self._redactor.text(str(fault))) from fault
        except (httpx.InvalidURL, httpcore.UnsupportedProtocol, ValueError) as fault:
            raise _NotSent(self._redactor.text(f"not a request: {fault}")) from fault
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError,
                httpx.HTTPError) as fault:
            raise _NoAnswer(self._redactor.text(str(fault) or type(fault).__name__)) from fault


def _body(answer: httpx.Response) -> str:
    """The first 256 KiB, decoded as the answer says, or as UTF-8, with replacement."""
    parts: list[bytes] = []
    size = 0
    for part in answer.iter_bytes():
        parts.append(part)
        size += len(part)
        if size >= _MOST:
            break
    data = b"".join(parts)[:_MOST]
    try:
        return data.decode(answer.charset_encoding or "utf-8", errors="replace")
    except LookupError:
        return data.decode("utf-8", errors="replace")
