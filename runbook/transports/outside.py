"""A customer outside: the requests of budgets' probes, from here or from another host."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from runbook.model.endpoints import Endpoints
from runbook.model.ports import HttpResponse
from runbook.model.secrets import Redactor
from runbook.transports.net import Marks, NetTransport
from runbook.transports.net_dial import Silence, SocketLike

Vantage = Callable[[str, str, int, float], SocketLike]
"""``(host, name or address, port, seconds)``: a connection from that host. Raises Errored; where
nothing was heard in time its cause is a TimeoutError."""


class Outside:
    """Implements :class:`runbook.model.ports.OutsideClient`.

    ``alive`` raises Errored where a host does not answer: a far end that keeps silent is told
    apart from a vantage point that is itself out of reach. Thread-safe.
    """

    def __init__(
        self, *, endpoints: Endpoints | None, vantage: Vantage, alive: Callable[[str], object],
        secrets: Marks, redactor: Redactor,
    ) -> None:
        self._endpoints = endpoints
        self._vantage = vantage
        self._alive = alive
        self._secrets = secrets
        self._redactor = redactor
        self._nets: dict[float, NetTransport] = {}

    def request(
        self, url: str, *, method: str, headers: Mapping[str, str], body: str | None,
        timeout: float, via: str | None, verify_tls: bool,
    ) -> HttpResponse:
        """As the port says. It names itself, unless ``headers`` do."""
        began = time.monotonic()
        try:
            return self._net(timeout).send(
                url, method=method, headers={"User-Agent": "runbook-probe", **headers}, body=body,
                timeout=timeout, via=via, verify_tls=verify_tls,
            )
        except Silence as fault:
            if via is not None:
                self._alive(via)
            return HttpResponse(
                status=0, url=url, error=fault.message, elapsed=time.monotonic() - began
            )

    def _net(self, timeout: float) -> NetTransport:
        """One for each time limit, as it also has to end the opening of a tunnel."""
        known = self._nets.get(timeout)
        if known is not None:
            return known

        def tunnel(host: str, name: str, port: int) -> SocketLike:
            return self._vantage(host, name, port, timeout)

        return self._nets.setdefault(timeout, NetTransport(
            endpoints=self._endpoints, tunnel=tunnel, secrets=self._secrets,
            redactor=self._redactor,
        ))
