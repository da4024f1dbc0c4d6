"""JSON Schema of runbooks, for editors (yaml-language-server) and other checkers.

Draft 7, the newest that every editor reads. It is looser than the loader where a schema cannot
know: a template may stand for any value that is not a mapping of fixed keys.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from runbook.loading.budgets import COUNTS, ON_BREACH
from runbook.loading.databases import DATABASE_KEYS, ENGINES, TLS
from runbook.loading.header import ENFORCE, LEVELS, ON_FAILURE
from runbook.loading.inventory import HOST_KEYS, OWN_KEYS
from runbook.loading.policies import TAKE, TYPES
from runbook.loading.runbook import TOP_KEYS
from runbook.loading.staging import INVERT_KEYS, STAGING_KEYS
from runbook.loading.steps import SEVERITIES, STEP_KEYS
from runbook.model.dns import PROVIDERS
from runbook.model.kind import Kind

_ID = {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]*$"}
_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_TEMPLATE = {"type": "string", "pattern": r"\{\{|\{%|\{#"}
_DURATION: dict[str, Any] = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h|d|w)?\s*)+$"},
        _TEMPLATE,
    ]
}
_WHOLE: dict[str, Any] = {"anyOf": [{"type": "integer", "minimum": 0}, _TEMPLATE]}
_SHARE: dict[str, Any] = {"type": ["integer", "string"]}
_FLAG: dict[str, Any] = {"anyOf": [{"type": "boolean"}, _TEMPLATE]}
_MAPPING: dict[str, Any] = {"type": "object"}
_ANYTHING: dict[str, Any] = {}


def json_schema(kinds: Mapping[str, type[Kind]]) -> dict[str, Any]:
    """The schema of a runbook file, with the keys of every kind given."""
    definitions: dict[str, Any] = {}
    conditions = []
    for name in kinds:
        definitions[f"with:{name}"] = _with(name, kinds[name], definitions)
        conditions.append(
            {
                "if": {"properties": {"kind": {"const": name}}, "required": ["kind"]},
                "then": {"properties": {"with": {"$ref": f"#/definitions/with:{name}"}}},
            }
        )
    definitions["step"] = _step(kinds, conditions)
    definitions["inventory"] = _inventory()
    top = _header()
    top["staging"] = _staging(top)
    top["steps"] = {"type": "array", "minItems": 1, "items": {"$ref": "#/definitions/step"}}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Runbook",
        **_object(top, TOP_KEYS, required=("runbook", "steps")),
        "definitions": definitions,
    }


def _object(
    properties: Mapping[str, Any], descriptions: Mapping[str, str] | None = None, *,
    required: tuple[str, ...] = (),
) -> dict[str, Any]:
    told = descriptions or {}
    return {
        "type": "object",
        "properties": {
            key: {**value, "description": told[key]} if key in told else dict(value)
            for key, value in properties.items()
        },
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
    }


def _choice(*words: str) -> dict[str, Any]:
    return {"anyOf": [{"enum": list(words)}, _TEMPLATE]}


def _named(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": dict(value)}


def _header() -> dict[str, Any]:
    window = {"start": _TEXT, "timezone": _TEXT, "duration": _DURATION, "announce_in": _TEXTS}
    level = _choice(*LEVELS)
    rehearsal = _object({
        "required": {"anyOf": [level, {"type": "array", "items": level}]}, "max_age": _DURATION,
        "same_digest": _FLAG,
    })
    policy = {
        "on_failure": _choice(*ON_FAILURE), "on_breach": _choice(*ON_BREACH),
        "rehearsal": rehearsal, "max_parallel": _WHOLE,
        "outside_window": _choice("refuse", "warn"),
        "window": _object({
            "on_breach": _choice(*ON_BREACH), "safety": _DURATION, "enforce": _choice(*ENFORCE),
        }),
    }
    probe = {
        "http": _TEXT, "method": _TEXT, "headers": _MAPPING, "body": _TEXT,
        "status": {"anyOf": [_WHOLE, {"type": "array", "items": _WHOLE}]}, "contains": _TEXT,
        "every": _DURATION, "timeout": _DURATION, "from": _TEXT, "verify_tls": _FLAG,
    }
    budget = {
        "from": _TEXT, "to": _TEXT, "limit": _DURATION, "on_breach": _choice(*ON_BREACH),
        "probe": _object(probe, required=("http",)), "counts": _choice(*COUNTS),
    }
    secret = {"env": _TEXT, "file": _TEXT, "command": {"type": "array", "items": _TEXT}}
    zone = {
        "provider": _choice(*PROVIDERS), "servers": _TEXTS, "secondaries": _TEXTS, "key": _TEXT,
        "file": _TEXT, "resolvers": _TEXTS, "endpoint": _TEXT, "zone_id": _TEXT,
        "class": _TEXT, "options": _MAPPING, "keys": _named(_TEXT),
    }
    database = dict.fromkeys(DATABASE_KEYS, _TEXT) | {
        "engine": _choice(*ENGINES), "port": _WHOLE, "tls": _choice(*TLS), "later": _FLAG,
    }
    return {
        "runbook": _ID,
        "title": _TEXT,
        "owner": _TEXT,
        "window": _object(window, required=("start", "duration")),
        "policy": _object(policy),
        "budgets": _named(_object(budget, required=("limit",))),
        "inventory": {"anyOf": [_TEXT, {"$ref": "#/definitions/inventory"}]},
        "vars": _MAPPING,
        "secrets": _named({**_object(secret), "minProperties": 1, "maxProperties": 1}),
        "zones": _named({"anyOf": [{"type": "null"}, _object(zone)]}),
        "databases": _named(_object(database, required=("engine", "host"))),
    }


def _staging(header: Mapping[str, Any]) -> dict[str, Any]:
    pairs = {"type": "array", "items": {
        "type": "array", "items": _TEXT, "minItems": 2, "maxItems": 2}}
    own = {
        "invert": _object(dict.fromkeys(INVERT_KEYS, pairs), INVERT_KEYS),
        "faults": {"type": "boolean"},
    }
    shapes = {key: own[key] if key in own else header[key] for key in STAGING_KEYS}
    return _object(shapes, STAGING_KEYS, required=("inventory",))


def _inventory() -> dict[str, Any]:
    host = dict.fromkeys(HOST_KEYS, _TEXT) | {
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "roles": _TEXTS, "groups": _TEXTS, "vars": _MAPPING,
    }
    empty = {"type": "null"}
    site = _object({"title": _TEXT, "resolver": _TEXT})
    group = {"anyOf": [_TEXTS, _object({"hosts": _TEXTS, "vars": _MAPPING})]}
    shapes = {
        "sites": _named({"anyOf": [empty, site]}),
        "hosts": _named({"anyOf": [empty, _object(host)]}),
        "groups": _named(group),
        "ssh_config": _TEXT,
        "known_hosts": _TEXTS,
    }
    return _object({key: shapes[key] for key in OWN_KEYS})


def _step(kinds: Mapping[str, type[Kind]], conditions: list[dict[str, Any]]) -> dict[str, Any]:
    retry = _object({"times": _WHOLE, "wait": _DURATION, "backoff": {"type": "number"}})
    poll = _object({"every": _DURATION, "timeout": _DURATION, "stable": _WHOLE})
    output = _object({"take": _choice(*TAKE), "pattern": _TEXT, "type": _choice(*TYPES)})
    undo = _object({"irreversible": _TEXT}, required=("irreversible",))
    checks = {"type": "array", "items": _MAPPING}
    shapes: dict[str, Any] = {
        "id": _ID,
        "kind": {"enum": list(kinds)},
        "with": _MAPPING,
        "hosts": _TEXTS,
        "expect_hosts": _WHOLE,
        "after": {"anyOf": [_ID, {"type": "array", "items": _ID}]},
        "foreach": {"anyOf": [{"type": "array"}, _MAPPING, _TEMPLATE]},
        "when": {"type": ["string", "boolean"]},
        "retry": {"anyOf": [_WHOLE, retry]},
        "timeout": _DURATION,
        "poll": {"anyOf": [_DURATION, poll]},
        "batch": {"anyOf": [_SHARE, {"type": "array", "minItems": 1, "items": _SHARE}]},
        "soak": _DURATION,
        "max_failures": _SHARE,
        "requires": checks,
        "verify": checks,
        "undo": {"anyOf": [_TEXT, {"const": False}, undo]},
        "on_failure": _choice(*ON_FAILURE),
        "severity": _choice(*SEVERITIES),
        "outputs": _named({"anyOf": [{"enum": list(TAKE)}, output]}),
        "tags": _TEXTS,
        "estimate": _DURATION,
        "estimate_undo": _DURATION,
        "interrupt": _FLAG,
        "point_of_no_return": _FLAG,
        "rehearse": _MAPPING,
    }
    one = _object({key: shapes.get(key, _TEXT) for key in STEP_KEYS}, STEP_KEYS, required=("id",))
    one["oneOf"] = [{"required": ["kind"]}, {"required": ["playbook"]}]
    one["allOf"] = conditions
    members = {"type": "array", "minItems": 1, "items": one}
    told = {
        "id": "A name for the whole group, for `after`.",
        "parallel": "Steps that run side by side; what stands below comes after all of them.",
    }
    group = _object({"id": _ID, "title": _TEXT, "parallel": members}, told, required=("parallel",))
    return {"if": {"required": ["parallel"]}, "then": group, "else": one}


def _with(name: str, kind: type[Kind], definitions: dict[str, Any]) -> dict[str, Any]:
    made = kind.model_json_schema(by_alias=True, ref_template=f"#/definitions/{name}:{{model}}")
    for inner, schema in made.pop("$defs", {}).items():
        definitions[f"{name}:{inner}"] = _with_templates(schema)
    lines = (kind.__doc__ or "").strip().splitlines()
    found = _with_templates(made)
    found.pop("title", None)
    if lines:
        found["description"] = lines[0]
    return found


def _with_templates(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object whose values may all be templates."""
    found = copy.deepcopy(schema)
    found["properties"] = {
        key: _or_template(value) for key, value in found.get("properties", {}).items()
    }
    return found


def _or_template(schema: dict[str, Any]) -> dict[str, Any]:
    """A single value may stand for a list of one, and a template for anything."""
    schema = {key: value for key, value in schema.items() if key != "title"}
    told: dict[str, Any] = {
        key: schema.pop(key) for key in ("description", "default") if key in schema
    }
    if schema in (_ANYTHING, _TEXT):
        return {**told, **schema}
    ways = [_inside(way) for way in schema.pop("anyOf", [])]
    if schema:
        ways.append(_inside(schema))
    single = [way["items"] for way in ways if isinstance(way.get("items"), dict)]
    return {**told, "anyOf": [*ways, *single, _TEMPLATE]}


def _inside(schema: dict[str, Any]) -> dict[str, Any]:
    found = dict(schema)
    for key in ("items", "additionalProperties"):
        if isinstance(found.get(key), dict) and found[key]:
            found[key] = _or_template(found[key])
    return found
