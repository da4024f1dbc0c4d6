"""Rendered arguments held against their kind, faults told at the argument."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import ValidationError

from runbook.errors import Position
from runbook.model.kind import Kind
from runbook.model.problems import Problems
from runbook.templating.values import did_you_mean


def validate(
    kind: type[Kind], args: Mapping[str, Any], late_keys: Collection[str], where: Callable[
        [tuple[str | int, ...], bool], Position
    ], problems: Problems, trail: str,
) -> Kind | None:
    """The kind with these arguments, or None.

    Arguments under ``late_keys`` are templates still: what is wrong with them, or with the
    whole because of them, is not known yet and not told. ``where(path, key)`` is the position
    of a value or, with ``key``, of its key.
    """
    try:
        return kind.model_validate(dict(args))
    except ValidationError as fault:
        for error in fault.errors(include_url=False, include_input=False, include_context=False):
            loc = tuple(error["loc"])
            if late_keys and (not loc or loc[0] in late_keys):
                continue
            message, hint = _readable(kind, str(error["type"]), str(error["msg"]), loc)
            unknown = error["type"] == "extra_forbidden"
            at = where(loc[:-1] if error["type"] == "missing" else loc, unknown)
            problems.add(f"{kind.name}: {message}", at, hint or trail)
    return None


def _readable(
    kind: type[Kind], type_: str, message: str, loc: tuple[str | int, ...]
) -> tuple[str, str]:
    path = ".".join(str(part) for part in loc)
    if type_ == "missing":
        field = next(
            (f for n, f in kind.model_fields.items() if loc and loc[0] in (n, f.alias)), None
        )
        return f"`{path}` is missing", (field.description or "") if field else ""
    if type_ == "extra_forbidden":
        known = [f.alias or n for n, f in kind.model_fields.items()] if len(loc) == 1 else []
        return f"unknown key `{path}`", did_you_mean(str(loc[-1]), known)
    text = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return (f"`{path}`: {text}" if path else text), ""


def late_keys_of(args: Mapping[str, Any], is_late: Callable[[str], bool]) -> frozenset[str]:
    """The top-level arguments that hold a late template anywhere."""
    return frozenset(key for key, value in args.items() if _any_text(value, is_late))


def _any_text(value: Any, test: Callable[[str], bool]) -> bool:
    if isinstance(value, str):
        return test(value)
    if isinstance(value, Mapping):
        return any(_any_text(item, test) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_any_text(item, test) for item in value)
    return False

