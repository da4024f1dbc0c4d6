"""Every kind of step there is: the built-in ones and those of installed packages.

Importing this package imports no kind. :func:`registry` gives a mapping that imports the one that
is asked for. A package adds kinds through the entry point group ``runbook.kinds``::

    [project.entry-points."runbook.kinds"]
    "acme.deploy" = "acme_runbook.deploy:AcmeDeploy"
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from runbook.errors import NotFound

if TYPE_CHECKING:
    from runbook.model.kind import Kind

ENTRY_POINTS = "runbook.kinds"

_BUILT_IN: dict[str, str] = {
    "shell": "runbook.kinds.shell:Shell",
    "script": "runbook.kinds.script:Script",
    "file": "runbook.kinds.file:File",
    "template": "runbook.kinds.template:Template",
    "files.sync": "runbook.kinds.files_sync:FilesSync",
    "files.compare": "runbook.kinds.files_compare:FilesCompare",
    "service": "runbook.kinds.service:Service",
    "http.check": "runbook.kinds.http_check:HttpCheck",
    "tcp.check": "runbook.kinds.tcp_check:TcpCheck",
    "assert": "runbook.kinds.assert_:Assert",
    "poll": "runbook.kinds.poll:PollCommand",
    "wait": "runbook.kinds.wait:Wait",
    "gate.approve": "runbook.kinds.gate_approve:GateApprove",
    "manual": "runbook.kinds.manual:Manual",
    "notify.log": "runbook.kinds.notify_log:NotifyLog",
    "dns.inventory": "runbook.kinds.dns_inventory:DnsInventory",
    "dns.ttl": "runbook.kinds.dns_ttl:DnsTtl",
    "dns.wait_ttl": "runbook.kinds.dns_wait_ttl:DnsWaitTtl",
    "dns.wait_back": "runbook.kinds.dns_wait_back:DnsWaitBack",
    "dns.flip": "runbook.kinds.dns_flip:DnsFlip",
    "dns.shift": "runbook.kinds.dns_shift:DnsShift",
    "dns.verify": "runbook.kinds.dns_verify:DnsVerify",
    "dns.restore_ttl": "runbook.kinds.dns_restore_ttl:DnsRestoreTtl",
    "nginx.maintenance": "runbook.kinds.nginx_maintenance:NginxMaintenance",
    "cron.hold": "runbook.kinds.cron_hold:CronHold",
    "cron.release": "runbook.kinds.cron_hold:CronRelease",
    "alerts.silence": "runbook.kinds.alerts_silence:AlertsSilence",
    "alerts.unsilence": "runbook.kinds.alerts_silence:AlertsUnsilence",
    "capacity.check": "runbook.kinds.capacity_check:CapacityCheck",
    "mysql.freeze": "runbook.kinds.mysql_freeze:MysqlFreeze",
    "mysql.catch_up": "runbook.kinds.mysql_promote:MysqlCatchUp",
    "mysql.compare": "runbook.kinds.mysql_compare:MysqlCompare",
    "mysql.promote": "runbook.kinds.mysql_promote:MysqlPromote",
    "mysql.thaw": "runbook.kinds.mysql_freeze:MysqlThaw",
    "mysql.rejoin": "runbook.kinds.mysql_promote:MysqlRejoin",
    "redis.freeze": "runbook.kinds.redis_freeze:RedisFreeze",
    "redis.catch_up": "runbook.kinds.redis_promote:RedisCatchUp",
    "redis.compare": "runbook.kinds.redis_compare:RedisCompare",
    "redis.promote": "runbook.kinds.redis_promote:RedisPromote",
    "redis.thaw": "runbook.kinds.redis_freeze:RedisThaw",
    "redis.rejoin": "runbook.kinds.redis_rejoin:RedisRejoin",
    "sql.query": "runbook.kinds.sql_query:SqlQuery",
    "sql.assert": "runbook.kinds.sql_query:SqlAssert",
    "writes.sentinel": "runbook.kinds.writes_sentinel:WritesSentinel",
    "pgbouncer.pause": "runbook.kinds.pgbouncer:PgbouncerPause",
    "pgbouncer.resume": "runbook.kinds.pgbouncer:PgbouncerResume",
    "haproxy.server": "runbook.kinds.haproxy_server:HaproxyServer",
    "postgres.freeze": "runbook.kinds.postgres_freeze:PostgresFreeze",
    "postgres.drain": "runbook.kinds.postgres_checks:PostgresDrain",
    "postgres.fence": "runbook.kinds.postgres_fence:PostgresFence",
    "postgres.catch_up": "runbook.kinds.postgres_checks:PostgresCatchUp",
    "postgres.compare": "runbook.kinds.postgres_compare:PostgresCompare",
    "postgres.promote": "runbook.kinds.postgres_promote:PostgresPromote",
    "postgres.thaw": "runbook.kinds.postgres_freeze:PostgresThaw",
    "postgres.rejoin": "runbook.kinds.postgres_promote:PostgresRejoin",
}


@functools.cache
def registry() -> Mapping[str, type[Kind]]:
    """All kinds by name. A kind is imported when it is asked for, and only then.

    Looking up an unknown name raises KeyError. A kind of another package that cannot be loaded,
    or is none, raises NotFound naming the package; a built-in name cannot be taken over.
    """
    return _Registry()


def names() -> tuple[str, ...]:
    """Names of all kinds, built-in ones first, without importing any."""
    return tuple(registry())


class _Registry(Mapping[str, "type[Kind]"]):
    def __init__(self) -> None:
        self._loaded: dict[str, type[Kind]] = {}

    @functools.cached_property
    def _third_party(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda p: (p.name, p.value)):
            if point.name not in _BUILT_IN:
                found.setdefault(point.name, []).append(point)
        return found

    def __getitem__(self, name: str) -> type[Kind]:
        if name not in self._loaded:
            target = _BUILT_IN.get(name)
            if target is not None:
                module, _, attribute = target.partition(":")
                self._loaded[name] = getattr(importlib.import_module(module), attribute)
            else:
                self._loaded[name] = _load(name, self._third_party[name])
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in _BUILT_IN or name in self._third_party

    def __iter__(self) -> Iterator[str]:
        yield from _BUILT_IN
        yield from self._third_party

    def __len__(self) -> int:
        return len(_BUILT_IN) + len(self._third_party)


def _load(name: str, points: list[EntryPoint]) -> type[Kind]:
    from runbook.model.kind import Kind

    if len(points) > 1:
        raise NotFound(
            f"kind {name!r} is offered by several packages: "
            + ", ".join(_package(point) for point in points),
            hint="uninstall all but one of them",
        )
    point = points[0]
    try:
        found = point.load()
    except Exception as fault:  # a foreign package can fail in any way
        raise NotFound(
            f"kind {name!r} of package {_package(point)} cannot be loaded from {point.value}: "
            f"{type(fault).__name__}: {fault}",
            hint="mend or uninstall that package; every other kind still works",
        ) from fault
    if not (inspect.isclass(found) and issubclass(found, Kind)):
        raise NotFound(
            f"kind {name!r} of package {_package(point)}: {point.value} is not a subclass of "
            f"runbook.model.kind.Kind",
            hint="mend or uninstall that package",
        )
    if getattr(found, "name", None) != name:
        raise NotFound(
            f"kind {name!r} of package {_package(point)} calls itself "
            f"{getattr(found, 'name', None)!r}",
            hint="the entry point and the class must give the same name",
        )
    return found


def _package(point: EntryPoint) -> str:
    if point.dist is None:
        return point.value.partition(":")[0]
    return f"{point.dist.name} {point.dist.version}"
