"""``with:`` of a step held against its kind, as far as can be told before rendering."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from runbook.loading.fields import Context, describe
from runbook.model.kind import Kind
from runbook.model.runbook import ValuePath
from runbook.templating import is_template
from runbook.templating.values import did_you_mean

_ALL_IN_SIGHT = frozenset({"shell", "script"})
_COMMANDS = frozenset({"command", "done_when", "probe", "check", "back_out", "rsh", "options"})
_SAFE_FOR_SECRETS = frozenset({"env"})


def is_in_sight(kind: str | None, key: str) -> bool:
    """Whether the value becomes text that a process list or a spool folder shows."""
    if key in _SAFE_FOR_SECRETS:
        return False
    return kind in _ALL_IN_SIGHT or key in _COMMANDS


_WANTED = {
    "string_type": "text", "int_type": "a whole number", "int_parsing": "a whole number",
    "int_from_float": "a whole number", "float_type": "a number", "float_parsing": "a number",
    "bool_type": "true or false", "bool_parsing": "true or false", "list_type": "a list",
    "tuple_type": "a list", "dict_type": "a mapping", "mapping_type": "a mapping",
    "model_type": "a mapping", "model_attributes_type": "a mapping", "none_required": "nothing",
}


def keys_of(kind: type[Kind]) -> dict[str, FieldInfo]:
    """Keys as they are written in YAML (aliases where there are some) → fields."""
    return {field.alias or name: field for name, field in kind.model_fields.items()}


def check_arguments(
    ctx: Context, step: ValuePath, path: ValuePath, kind: type[Kind], args: dict[str, Any]
) -> None:
    """Unknown and missing keys; wrong values, unless a template is part of them.

    ``path`` is that of the mapping (``with``), ``step`` where to point when there is none.
    """
    try:
        kind.model_validate(args)
    except ValidationError as fault:
        templates = _has_template(args)
        by_place: dict[ValuePath, list[tuple[str, str, str]]] = {}
        for error in fault.errors(include_url=False, include_input=False, include_context=True):
            loc = tuple(error["loc"])
            type_, message = str(error["type"]), str(error["msg"])
            if type_ == "extra_forbidden":
                _unknown(ctx, path, kind, args, loc)
            elif type_ == "missing":
                _missing(ctx, step, path, kind, args, loc)
            elif loc or not templates:
                expected = str(error.get("ctx", {}).get("expected", ""))
                place = _walk(args, loc)
                by_place.setdefault(place, []).append((type_, message, expected))
        for place, errors in by_place.items():
            value = _value(args, place)
            if not _has_template(value):
                _wrong(ctx, path, kind, place, value, errors)


def _unknown(
    ctx: Context, path: ValuePath, kind: type[Kind], args: dict[str, Any], loc: ValuePath
) -> None:
    known = keys_of(kind) if len(loc) == 1 else {}
    place = _walk(args, loc)
    ctx.fault_at_key(
        (*path, *place), f"unknown key `{loc[-1]}` for the kind {kind.name}",
        did_you_mean(str(loc[-1]), known),
    )


def _missing(
    ctx: Context, step: ValuePath, path: ValuePath, kind: type[Kind], args: dict[str, Any],
    loc: ValuePath,
) -> None:
    field = keys_of(kind).get(str(loc[0])) if len(loc) == 1 else None
    place = (*path, *_walk(args, loc[:-1]))
    at = ctx.key_at(place) if ctx.document.source.at(place) != ctx.at(step) else ctx.at(step)
    ctx.problems.add(
        f"`{loc[-1]}` is missing for the kind {kind.name}", at,
        (field.description or "") if field else "",
    )


def _wrong(
    ctx: Context, path: ValuePath, kind: type[Kind], place: ValuePath, value: Any,
    errors: list[tuple[str, str, str]],
) -> None:
    name = ".".join(str(part) for part in place)
    wanted: list[str] = []
    others: list[str] = []
    for type_, message, expected in errors:
        if type_ in _WANTED:
            wanted.append(_WANTED[type_])
        elif type_ == "literal_error":
            wanted.append(expected.replace("'", ""))
        else:
            others.append(message.removeprefix("Value error, ").removeprefix("Assertion failed, "))
    if others or not wanted:
        text = "; ".join(dict.fromkeys(others))
        ctx.fault((*path, *place), f"`{name}`: {text}" if name else f"{kind.name}: {text}")
        return
    hint = "quote it" if "text" in wanted and isinstance(value, bool | int | float) else ""
    said = " or ".join(dict.fromkeys(wanted))
    ctx.fault((*path, *place), f"`{name}` wants {said}, not {describe(value)}", hint)


def _walk(args: Any, loc: ValuePath) -> ValuePath:
    """The part of an error's location that exists in the value (unions add words of their own,
    and an unknown or missing key ends it)."""
    place: list[str | int] = []
    for part in loc:
        inside = isinstance(args, dict) and part in args
        if not inside and not (isinstance(args, list) and isinstance(part, int)
                               and part < len(args)):
            break
        args = args[part]
        place.append(part)
    return tuple(place)


def _value(args: Any, place: ValuePath) -> Any:
    for part in place:
        args = args[part]
    return args


def _has_template(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_template(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_template(item) for item in value)
    return is_template(value)
