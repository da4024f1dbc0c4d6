"""A world in which everything outside takes longer, for rehearsals."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from runbook.model.ports import (
    Actuator,
    Clock,
    DatabaseReads,
    DnsReads,
    HostReads,
    NetReads,
    World,
)


class SlowedWorld:
    """Implements :class:`runbook.model.ports.World`: every question and every action takes
    ``factor`` times as long as it does in ``inner``.

    What it takes is measured in real time; the rest is waited for on the run's own clock, so that
    budgets and the window see it, and a sandbox need not last that long.
    """

    def __init__(self, inner: World, factor: float, real: Clock) -> None:
        self._inner = inner
        self._factor = factor
        self._real = real

    @property
    def clock(self) -> Clock:
        return self._inner.clock

    @property
    def actuator(self) -> Actuator:
        return cast(Actuator, _Slow(self._inner.actuator, self._slowly))

    @property
    def dns(self) -> DnsReads:
        return cast(DnsReads, _Slow(self._inner.dns, self._slowly))

    @property
    def net(self) -> NetReads:
        return cast(NetReads, _Slow(self._inner.net, self._slowly))

    def host(self, name: str | None) -> HostReads:
        return cast(HostReads, _Slow(self._inner.host(name), self._slowly))

    def database(self, name: str) -> DatabaseReads:
        return cast(DatabaseReads, _Slow(self._inner.database(name), self._slowly))

    def prepare(self, hosts: tuple[str, ...], run_as: Mapping[str, tuple[str, ...]]) -> None:
        with self._slowly():
            self._inner.prepare(hosts, run_as)

    def prepare_databases(self) -> None:
        with self._slowly():
            self._inner.prepare_databases()

    def tidy(self, *, keep_saved: bool) -> None:
        with self._slowly():
            self._inner.tidy(keep_saved=keep_saved)

    def redact(self, text: str) -> str:
        return self._inner.redact(text)

    def close(self) -> None:
        self._inner.close()

    @contextmanager
    def _slowly(self) -> Iterator[None]:
        started = self._real.now()
        try:
            yield
        finally:
            more = (self._factor - 1) * max(0.0, self._real.now() - started)
            self.clock.wait(self.clock.now() + more)


class _Slow:
    """Any port: its methods take longer. Whatever methods the ports come to have, none is
    forgotten here."""

    def __init__(self, port: object, slowly: Callable[[], Any]) -> None:
        self._port = port
        self._slowly = slowly

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found

        @functools.wraps(found)
        def slowed(*args: Any, **more: Any) -> Any:
            with self._slowly():
                return found(*args, **more)

        return slowed
