"""The small mappings of a step: retry, poll, outputs, undo."""

from __future__ import annotations

import math
import re
from typing import Any, cast

from runbook.loading.fields import Fields, describe
from runbook.model.duration import LONGEST
from runbook.model.runbook import OutputSpec, Poll, Retry

TAKE = ("stdout", "json", "regex", "exit_code")
TYPES = ("str", "int", "float", "bool", "json")


def read_retry(fields: Fields) -> Retry:
    """``retry: 3`` or ``{times: 3, wait: 5s, backoff: 2}``."""
    value = fields.raw.get("retry")
    if not isinstance(value, dict):
        return Retry(times=fields.whole("retry", 0) or 0)
    inner = Fields(
        fields.ctx, fields.where("retry"), value, ("times", "wait", "backoff"), "`retry`"
    )
    inner.require("times", "how many more attempts a failure is worth")
    wait = inner.duration("wait")
    found = Retry(
        times=inner.whole("times", 0) or 0, wait=1.0 if wait is None else wait,
        backoff=inner.number("backoff", 1.0, least=1.0),
    )
    if found.wait and found.times > 1:
        last = math.log(found.wait) + (found.times - 1) * math.log(found.backoff)
        if last > math.log(LONGEST):
            fields.ctx.fault(inner.path, "the last of these attempts would wait for more than 100 "
                             "years", "a smaller `backoff`, or fewer `times`")
    return found


def read_poll(fields: Fields) -> Poll | None:
    """``{every: 5s, timeout: 2m, stable: 3}``, or the time limit alone."""
    value = fields.raw.get("poll")
    if value is None:
        return None
    if not isinstance(value, dict):
        limit = fields.duration("poll")
        return None if limit is None else Poll(timeout=limit)
    inner = Fields(
        fields.ctx, fields.where("poll"), value, ("every", "timeout", "stable"), "`poll`"
    )
    every, limit = inner.duration("every"), inner.duration("timeout")
    if every is not None and every <= 0:
        inner.wrong("every", "a duration greater than nothing", value["every"])
    found: dict[str, Any] = {
        "every": every, "timeout": limit, "stable": inner.whole("stable", None, least=1)
    }
    return Poll(**{key: one for key, one in found.items() if one is not None})


def read_outputs(fields: Fields) -> dict[str, OutputSpec]:
    """``{rows: {take: regex, pattern: 'rows=(\\d+)', type: int}}``; ``{name: stdout}``."""
    found: dict[str, OutputSpec] = {}
    ctx = fields.ctx
    for name, value in fields.mapping("outputs").items():
        path = (*fields.where("outputs"), name)
        if not (name.isascii() and name.isidentifier()):
            ctx.fault_at_key(
                path, f"`{name}` cannot be the name of an output",
                "letters, digits and `_` only, and no digit at the start",
            )
        if isinstance(value, str):
            if value in TAKE:
                found[name] = OutputSpec(take=cast(Any, value))
            else:
                ctx.fault(path, f"an output is taken from {', '.join(TAKE)}, not {value!r}")
            continue
        inner = Fields(ctx, path, value, ("take", "pattern", "type"), f"output `{name}`")
        spec: dict[str, Any] = {
            "take": inner.choice("take", TAKE), "pattern": inner.raw_text("pattern"),
            "type": inner.choice("type", TYPES),
        }
        made = OutputSpec(**{key: one for key, one in spec.items() if one is not None})
        _check_pattern(inner, made)
        found[name] = made
    return found


def _check_pattern(inner: Fields, spec: OutputSpec) -> None:
    if spec.take != "regex":
        return
    if not spec.pattern:
        inner.require("pattern", "an expression with one group, like rows=(\\d+)")
        return
    try:
        groups = re.compile(spec.pattern).groups
    except re.error as fault:
        inner.ctx.fault(inner.where("pattern"), f"this is not a regular expression: {fault}")
        return
    if groups != 1:
        inner.ctx.fault(
            inner.where("pattern"), f"the expression has {groups} groups, one is wanted",
            "the group in ( ) is what is taken; write (?: ) for the others",
        )


def read_undo(fields: Fields) -> str | dict[str, Any] | bool | None:
    """A command, ``{irreversible: why}``, or false: there is no way back."""
    value = fields.raw.get("undo")
    if value is None or isinstance(value, str) or value is False:
        return value
    if isinstance(value, dict):
        inner = Fields(
            fields.ctx, fields.where("undo"), value, ("irreversible",), "`undo`"
        )
        inner.require("irreversible", "say why there is no way back")
        return {"irreversible": inner.raw_text("irreversible") or ""}
    fields.wrong("undo", "a command, {irreversible: why} or false", value)
    return None


def read_batch(fields: Fields) -> tuple[int | str, ...]:
    """Nodes at a time: a number, a percentage like ``25%``, or a list of them, a ramp."""
    value = fields.raw.get("batch")
    if not isinstance(value, list):
        share = _share(fields.now("batch"))
        if share is None and value is not None:
            fields.wrong("batch", "a number of nodes or a percentage like 25%", value,
                         "or a ramp: [1, 10%, 50%]")
        return () if share is None else (share,)
    found = []
    for index, item in enumerate(value):
        share = _share(item)
        if share is None:
            fields.ctx.fault((*fields.where("batch"), index), "`batch` wants numbers of nodes or "
                             "percentages like 25% in its list")
        else:
            found.append(share)
    return tuple(found)


def read_max_failures(fields: Fields) -> int | str:
    """Nodes that may fail: a number, or a percentage."""
    value = fields.now("max_failures")
    if value in (None, 0):
        return 0
    share = _share(value)
    if share is None:
        fields.wrong("max_failures", "a number of nodes or a percentage like 5%", value)
        return 0
    return share


def _share(value: Any) -> int | str | None:
    """A number from 1 on, or a percentage from 1 to 100; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{1,3}\s*%", value):
        return value.replace(" ", "") if 1 <= int(value.rstrip("% ")) <= 100 else None
    if isinstance(value, str) and re.fullmatch(r"[1-9]\d{0,8}", value):
        return int(value)
    return None


def read_when(fields: Fields) -> str | bool | None:
    value = fields.raw.get("when")
    if value is None or isinstance(value, str | bool):
        return value
    fields.wrong("when", "a condition", value, "like when: \"outputs.count.rows > 0\"")
    return None


def read_hosts(fields: Fields) -> str | list[str] | None:
    value = fields.raw.get("hosts")
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return [one for index, one in enumerate(value) if _is_text(fields, one, index)]
    fields.wrong("hosts", "a host expression or a list of them", value, "like east and db")
    return None


def _is_text(fields: Fields, value: Any, index: int) -> bool:
    if isinstance(value, str):
        return True
    path = (*fields.where("hosts"), index)
    fields.ctx.fault(path, f"a host expression is wanted, not {describe(value)}")
    return False


def read_checks(fields: Fields, key: str) -> tuple[dict[str, Any], ...]:
    """The items of ``requires:`` and ``verify:``; what they say is judged with the kinds."""
    found = []
    for index, item in enumerate(fields.listing(key)):
        if isinstance(item, dict):
            found.append(item)
        else:
            fields.ctx.fault(
                (*fields.where(key), index), f"a check wants a mapping, not {describe(item)}",
                "like {http: https://shop.example/health, status: 200}",
            )
    return tuple(found)
