"""The section ``budgets:``: what is measured, from where, and what its limit is."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, cast

from runbook.loading.fields import Context, Fields, check_id, describe
from runbook.model.inventory import Inventory
from runbook.model.runbook import Budget, Probe, ValuePath
from runbook.templating.values import did_you_mean

ON_BREACH = ("rollback", "hold", "warn")
COUNTS = ("total", "longest")
EDGES = ("start", "end")
PROBE_KEYS = (
    "http", "method", "headers", "body", "status", "contains", "every", "timeout", "from",
    "verify_tls",
)
CONTROLLER = "controller"
"""As the place a probe asks from."""
_METHOD = re.compile(r"[A-Z]{3,10}")
_URL = re.compile(r"(?i)https?://[^/\s]")
_FASTEST, _LONGEST = 0.1, 30.0
"""Seconds: between two requests of a probe at least, and for one of them at most."""


def read_budgets(
    ctx: Context, raw: dict[str, Any], steps: Collection[str], several: Collection[str] = (),
    inventory: Inventory | None = None,
) -> tuple[Budget, ...]:
    """``steps``: every id that can be named, those in playbooks as ``call/step``; ``several``:
    ids of which planning makes ``id-ITEM``."""
    found: list[Budget] = []
    known = ("from", "to", "limit", "on_breach", "probe", "counts")
    for name, value in raw.items():
        path: ValuePath = ("budgets", name)
        if not name.isidentifier():
            check_id(ctx, path, "the name of a budget", name)
        fields = Fields(ctx, path, value, known, f"budget `{name}`")
        probed = "probe" in fields
        for key in ("limit",) if probed else ("from", "to", "limit"):
            fields.require(key, "like {from: freeze.start, to: thaw.end, limit: 10m}")
        if not probed and "counts" in fields:
            ctx.fault_at_key(
                fields.where("counts"), "`counts` means nothing without a `probe`",
                "an interval of the journal is one",
            )
        probe = _probe(fields, inventory or Inventory()) if probed else None
        start = _edge(fields, "from", steps, several)
        end = _edge(fields, "to", steps, several)
        limit = fields.duration("limit")
        on_breach = fields.choice("on_breach", ON_BREACH)
        counts = fields.choice("counts", COUNTS) or "total"
        if limit is None or (probe is None and (probed or start is None or end is None)):
            continue
        edges: dict[str, Any] = {}
        if start is not None:
            edges |= {"from_step": start[0], "from_edge": start[1]}
        if end is not None:
            edges |= {"to_step": end[0], "to_edge": end[1]}
        found.append(
            Budget(
                name=name, limit=limit, on_breach=cast(Any, on_breach), probe=probe,
                counts=cast(Any, counts), **edges,
            )
        )
    return tuple(found)


def _probe(outer: Fields, inventory: Inventory) -> Probe | None:
    """None where it says nothing usable; then there are diagnostics."""
    fields = Fields(
        outer.ctx, outer.where("probe"), outer.raw["probe"], PROBE_KEYS, "`probe`"
    )
    fields.require("http", "what is asked for, like http: https://shop.example/order-check")
    url = fields.text("http")
    if url is not None and not _URL.match(url):
        fields.wrong("http", "a URL", url, "like https://shop.example/order-check")
        url = None
    given: dict[str, Any] = {
        "method": _method(fields), "headers": _headers(fields), "body": fields.text("body"),
        "contains": fields.text("contains"), "status": _status(fields),
        "every": _seconds(fields, "every", _FASTEST, None),
        "timeout": _seconds(fields, "timeout", _FASTEST, _LONGEST),
        "verify_tls": fields.flag("verify_tls", True),
    }
    if given["body"] is not None and given["method"] in (None, "GET", "HEAD"):
        fields.ctx.fault_at_key(
            fields.where("body"), "`body` means nothing with this method", "add method: POST"
        )
    host = fields.text("from")
    if host is not None and host != CONTROLLER and inventory.get(host) is None:
        names = [CONTROLLER, *(one.name for one in inventory.hosts)]
        fields.ctx.fault(
            fields.where("from"), f"there is no host `{host}` in the inventory",
            did_you_mean(host, names) or f"or {CONTROLLER}, which is what asks without `from`",
        )
    if url is None:
        return None
    return Probe(
        url=url, host=None if host == CONTROLLER else host,
        **{key: one for key, one in given.items() if one is not None},
    )


def _method(fields: Fields) -> str | None:
    value = fields.text("method")
    if value is not None and not _METHOD.fullmatch(value):
        fields.wrong("method", "a method of HTTP in capitals", value, "like POST")
        return None
    return value


def _headers(fields: Fields) -> dict[str, str]:
    found = {}
    for name, value in fields.mapping("headers").items():
        path = (*fields.where("headers"), name)
        made = fields.ctx.rendered(value, path)
        if isinstance(made, str):
            found[name] = made
        elif made is not None:
            fields.ctx.fault(path, f"a header field wants text, not {describe(made)}", "quote it")
    return found


def _status(fields: Fields) -> tuple[int, ...] | None:
    value = fields.now("status")
    listed = value if isinstance(value, list) else [value]
    if value is None:
        return None
    if all(isinstance(one, int) and 100 <= one <= 599 for one in listed):
        return tuple(listed)
    fields.wrong("status", "a status of HTTP or a list of them", value, "like [200, 201]")
    return None


def _seconds(fields: Fields, key: str, least: float, most: float | None) -> float | None:
    value = fields.duration(key)
    if value is None or (value >= least and (most is None or value <= most)):
        return value
    bounds = f"from {least * 1000:g}ms on" if most is None else f"{least * 1000:g}ms to {most:g}s"
    fields.ctx.fault(
        fields.where(key), f"`{key}` of a probe wants {bounds}",
        "a probe shall not be a load on what it looks at" if most is None else "",
    )
    return None


def _edge(
    fields: Fields, key: str, steps: Collection[str], several: Collection[str]
) -> tuple[str, str] | None:
    value = fields.now(key)
    if value is None:
        return None
    path = fields.where(key)
    step, dot, edge = value.rpartition(".") if isinstance(value, str) else ("", "", "")
    if not dot or edge not in EDGES:
        fields.ctx.fault(
            path, f"`{key}` wants a step and its start or end, not {describe(value)}",
            f"write {value}.start or {value}.end"
            if isinstance(value, str) and value in steps else "like freeze.start",
        )
        return None
    if step not in steps and not any(step.startswith(f"{one}-") for one in several):
        fields.ctx.fault(path, f"there is no step `{step}`", did_you_mean(step, steps))
        return None
    return step, edge
