"""The section ``databases:`` of a runbook."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from runbook.loading.fields import Context, Fields, check_id
from runbook.model.database import PORTS, Database
from runbook.model.inventory import Inventory
from runbook.model.runbook import ValuePath
from runbook.templating.values import did_you_mean

DATABASE_KEYS = (
    "engine", "host", "address", "port", "database", "user", "password", "via", "tls", "later",
    "service", "data_directory", "bin_directory", "run_as", "replication",
)
ENGINES = tuple(PORTS)
TLS = ("off", "prefer", "require", "verify")


def read_databases(
    ctx: Context, raw: dict[str, Any], inventory: Inventory, secrets: Collection[str]
) -> tuple[Database, ...]:
    """``{name: {engine: postgres, host: east-db, user: …, password: SECRET, via: east-db}}``."""
    found: list[Database] = []
    hosts = [host.name for host in inventory.hosts]
    for name, value in raw.items():
        path: ValuePath = ("databases", name)
        check_id(ctx, path, "the name of a database", name)
        fields = Fields(ctx, path, value, DATABASE_KEYS, f"database `{name}`")
        for key in ("engine", "host"):
            fields.require(key, "like {engine: postgres, host: east-db}")
        engine = fields.choice("engine", ENGINES)
        host = _host(fields, "host", hosts)
        via = _host(fields, "via", hosts)
        password = fields.text("password")
        if password is not None and password not in secrets:
            fields.ctx.fault(
                fields.where("password"),
                f"`password` names a secret, and `{password}` is not declared"
                if password.isidentifier() else "a password is not written here, only the name "
                "of its secret",
                did_you_mean(password, secrets) or "declare it: secrets: {db: {env: …}}",
            )
        port = fields.whole("port", None, least=1)
        tls = fields.choice("tls", TLS)
        if via is not None and tls not in {None, "off"}:
            fields.ctx.fault(
                fields.where("tls"), "`tls` means nothing inside an SSH tunnel (`via`)",
                "leave one of them out",
            )
        if engine is None or host is None:
            continue
        found.append(Database(
            name=name, engine=cast(Any, engine), host=host, address=fields.text("address"),
            port=PORTS[engine] if port is None else port, database=fields.text("database") or "",
            user=fields.text("user"), password=password, via=via,
            tls=cast(Any, "off" if via is not None else tls or "prefer"),
            later=fields.flag("later", False), service=fields.text("service"),
            data_directory=fields.text("data_directory"),
            bin_directory=fields.text("bin_directory"), run_as=fields.text("run_as"),
            replication=fields.text("replication"),
        ))
    return tuple(found)


def _host(fields: Fields, key: str, hosts: Collection[str]) -> str | None:
    name = fields.text(key)
    if name is not None and name not in hosts:
        fields.ctx.fault(
            fields.where(key), f"there is no host `{name}` in the inventory",
            did_you_mean(name, hosts),
        )
        return None
    return name
