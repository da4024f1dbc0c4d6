"""The names every template of a runbook can use, whenever it is rendered.

| name | what |
|---|---|
| ``runbook`` | ``id``, ``title``, ``owner`` |
| ``window`` | ``start``, ``end`` (ISO 8601 in its time zone), ``start_unix``, ``end_unix``, ``duration`` (seconds), ``timezone``; absent without a window |
| ``hosts`` | ``one(expr)``, ``all(expr)``, ``count(expr)`` |
| ``secrets`` | ``secrets.NAME``: a mark, never the value |
| ``host`` | the node's host, where the step has ``hosts:`` |
| ``item`` | in a step with ``foreach:`` |
| ``params`` | in a playbook; every parameter also by its bare name |
| ``vars`` | in a runbook; every variable also by its bare name |
| ``outputs`` | ``outputs.step.name``, once the step has run |
"""  # noqa: E501 - a table row cannot be broken

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from runbook.model.inventory import Inventory
from runbook.model.runbook import Window
from runbook.model.secrets import mark
from runbook.model.selector import Hosts
from runbook.templating.values import Names

RESERVED = frozenset(
    {"runbook", "window", "hosts", "secrets", "host", "item", "params", "vars", "outputs"}
)
"""Names a variable or parameter cannot take."""


def base_scope(
    *, runbook: str, title: str, owner: str, window: Window | None, inventory: Inventory,
    secrets: Iterable[str],
) -> dict[str, Any]:
    """The names that are the same for every step."""
    scope: dict[str, Any] = {
        "runbook": Names({"id": runbook, "title": title, "owner": owner}),
        "hosts": Hosts(inventory),
        "secrets": Names({name: mark(name) for name in secrets}),
    }
    if window is not None:
        scope["window"] = Names(
            {
                "start": _iso(window.start, window.timezone),
                "end": _iso(window.end, window.timezone),
                "start_unix": window.start,
                "end_unix": window.end,
                "duration": window.duration,
                "timezone": window.timezone,
            }
        )
    return scope


def _iso(moment: float, zone: str) -> str:
    return datetime.fromtimestamp(moment, ZoneInfo(zone)).isoformat(timespec="minutes")
