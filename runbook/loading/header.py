"""What stands above the steps: policy, secrets, zones."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, cast, get_args

from runbook.loading.budgets import ON_BREACH
from runbook.loading.fields import Context, Fields, describe
from runbook.model.dns import PROVIDERS, Zone, zone_name, zone_origin
from runbook.model.runbook import (
    OnFailure,
    Policy,
    RehearsalLevel,
    RehearsalPolicy,
    ValuePath,
    WindowPolicy,
)
from runbook.model.secrets import SecretRef, names_in
from runbook.templating.values import did_you_mean

ON_FAILURE: tuple[str, ...] = get_args(OnFailure)
LEVELS: tuple[RehearsalLevel, ...] = get_args(RehearsalLevel)
ENFORCE = ("live", "always", "never")
ZONE_KEYS = (
    "provider", "servers", "secondaries", "key", "file", "resolvers", "endpoint", "zone_id",
    "class", "options", "keys",
)
_NEEDED = {
    "powerdns": ("endpoint", "key"), "cloudflare": ("key",), "file": ("file",),
    "octodns": ("class",),
}
_HAS_API = ("powerdns", "route53", "cloudflare")
_MEANT_FOR = {
    "endpoint": _HAS_API, "zone_id": _HAS_API,
    "class": ("octodns",), "options": ("octodns",), "keys": ("octodns",),
}
"""Keys of a zone that only some providers know."""
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ZONE_NAME = re.compile(r"([A-Za-z0-9_*-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?(@[A-Za-z0-9_-]+)?")


def read_policy(ctx: Context, raw: Any) -> Policy:
    if raw is None:
        return Policy()
    known = ("on_failure", "on_breach", "rehearsal", "max_parallel", "outside_window",
             "window")
    fields = Fields(ctx, ("policy",), raw, known, "`policy`")
    found: dict[str, Any] = {
        "on_failure": fields.choice("on_failure", ON_FAILURE),
        "on_breach": fields.choice("on_breach", ON_BREACH),
        "outside_window": fields.choice("outside_window", ("refuse", "warn")),
        "max_parallel": fields.whole("max_parallel", None, least=1),
    }
    if "rehearsal" in fields:
        found["rehearsal"] = _read_rehearsal(
            Fields(ctx, fields.where("rehearsal"), fields.raw["rehearsal"],
                   ("required", "max_age", "same_digest"), "`rehearsal`")
        )
    if "window" in fields:
        inner = Fields(
            ctx, fields.where("window"), fields.raw["window"], ("on_breach", "safety", "enforce"),
            "`window` of the policy",
        )
        said = {
            "on_breach": inner.choice("on_breach", ON_BREACH), "safety": inner.duration("safety"),
            "enforce": inner.choice("enforce", ENFORCE),
        }
        found["window"] = WindowPolicy.model_validate(
            {key: value for key, value in said.items() if value is not None}
        )
    return Policy(**{key: value for key, value in found.items() if value is not None})


def _read_rehearsal(fields: Fields) -> RehearsalPolicy:
    required: Any = fields.raw.get("required")
    if isinstance(required, list):
        required = fields.texts("required")
        for index, level in enumerate(required):
            if level not in LEVELS:
                fields.ctx.fault((*fields.where("required"), index),
                                 f"there is no level of rehearsal {level!r}",
                                 did_you_mean(level, LEVELS) or f"there are {', '.join(LEVELS)}")
                required = None
                break
    else:
        required = fields.choice("required", LEVELS)
    return RehearsalPolicy(
        required=required or None, max_age=fields.duration("max_age"),
        same_digest=fields.flag("same_digest", True),
    )


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
        if key is not None:
            _check_secret(ctx, fields.where("key"), key, secrets)
        provider = fields.choice("provider", tuple(PROVIDERS)) or "rfc2136"
        endpoint = fields.text("endpoint")
        _check_provider(fields, provider, endpoint)
        file = fields.text("file")
        if file is not None and not (ctx.document.source.file.parent / file).is_file():
            ctx.fault(
                fields.where("file"), f"there is no zone file {file!r}",
                "give it relative to the runbook's folder",
            )
        zone = Zone(
            name=zone_origin(name),
            view=called.partition("@")[2],
            provider=provider,
            servers=fields.texts("servers"),
            secondaries=fields.texts("secondaries"),
            key=key,
            file=file,
            resolvers=fields.texts("resolvers"),
            endpoint=endpoint,
            zone_id=fields.text("zone_id"),
            provider_class=fields.text("class"),
            options=_options(ctx, fields),
            keys=_keys(ctx, fields, secrets),
        )
        same = next((one for one in found.values() if _same_place(one, zone)), None)
        if same is not None:
            ctx.fault_at_key(
                path, f"nothing tells {called} and {same.called} apart: both lead to one place",
                "give each view its own servers, key or zone_id",
            )
        found[called] = zone
    return tuple(found.values())


def _check_secret(
    ctx: Context, at: ValuePath, name: str, secrets: Collection[str]
) -> None:
    if name not in secrets:
        ctx.fault(
            at, f"`{at[-1]}` names the secret `{name}`, which is not declared",
            did_you_mean(name, secrets) or f"declare it: secrets: {{{name}: {{env: …}}}}",
        )


def _options(ctx: Context, fields: Fields) -> dict[str, Any]:
    """``options:`` of a zone, rendered; secrets do not stand there."""
    at = fields.where("options")
    return {
        str(name): _plain(ctx, value, (*at, name))
        for name, value in fields.mapping("options").items()
    }


def _plain(ctx: Context, value: Any, at: ValuePath) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(ctx, one, (*at, key)) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(ctx, one, (*at, index)) for index, one in enumerate(value)]
    made = ctx.rendered(value, at)
    if isinstance(made, str) and names_in(made):
        ctx.fault(
            at, "a secret does not stand in `options`, which every plan shows",
            f"name it under `keys`: keys: {{{at[-1]}: {names_in(made)[0]}}}",
        )
    return made


def _keys(ctx: Context, fields: Fields, secrets: Collection[str]) -> dict[str, str]:
    """``keys:`` of a zone: option → name of the secret."""
    found: dict[str, str] = {}
    for option, value in fields.mapping("keys").items():
        at = (*fields.where("keys"), option)
        name = ctx.rendered(value, at)
        if not isinstance(name, str):
            ctx.fault(at, f"`{option}` wants the name of a secret, not {describe(name)}")
            continue
        _check_secret(ctx, at, name, secrets)
        if option in fields.mapping("options"):
            ctx.fault(at, f"`{option}` stands in `options` as well", "leave it out there")
        found[str(option)] = name
    return found


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
    for key, providers in _MEANT_FOR.items():
        if key in fields and provider not in providers:
            fields.ctx.fault(
                fields.where(key), f"`{key}` means nothing with provider {provider}",
                f"it is for {', '.join(providers)}",
            )
    if provider == "octodns" and "key" in fields:
        fields.ctx.fault(
            fields.where("key"), "`key` means nothing with provider octodns",
            "name the option that it is for: keys: {token: NAME_OF_THE_SECRET}",
        )
    found = fields.text("class")
    if found is not None and not _CLASS.fullmatch(found):
        fields.wrong("class", "a class with its module", found,
                     "like octodns_bind.Rfc2136Provider")
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        fields.wrong("endpoint", "the URL of an API", endpoint, "like http://127.0.0.1:8081")
