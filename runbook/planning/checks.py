"""Items of ``requires:`` and ``verify:`` in their one form: a kind, its arguments, where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook.model.duration import parse_duration
from runbook.model.kind import Kind
from runbook.model.runbook import Poll, ValuePath
from runbook.templating import is_template
from runbook.templating.values import did_you_mean

_SHORT = {
    "http": ("http.check", "url"),
    "tcp": ("tcp.check", "host"),
    "command": ("assert", "command"),
    "that": ("assert", "that"),
    "dns": ("dns.verify", "name"),
}
"""Short form → kind, and the key its value goes to."""

_LONG_KEYS = frozenset({"kind", "with", "host", "poll"})


class BadCheck(ValueError):
    """An item that says nothing, or too much. ``path`` is the place inside the item."""

    def __init__(self, message: str, path: ValuePath = (), hint: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.hint = hint


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """``places``: for each argument the path of its value inside the item."""

    kind: str
    args: dict[str, Any]
    places: dict[str, ValuePath]
    host: str | None = None
    poll: Poll | None = None

    def place(self, path: ValuePath) -> ValuePath:
        if not path:
            return ()
        return (*self.places.get(str(path[0]), ()), *path[1:])


def read_check(item: Mapping[str, Any], kinds: Mapping[str, type[Kind]]) -> CheckSpec:
    """Raises BadCheck."""
    short = [name for name in _SHORT if name in item]
    if "kind" in item:
        name, args, places = _long(item)
    elif len(short) == 1:
        name, args, places = _short(short[0], item)
    else:
        raise BadCheck(
            "a check names a `kind`, or is one of " + ", ".join(f"`{s}`" for s in _SHORT),
            hint="for example {http: https://shop.example/health, status: 200}",
        )
    kind = kinds.get(name)
    if kind is None:
        raise BadCheck(f"there is no kind {name!r}", ("kind",), did_you_mean(name, kinds))
    if not kind.check:
        raise BadCheck(
            f"{name} acts on the world, and a check only looks", ("kind",),
            did_you_mean(name, (one for one, found in kinds.items() if found.check)),
        )
    host = item.get("host")
    return CheckSpec(
        name, args, places, None if host is None else str(host), read_poll(item.get("poll"))
    )


def _long(item: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, ValuePath]]:
    for key in item:
        if key not in _LONG_KEYS:
            raise BadCheck(
                f"unknown key `{key}` in a check", (key,), did_you_mean(str(key), _LONG_KEYS)
            )
    args = item.get("with") or {}
    if not isinstance(args, Mapping):
        raise BadCheck("`with` of a check is a mapping", ("with",))
    return str(item["kind"]), dict(args), {str(key): ("with", str(key)) for key in args}


def _short(
    name: str, item: Mapping[str, Any]
) -> tuple[str, dict[str, Any], dict[str, ValuePath]]:
    kind, field = _SHORT[name]
    value = item[name]
    args: dict[str, Any] = {}
    places: dict[str, ValuePath] = {}
    if isinstance(value, Mapping):
        args.update(value)
        places.update({str(key): (name, str(key)) for key in value})
    else:
        if name == "that" and isinstance(value, str) and not is_template(value):
            value = "{{ " + value + " }}"
        if name == "tcp":
            value, args["port"] = _address(value)
            places["port"] = (name,)
        args[field] = value
        places[field] = (name,)
    for key, one in item.items():
        if key not in {name, "host", "poll"}:
            args[str(key)] = one
            places[str(key)] = (str(key),)
    return kind, args, places


def _address(value: Any) -> tuple[str, int | str]:
    """Host and port of ``host:port``; either may be a template. Raises BadCheck."""
    host, colon, port = str(value).rpartition(":")
    if not colon or not host or not (port.isdigit() or is_template(port)):
        raise BadCheck(f"`tcp: {value}` is not of the form host:port", ("tcp",))
    return host.removeprefix("[").removesuffix("]"), int(port) if port.isdigit() else port


def read_poll(value: Any) -> Poll | None:
    """``{every: 5s, timeout: 2m, stable: 3}``, or a duration alone. Raises BadCheck."""
    if value is None or isinstance(value, Poll):
        return value
    if not isinstance(value, Mapping):
        value = {"timeout": value}
    made: dict[str, Any] = {}
    for key, one in value.items():
        if key not in Poll.model_fields:
            raise BadCheck(
                f"unknown key `{key}` in `poll`", ("poll", str(key)),
                did_you_mean(str(key), Poll.model_fields),
            )
        try:
            made[str(key)] = int(one) if key == "stable" else parse_duration(one)
        except (ValueError, TypeError, AttributeError) as fault:
            raise BadCheck(f"`{key}`: {fault}", ("poll", str(key))) from fault
    return Poll(**made)
