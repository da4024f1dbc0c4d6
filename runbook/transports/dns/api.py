"""Requests to a provider's HTTP API with JSON: what was sent, and what is certain about it.

The proxy variables of the environment are honoured, since an API is often reached no other way
from inside a datacenter. The secret travels in a header and is taken out of every text.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from runbook.errors import Errored
from runbook.model.dns import Zone
from runbook.transports.dns.wire import KeyRefused, Unsure

_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Reply:
    """``data`` is the body's JSON, or None where it is none; ``text`` the body, shortened."""

    status: int
    data: Any
    text: str


class JsonApi:
    """``base`` is the URL all paths are relative to; ``secret`` goes into ``header`` after
    ``prefix``. ``timeout`` is the patience of one request in seconds.

    Raises Errored where the URL or the secret cannot be used at all.
    """

    def __init__(
        self, base: str, *, header: str, secret: str, prefix: str = "", timeout: float
    ) -> None:
        if not (secret.isascii() and secret.isprintable() and " " not in secret):
            raise Errored(
                f"the key for {base} has characters that no key has; nothing was sent",
                hint="look at the secret: a line end, a blank, a byte order mark?",
            )
        self._base = base.rstrip("/")
        self._headers = {header: prefix + secret}
        self._secret = secret
        self._timeout = timeout

    def read(self, path: str, params: Mapping[str, str | int] | None = None) -> Any:
        """GET. Raises Errored (KeyRefused for 401 and 403), also for an answer without JSON."""
        try:
            reply = self._send("GET", path, params=params)
        except httpx.HTTPError as fault:
            raise Errored(
                f"{self._base} did not answer: {self._said(fault)}",
                hint="check the API's address, and whether it is reached from here",
            ) from fault
        if reply.status != 200 or reply.data is None:
            raise Errored(
                f"{self._base} answered {reply.status} to GET {path}: {reply.text}",
                hint="check `endpoint` and `zone_id` of the zone",
            )
        return reply.data

    def change(self, method: str, path: str, body: Mapping[str, Any]) -> Reply:
        """One change, sent once; any final answer below 500, also a refusal.

        Raises Errored (certainly nothing changed) or Unsure (sent, and nobody said what came
        of it; answers of 500 and above are of that kind).
        """
        try:
            reply = self._send(method, path, body=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as fault:
            raise Errored(
                f"{self._base} could not be reached: {self._said(fault)}; nothing was changed",
                hint="check the API's address, and whether it is reached from here",
            ) from fault
        except httpx.HTTPError as fault:
            raise Unsure(f"{self._base}: {self._said(fault)}") from fault
        if reply.status >= 500:
            raise Unsure(f"{self._base} answered {reply.status}: {reply.text}")
        if reply.status == 429:
            raise Errored(
                f"{self._base} takes no more requests for now (429); nothing was changed",
                hint="try again later, or give the step a `retry`",
            )
        return reply

    def _send(
        self, method: str, path: str, *, params: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Reply:
        try:
            with httpx.Client(
                headers=self._headers, timeout=self._timeout, verify=_tls()
            ) as client:
                found = client.request(method, self._base + path, params=params, json=body)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as fault:
            raise Errored(
                f"{self._base} is not the URL of an API: {self._said(fault)}; nothing was sent",
                hint="like http://127.0.0.1:8081",
            ) from fault
        try:
            data = found.json()
        except ValueError:  # the caller says so where it needs a body
            data = None
        reply = Reply(found.status_code, data, self._shortened(found.text))
        if reply.status in {401, 403}:
            raise KeyRefused(
                f"{self._base} refuses our key ({reply.status}: {reply.text}); "
                "nothing was changed",
                hint="check the secret that the zone's `key` names, and what it may do",
            )
        return reply

    def _said(self, fault: Exception) -> str:
        return self._shortened(str(fault) or type(fault).__name__)

    def _shortened(self, text: str) -> str:
        plain = " ".join(text.split()).replace(self._secret, "…")
        return plain if len(plain) <= _SHOWN else plain[: _SHOWN - 1] + "…"


@functools.cache
def _tls() -> ssl.SSLContext:
    """Reading the certificates of all authorities takes longer than most requests."""
    return httpx.create_ssl_context()


def api_key(zone: Zone) -> str:
    """Name of the secret that opens the zone's API. Raises Errored where none is given."""
    if zone.key is None:
        raise Errored(
            f"the zone {zone.name} names no key for {zone.provider}; nothing was sent",
            hint="declare a secret and name it: `key:` of the zone",
        )
    return zone.key
