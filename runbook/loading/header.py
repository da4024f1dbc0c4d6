"""What stands above the steps: policy, secrets, zones, budgets."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, cast, get_args

from runbook.loading.fields import Context, Fields, check_id, describe
from runbook.model.dns import PROVIDERS, Zone, zone_name, zone_origin
from runbook.model.runbook import (
    Budget,
    OnFailure,
    Policy,
    RehearsalPolicy,
    ValuePath,
)
from runbook.model.secrets import SecretRef
from runbook.templating.values import did_you_mean

ON_FAILURE: tuple[str, ...] = get_args(OnFailure)
ON_BREACH = ("rollback", "hold", "warn")
LEVELS = ("plan", "probe", "sandbox", "staging")
EDGES = ("start", "end")
ZONE_KEYS = (
    "provider", "servers", "secondaries", "key", "file", "resolvers", "endpoint", "zone_id",
)
_NEEDED = {"powerdns": ("endpoint", "key"), "cloudflare": ("key",), "file": ("file",)}
_HAS_API = ("powerdns", "route53", "cloudflare")
_SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ZONE_NAME = re.compile(r"([A-Za-z0-9_*-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?(@[A-Za-z0-9_-]+)?")


def read_policy(ctx: Context, raw: Any) -> Policy:
    if raw is None:
        return Policy()
    known = ("on_failure", "on_breach", "rehearsal", "max_parallel", "outside_window")
    fields = Fields(ctx, ("policy",), raw, known, "`policy`")
    found: dict[str, Any] = {
        "on_failure": fields.choice("on_failure", ON_FAILURE),
        "on_breach": fields.choice("on_breach", ON_BREACH),
        "outside_window": fields.choice("outside_window", ("refuse", "warn")),
        "max_parallel": fields.whole("max_parallel", None, least=1),
    }
    if "rehearsal" in fields:
        inner = Fields(
            ctx, fields.where("rehearsal"), fields.raw["rehearsal"], ("required", "max_age"),
            "`rehearsal`",
        )
        found["rehearsal"] = RehearsalPolicy(
            required=cast(Any, inner.choice("required", LEVELS)), max_age=inner.duration("max_age")
        )
    return Policy(**{key: value for key, value in found.items() if value is not None})


def read_secrets(ctx: Context, raw: dict[str, Any]) -> tuple[SecretRef, ...]:
    """``{name: {env: X} | {file: path} | {command: [words]}}``."""
    found: list[SecretRef] = []
    for name, value in raw.items():
        path: ValuePath = ("secrets", name)
        if not _SECRET_NAME.fullmatch(name):
            ctx.fault_at_key(
                path, f"`{name}` cannot be the name of a secret",
                "letters, digits and `_` only, and no digit at the start",
            )
            continue
        if isinstance(value, str):
            ctx.fault(
                path, "a secret is not written here, only where it comes from",
                f"{{env: {name.upper()}}}, {{file: path}} or {{command: [pass, show, {name}]}}",
            )
            continue
        fields = Fields(ctx, path, value, ("env", "file", "command"), f"secret `{name}`")
        given = [key for key in ("env", "file", "command") if key in fields]
        if len(given) != 1:
            if fields.usable:
                ctx.fault(path, f"secret `{name}` wants exactly one of env, file and command")
            continue
        source = given[0]
        argument: str | tuple[str, ...] | None
        if source == "command":
            argument = fields.texts("command")
            if isinstance(fields.raw["command"], str):
                fields.wrong("command", "a list of words", fields.raw["command"],
                             "no shell reads it: command: [pass, show, shop/db]")
                continue
        else:
            argument = fields.text(source)
        if argument:
            found.append(SecretRef(name=name, source=cast(Any, source), argument=argument))
    return tuple(found)


def read_zones(
    ctx: Context, raw: dict[str, Any], secrets: Collection[str]
) -> tuple[Zone, ...]:
    found: dict[str, Zone] = {}
    for name, value in raw.items():
        path: ValuePath = ("zones", name)
        called = zone_name(name)
        if not _ZONE_NAME.fullmatch(name):
            ctx.fault_at_key(
                path, f"`{name}` is not the name of a zone",
                "like shop.example, or shop.example@inside for a view of it",
            )
            continue
        if called in found:
            ctx.fault_at_key(path, f"the zone {called} stands here a second time")
            continue
        fields = Fields(ctx, path, {} if value is None else value, ZONE_KEYS, f"zone `{name}`")
        key = fields.text("key")
        if key is not None and key not in secrets:
            ctx.fault(
                fields.where("key"), f"`key` names the secret `{key}`, which is not declared",
                did_you_mean(key, secrets) or f"declare it: secrets: {{{key}: {{env: …}}}}",
            )
        provider = fields.choice("provider", tuple(PROVIDERS)) or "rfc2136"
        endpoint = fields.text("endpoint")
        _check_provider(fields, provider, endpoint)
        zone = Zone(
            name=zone_origin(name),
            view=called.partition("@")[2],
            provider=provider,
            servers=fields.texts("servers"),
            secondaries=fields.texts("secondaries"),
            key=key,
            file=fields.text("file"),
            resolvers=fields.texts("resolvers"),
            endpoint=endpoint,
            zone_id=fields.text("zone_id"),
        )
        same = next((one for one in found.values() if _same_place(one, zone)), None)
        if same is not None:
            ctx.fault_at_key(
                path, f"nothing tells {called} and {same.called} apart: both lead to one place",
                "give each view its own servers, key or zone_id",
            )
        found[called] = zone
    return tuple(found.values())


def _same_place(one: Zone, other: Zone) -> bool:
    """Whether two views of one name would be asked and changed at the same place."""
    def place(zone: Zone) -> Zone:
        return zone.model_copy(
            update={"view": "", "secondaries": (), "resolvers": (), "servers": zone.servers[:1]}
        )
    return place(one) == place(other)


def _check_provider(fields: Fields, provider: str, endpoint: str | None) -> None:
    """Each provider wants its own keys; where an API is, and which zone, is not for all."""
    for key in _NEEDED.get(provider, ()):
        fields.require(key, f"provider {provider} cannot do without it")
    if provider not in _HAS_API:
        for key in ("endpoint", "zone_id"):
            if key in fields:
                fields.ctx.fault(
                    fields.where(key), f"`{key}` means nothing with provider {provider}",
                    f"it is for {', '.join(_HAS_API)}",
                )
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        fields.wrong("endpoint", "the URL of an API", endpoint, "like http://127.0.0.1:8081")


def read_budgets(
    ctx: Context, raw: dict[str, Any], steps: Collection[str], several: Collection[str] = ()
) -> tuple[Budget, ...]:
    """``steps``: every id that can be named, those in playbooks as ``call/step``; ``several``:
    ids of which planning makes ``id-ITEM``."""
    found: list[Budget] = []
    for name, value in raw.items():
        path: ValuePath = ("budgets", name)
        if not name.isidentifier():
            check_id(ctx, path, "the name of a budget", name)
        fields = Fields(
            ctx, path, value, ("from", "to", "limit", "on_breach"), f"budget `{name}`"
        )
        for key in ("from", "to", "limit"):
            fields.require(key, "like {from: freeze.start, to: thaw.end, limit: 10m}")
        start = _edge(fields, "from", steps, several)
        end = _edge(fields, "to", steps, several)
        limit = fields.duration("limit")
        on_breach = fields.choice("on_breach", ON_BREACH)
        if start is None or end is None or limit is None:
            continue
        found.append(
            Budget(
                name=name, from_step=start[0], from_edge=cast(Any, start[1]), to_step=end[0],
                to_edge=cast(Any, end[1]), limit=limit, on_breach=cast(Any, on_breach),
            )
        )
    return tuple(found)


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
