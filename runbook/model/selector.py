"""Which hosts an expression means: ``east and db``, ``web or (cache and not west)``, ``web*``.

A word stands for a host's name, its site, one of its roles or one of its groups; ``*`` and ``?``
are wildcards over names. ``site=east``, ``role=db``, ``group=g`` and ``name=h`` say which of the
four is meant (``:`` or ``~`` may stand for ``=``, and ``host`` for ``name``). ``all`` is every
host. ``not`` binds tightest, then ``and``, then ``or``; a comma is another way to write ``or``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from runbook.model.inventory import Host, Inventory

_TOKEN = re.compile(r"\s*(?:([(),])|([^\s(),]+))")
_FIELDS = {"site": "site", "role": "roles", "group": "groups", "name": "name", "host": "name"}
_QUALIFIED = re.compile(r"([A-Za-z_]+)[:=~](.+)")


def select(expression: str | list[str], inventory: Inventory) -> tuple[Host, ...]:
    """The hosts an expression (or a list of them, together) means, in the inventory's order.

    Raises ValueError with a readable message when the expression is malformed or uses a word
    that names no host, site, role or group at all. An empty selection is not an error here.
    """
    parts = [expression] if isinstance(expression, str) else list(expression)
    chosen: set[str] = set()
    for part in parts:
        chosen |= _Parser(part, inventory).parse()
    return tuple(host for host in inventory.hosts if host.name in chosen)


class HostName(str):
    """A host's name that also answers ``.address``, ``.site``, … inside a template."""

    __slots__ = ("_host",)
    _host: Host

    def __new__(cls, host: Host) -> HostName:
        made = super().__new__(cls, host.name)
        made._host = host
        return made

    def __getattr__(self, name: str) -> Any:
        if name in self._host.vars:
            return self._host.vars[name]
        if not name.startswith("_") and name in type(self._host).model_fields:
            return getattr(self._host, name)
        raise AttributeError(f"host {str(self)!r} has no {name!r}")


class Hosts:
    """The name ``hosts`` of templates: ``hosts.one('east and db')``, ``.all(…)``, ``.count(…)``.

    Every method raises ValueError with a readable message.
    """

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def one(self, expression: str) -> HostName:
        """The only host the expression means; more or fewer than one is an error."""
        found = self.all(expression)
        if len(found) != 1:
            seen = ", ".join(found) or "none"
            raise ValueError(f"{expression!r} means {len(found)} hosts ({seen}), one is wanted")
        return found[0]

    def all(self, expression: str = "all") -> list[HostName]:
        return [HostName(host) for host in select(expression, self._inventory)]

    def count(self, expression: str = "all") -> int:
        return len(select(expression, self._inventory))


class _Parser:
    """Recursive descent over the words of one expression."""

    def __init__(self, text: str, inventory: Inventory) -> None:
        self._text = text
        self._inventory = inventory
        self._words = [one or two for one, two in _TOKEN.findall(text)]
        self._at = 0
        self._depth = 0

    def parse(self) -> set[str]:
        if not self._words:
            raise ValueError("an empty host expression; write `all` to mean every host")
        found = self._either()
        if self._at < len(self._words):
            raise ValueError(
                f"{self._words[self._at]!r} was not expected in host expression {self._text!r}; "
                "put `and`, `or` or a comma between words"
            )
        return found

    def _take(self, *wanted: str) -> bool:
        if self._at < len(self._words) and self._words[self._at] in wanted:
            self._at += 1
            return True
        return False

    def _either(self) -> set[str]:
        found = self._both()
        while self._take("or", ","):
            found = found | self._both()
        return found

    def _both(self) -> set[str]:
        found = self._not()
        while self._take("and"):
            found = found & self._not()
        return found

    def _not(self) -> set[str]:
        if self._take("not"):
            self._depth += 1
            if self._depth > 50:
                raise ValueError(f"host expression {self._text[:40]!r}… is nested too deeply")
            return {host.name for host in self._inventory.hosts} - self._not()
        return self._word()

    def _word(self) -> set[str]:
        if self._take("("):
            self._depth += 1
            if self._depth > 50:
                raise ValueError(f"host expression {self._text[:40]!r}… is nested too deeply")
            found = self._either()
            if not self._take(")"):
                raise ValueError(f"a `)` is missing in host expression {self._text!r}")
            return found
        if self._at >= len(self._words):
            raise ValueError(f"host expression {self._text!r} ends too early")
        word = self._words[self._at]
        if word in {")", "and", "or", ","}:
            raise ValueError(f"{word!r} was not expected in host expression {self._text!r}")
        self._at += 1
        return self._meaning(word)

    def _meaning(self, word: str) -> set[str]:
        if word == "all":
            return {host.name for host in self._inventory.hosts}
        qualified = _QUALIFIED.fullmatch(word)
        if qualified and qualified[1] not in _FIELDS:
            raise ValueError(f"{word!r}: hosts are chosen by site, role, group or name")
        fields = (_FIELDS[qualified[1]],) if qualified else tuple(_FIELDS.values())
        pattern = qualified[2] if qualified else word
        found = {
            host.name
            for host in self._inventory.hosts
            if any(fnmatchcase(value, pattern) for f in fields for value in _values(host, f))
        }
        known = {site.name for site in self._inventory.sites} if "site" in fields else set()
        if not found and pattern not in known:
            raise ValueError(
                f"{word!r} is no host, site, role or group of the inventory"
                f"{self._near(pattern, fields)}"
            )
        return found

    def _near(self, word: str, fields: tuple[str, ...]) -> str:
        known = {v for host in self._inventory.hosts for f in fields for v in _values(host, f)}
        close = difflib.get_close_matches(word, sorted(known), n=1)
        return f"; did you mean {close[0]!r}?" if close else ""


def _values(host: Host, field: str) -> Iterator[str]:
    value = getattr(host, field)
    if isinstance(value, str):
        yield value
    else:
        yield from value
